"""Secrets come from the environment or from files of one directory, by name, and an empty one is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.providers.credentials import NamedCredentials


def test_a_reference_is_resolved_at_each_call() -> None:
    environ = {"KEY": "first"}
    credentials = NamedCredentials(environ)
    assert credentials.secret("env:KEY") == "first"
    environ["KEY"] = "second"
    assert credentials.secret("env:KEY") == "second"
    del environ["KEY"]
    assert not credentials.is_present("env:KEY")


@pytest.mark.parametrize("reference", ["env:EMPTY", "env:BLANK", "env:MISSING", "env:", "KEY", "file:KEY", ""])
def test_what_is_empty_missing_or_of_another_kind_is_absent(reference: str) -> None:
    credentials = NamedCredentials({"EMPTY": "", "BLANK": " \n", "KEY": "secret"})
    assert credentials.secret(reference) is None
    assert not credentials.is_present(reference)


def test_blanks_around_a_variable_are_not_part_of_it() -> None:
    assert NamedCredentials({"KEY": " sk-1\n"}).secret("env:KEY") == "sk-1"


def test_a_file_is_read_at_each_call_without_its_line_end(tmp_path: Path) -> None:
    credentials = NamedCredentials({}, directory=tmp_path)
    assert not credentials.is_present("file:openai-key")
    (tmp_path / "openai-key").write_text("sk-1\n")
    assert credentials.secret("file:openai-key") == "sk-1"
    (tmp_path / "openai-key").write_bytes(b"sk-2\r\n")
    assert credentials.secret("file:openai-key") == "sk-2"
    (tmp_path / "openai-key").unlink()
    assert credentials.secret("file:openai-key") is None


def test_a_mounted_secret_behind_a_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "key").write_text("sk-3")
    (tmp_path / "key").symlink_to("..2026/key")
    assert NamedCredentials({}, directory=tmp_path).secret("file:key") == "sk-3"


@pytest.mark.parametrize("name", ["../outside", "..", ".", "", ".hidden", "below/key", "/absolute", "a\x00b", "key\n"])
def test_a_path_is_never_followed(name: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (inside / "below").mkdir(parents=True)
    for path in (tmp_path / "outside", inside / ".hidden", inside / "below" / "key", inside / "key"):
        path.write_text("secret")
    assert NamedCredentials({}, directory=inside).secret(f"file:{name}") is None
    assert NamedCredentials({}, directory=inside).secret(f"file:{tmp_path / 'outside'}") is None


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"caf\xc3\xa9", b"\xff", b"a\x00b", b"k" * 65_537])
def test_a_file_that_holds_no_key_is_an_absent_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    assert NamedCredentials({}, directory=tmp_path).secret("file:key") is None


def test_a_directory_in_the_place_of_the_file_is_an_absent_one(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    assert not NamedCredentials({}, directory=tmp_path).is_present("file:key")
