from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from app.domain.errors import PolicyInvalid
from app.storage.shelf import MOST_BYTES, MOST_FILE_BYTES, MOST_FILES, PolicyShelf


def refused(directory: Path) -> list[tuple[str, str]]:
    """File and code of every finding."""
    with pytest.raises(PolicyInvalid) as caught:
        PolicyShelf(directory).read()
    return [(finding.file, finding.code) for finding in caught.value.findings]


def a_config_map(directory: Path, *, version: str, text: str) -> None:
    """Files as the kubelet lays them out: names are links into `..data`, a link to a directory that is swapped."""
    (directory / version).mkdir()
    (directory / version / "a.yaml").write_text(text)
    (directory / "..data_tmp").symlink_to(version)
    (directory / "..data_tmp").replace(directory / "..data")
    if not (directory / "a.yaml").is_symlink():
        (directory / "a.yaml").symlink_to("..data/a.yaml")


def test_every_yaml_file_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", ".hidden.yaml", "notes.txt"):
        (tmp_path / name).write_text(name)
    assert list(PolicyShelf(tmp_path).read().items()) == [("a.yaml", "a.yaml"), ("b.yaml", "b.yaml")]


def test_an_edit_is_seen_at_the_next_read(tmp_path: Path) -> None:
    shelf, file = PolicyShelf(tmp_path), tmp_path / "a.yaml"
    file.write_text("old")
    shelf.read()
    file.write_text("new")
    assert shelf.read() == {"a.yaml": "new"}


def test_a_look_stays_the_same_while_nothing_changes_and_beside_files_that_are_not_ours(tmp_path: Path) -> None:
    shelf = PolicyShelf(tmp_path)
    (tmp_path / "a.yaml").write_text("a")
    before = shelf.look()
    (tmp_path / ".a.yaml.swp").write_text("an editor's")
    (tmp_path / "a.yaml~").write_text("an editor's")
    assert shelf.look() == before


def test_every_way_to_change_a_file_changes_the_look(tmp_path: Path) -> None:
    shelf, file = PolicyShelf(tmp_path), tmp_path / "a.yaml"
    looks = [shelf.look()]
    file.write_text("new")
    looks.append(shelf.look())
    file.write_text("longer")
    looks.append(shelf.look())
    (tmp_path / ".tmp").write_text("nother")
    shutil.copystat(file, tmp_path / ".tmp")
    (tmp_path / ".tmp").replace(file)
    looks.append(shelf.look())
    file.rename(tmp_path / "b.yaml")
    looks.append(shelf.look())
    (tmp_path / "b.yaml").unlink()
    looks.append(shelf.look())
    tmp_path.rmdir()
    looks.append(shelf.look())
    assert all(before != after for before, after in pairwise(looks))


def test_a_swapped_link_changes_the_look_and_the_text(tmp_path: Path) -> None:
    shelf = PolicyShelf(tmp_path)
    a_config_map(tmp_path, version="..1", text="old")
    before = shelf.look()
    assert shelf.read() == {"a.yaml": "old"}
    a_config_map(tmp_path, version="..2", text="new")
    assert shelf.look() != before
    assert shelf.read() == {"a.yaml": "new"}


def test_an_empty_shelf_says_where_policies_come_from(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(PolicyInvalid, match=r"there are no \*\.yaml files in .*BREAKEVEN_POLICIES"):
            PolicyShelf(directory).read()


def test_bytes_that_are_no_text_pass_for_the_compiler_to_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"ok: \xff")
    assert PolicyShelf(tmp_path).read() == {"a.yaml": "ok: \udcff"}


def test_a_file_that_is_far_too_large_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(100 << 30)
    assert refused(tmp_path) == [("a.yaml", "too-large")]
    file.write_bytes(b"#" * MOST_FILE_BYTES)
    assert len(PolicyShelf(tmp_path).read()["a.yaml"]) == MOST_FILE_BYTES


def test_files_that_are_too_large_together_are_refused(tmp_path: Path) -> None:
    for number in range(MOST_BYTES // MOST_FILE_BYTES + 1):
        (tmp_path / f"{number}.yaml").write_bytes(b"#" * MOST_FILE_BYTES)
    assert refused(tmp_path) == [("4.yaml", "too-large")]


def test_everything_that_cannot_be_read_is_told_at_once_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("a: 1")
    (tmp_path / "directory.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to("nowhere")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "bell\a.yaml").write_text("a: 1")
    assert refused(tmp_path) == [
        ("bell\\x07.yaml", "unreadable"),
        ("directory.yaml", "unreadable"),
        ("link.yaml", "unreadable"),
        ("loop.yaml", "unreadable"),
        ("pipe.yaml", "unreadable"),
    ]


def test_a_refused_read_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "directory.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    refused(tmp_path)
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(10):
        refused(tmp_path)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1")
    (tmp_path / "a.yaml").chmod(0)
    assert refused(tmp_path) == [("a.yaml", "unreadable")]


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policies").write_text("a: 1")
    assert refused(tmp_path / "policies") == [(str(tmp_path / "policies"), "unreadable")]
    assert PolicyShelf(tmp_path / "policies").look() == PolicyShelf(tmp_path / "policies").look()


def test_more_files_than_anybody_keeps_are_refused(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 1):
        (tmp_path / f"{number}.yaml").touch()
    assert refused(tmp_path) == [(str(tmp_path), "too-many")]


def test_the_author_of_a_directory_outside_version_control_is_a_files_owner(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1")
    assert PolicyShelf(tmp_path).author() not in {"", "unknown"}
    assert PolicyShelf(tmp_path / "nowhere").author() == "unknown"
