"""Nodes remember where they stand."""

from __future__ import annotations

import pytest

from app.documents.page import Mark, Page, plain
from app.documents.source import read


def page_of(text: str) -> Page:
    page, findings = read(file="a.yaml", text=text)
    assert page is not None
    assert findings == ()
    return page


def test_a_value_a_key_and_an_item_know_their_place() -> None:
    page = page_of("a:\n  b: [1, {c: 2}]\n")
    assert page.mark(("a", "b")) == Mark(2, 6)
    assert page.key_mark(("a", "b")) == Mark(2, 3)
    assert page.mark(("a", "b", 1, "c")) == Mark(2, 14)
    assert page.key_mark(("a", "b", 1)) == Mark(2, 10)


def test_what_is_not_written_stands_where_its_nearest_parent_does() -> None:
    page = page_of("a:\n  b: 1\n")
    assert page.mark(("a", "x", "y")) == page.mark(("a",))
    assert page.node(("a", "x")) is None
    assert page.node(("a", 0)) is None
    assert page.mark(("x",)) == Mark(0, 0)


def test_plain_gives_ordinary_values() -> None:
    assert plain(page_of("a: [1, x, ~, {b: true}]").root) == {"a": [1, "x", None, {"b": True}]}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("when: one two HERE", 1, 15),
        ("when: 'one two HERE'", 1, 16),
        ('when: "one two HERE"', 1, 16),
        ("when: one\n  two HERE", 2, 7),
        ("when: 'one\n\n  two HERE'", 3, 7),
        ("when: |\n  one\n  two HERE", 3, 7),
        ("when: |-  # why\n\n  one\n  two HERE\n", 4, 7),
        ("when: >-\n  one two\n  HERE\n", 3, 3),
        ("when: >\n  one\n\n  two\n    HERE\n", 5, 5),
        ("a: {when: one two HERE}", 1, 19),
    ],
)
def test_a_character_of_a_text_is_found_on_the_page_in_every_style(text: str, line: int, column: int) -> None:
    page = page_of(text)
    path = ("a", "when") if text.startswith("a") else ("when",)
    value = plain(page.node(path))
    assert isinstance(value, str)
    assert page.mark_within(path, offset=value.index("HERE")) == Mark(line, column)


def test_past_the_last_character_is_just_behind_it() -> None:
    page = page_of("when: one two\n")
    assert page.mark_within(("when",), offset=7) == Mark(1, 14)
    assert page.mark_within(("when",), offset=3) == Mark(1, 10)


def test_text_with_escapes_is_told_where_it_begins() -> None:
    page = page_of('when: "a\\x20\\x62 HERE"\n')
    assert page.mark_within(("when",), offset=4) == Mark(1, 7)
    assert page_of("when: 'it''s HERE'").mark_within(("when",), offset=5) == Mark(1, 7)


def test_only_text_has_places_within() -> None:
    assert page_of("a: [1]").mark_within(("a",), offset=3) == Mark(1, 4)
