from __future__ import annotations

from pathlib import Path

import pytest

from app.domain.errors import SetupError
from app.storage.shelf import MOST_FILE_BYTES, MOST_FILES, PolicyShelf


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


def test_an_empty_shelf_says_where_policies_come_from(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="BREAKEVEN_POLICIES"):
        PolicyShelf(tmp_path).read()
    with pytest.raises(SetupError, match="BREAKEVEN_POLICIES"):
        PolicyShelf(tmp_path / "nowhere").read()


def test_what_cannot_be_text_of_a_policy_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match=r"a\.yaml is not UTF-8"):
        PolicyShelf(tmp_path).read()
    file.write_bytes(b"#" * (MOST_FILE_BYTES + 1))
    with pytest.raises(SetupError, match=r"a\.yaml is over 1 MiB"):
        PolicyShelf(tmp_path).read()


def test_a_directory_in_place_of_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(SetupError, match=r"a\.yaml cannot be read"):
        PolicyShelf(tmp_path).read()


def test_more_files_than_anybody_keeps_are_refused(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 1):
        (tmp_path / f"{number}.yaml").touch()
    with pytest.raises(SetupError, match="merge them"):
        PolicyShelf(tmp_path).read()
