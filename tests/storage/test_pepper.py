from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.domain.errors import SetupError
from app.storage.pepper import OperatorKeyFile, PepperFile, read_private, write_once

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "pepper"


def test_the_first_use_makes_a_private_pepper_and_the_second_reads_it(path: Path) -> None:
    first = PepperFile(path, random_bytes=os.urandom).open()
    second = PepperFile(path, random_bytes=os.urandom).open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert first.newest.version == 1
    assert first.newest.digest(b"key") == second.newest.digest(b"key")
    assert [each.name for each in path.parent.iterdir()] == ["pepper"], "no draft is left behind"


def test_two_installations_have_two_peppers(tmp_path: Path) -> None:
    one, other = (PepperFile(tmp_path / name, random_bytes=os.urandom).open().newest for name in ("one", "other"))
    assert one.digest(b"key") != other.digest(b"key")


def test_processes_that_race_for_the_first_use_all_get_the_same_pepper(path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from app.storage.pepper import PepperFile; sys.stdin.readline();"
        "print(PepperFile(Path(sys.argv[1]), random_bytes=os.urandom).open().newest.digest(b'key').hex())"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = {racer.communicate(timeout=60)[0] for racer in racers}
    assert len(said) == 1
    assert len(said.pop().strip()) == 64


def test_only_one_of_many_writers_is_told_that_the_file_is_its_own(path: Path) -> None:
    assert write_once(path, ["first"], random_bytes=os.urandom)
    assert not write_once(path, ["second"], random_bytes=os.urandom)
    assert read_private(path) == ("first",)
    assert [each.name for each in path.parent.iterdir()] == ["pepper"]


def test_a_line_added_by_hand_is_a_rotation(path: Path) -> None:
    before = PepperFile(path, random_bytes=os.urandom).open()
    path.write_text(path.read_text() + f"2 {'ab' * 32}\n")
    after = PepperFile(path, random_bytes=os.urandom).open()
    assert after.newest.version == 2
    assert after.by_version[1].digest(b"key") == before.newest.digest(b"key")


@pytest.mark.parametrize(
    "content",
    [
        *("", "\n", "1\n", "1 abc\n", f"0 {'a' * 64}\n", f"1 {'a' * 65}\n", f"1 {'A' * 64}\n", f"1 {'a' * 64} \n"),
        *(f"1 {'a' * 64}\n" * 2, "1 " + "é" * 64, f"1 {'a' * 130}"),
    ],
)
def test_a_damaged_pepper_is_never_replaced_in_silence(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(SetupError, match="backup"):
        PepperFile(path, random_bytes=os.urandom).open()
    assert path.read_text() == content


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_pepper_that_others_may_touch_is_refused_with_the_cure(path: Path, mode: int) -> None:
    PepperFile(path, random_bytes=os.urandom).open()
    path.chmod(mode)
    with pytest.raises(SetupError, match="chmod 600"):
        PepperFile(path, random_bytes=os.urandom).open()


def test_a_link_in_place_of_the_pepper_is_not_followed(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    PepperFile(elsewhere, random_bytes=os.urandom).open()
    path.parent.mkdir()
    path.symlink_to(elsewhere)
    with pytest.raises(SetupError, match="plain file"):
        PepperFile(path, random_bytes=os.urandom).open()


def test_a_directory_in_place_of_the_pepper_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SetupError, match="plain file"):
        PepperFile(path, random_bytes=os.urandom).open()


def test_a_place_where_no_file_can_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError):
        PepperFile(tmp_path / "file" / "pepper", random_bytes=os.urandom).open()
    with pytest.raises(SetupError, match="BREAKEVEN_DATA"):
        PepperFile(Path("/proc/breakeven/pepper"), random_bytes=os.urandom).open()


def test_an_operator_key_is_kept_once_and_read_back(tmp_path: Path) -> None:
    file = OperatorKeyFile(tmp_path / "operator_key", random_bytes=os.urandom)
    assert file.read() is None
    assert file.keep(b"d" * 32, pepper_version=3)
    assert not file.keep(b"e" * 32, pepper_version=3)
    assert file.read() == (b"d" * 32, 3)
    file.forget()
    file.forget()
    assert file.read() is None


def test_a_damaged_operator_key_names_its_cure(tmp_path: Path) -> None:
    path = tmp_path / "operator_key"
    path.write_text("nonsense\n")
    path.chmod(0o600)
    with pytest.raises(SetupError, match="remove it"):
        OperatorKeyFile(path, random_bytes=os.urandom).read()
