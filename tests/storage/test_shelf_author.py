from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from app.storage.shelf_author import author_of

ME = pwd.getpwuid(os.geteuid()).pw_name


def git(directory: Path, *words: str) -> None:
    identity = ("-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A directory of policies inside a work tree, all of it committed."""
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "a.yaml").write_text("a: 1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "policies")
    return policies


def author(directory: Path) -> str:
    return author_of(directory, files=sorted(directory.glob("*.yaml")))


def test_what_is_committed_was_written_by_the_author_of_the_last_commit(committed: Path) -> None:
    assert author(committed) == "Ada Lovelace"


def test_what_is_not_committed_was_written_by_the_files_owner(committed: Path) -> None:
    (committed / "b.yaml").write_text("b: 1")
    assert author(committed) == ME


def test_a_change_elsewhere_in_the_work_tree_does_not_matter(committed: Path) -> None:
    (committed.parent / "notes.txt").write_text("n")
    assert author(committed) == "Ada Lovelace"


def test_a_repository_that_names_a_program_does_not_get_it_run(committed: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    git(committed, "config", "core.fsmonitor", str(script))
    assert author(committed) == "Ada Lovelace"
    assert not ran.exists()


def test_without_version_control_the_owner_of_the_newest_file_wrote_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    for place, file in enumerate((old, new)):
        file.write_text("a: 1")
        os.utime(file, ns=(place, place))
    assert author_of(tmp_path, files=[old, new, tmp_path / "gone.yaml"]) == ME


def test_without_git_and_without_files_the_author_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert author_of(tmp_path, files=[]) == "unknown"


def test_a_git_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert author_of(tmp_path, files=[]) == "unknown"


def test_a_name_from_version_control_stands_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "git"
    odd.write_text("#!/bin/sh\ncase \"$*\" in *status*) ;; *) printf 'Ada\\033[31m\\n%01000d' 0;; esac\n")
    odd.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    name = author_of(tmp_path, files=[])
    assert name.isprintable()
    assert name.startswith("Ada [31m 000")
    assert len(name) == 200
