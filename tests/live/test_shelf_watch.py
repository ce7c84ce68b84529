from __future__ import annotations

from app.live.shelf_watch import LOOK_EVERY_S, READ_EVERY_S, ShelfWatch


def read_first(watch: ShelfWatch, look: object) -> None:
    """The files as they were at the start were read."""
    watch.saw(look, at_s=0)
    assert watch.saw(look, at_s=LOOK_EVERY_S)
    watch.took(look, at_s=LOOK_EVERY_S)


def test_nothing_is_read_before_two_looks_in_a_row_are_alike() -> None:
    watch = ShelfWatch()
    assert [watch.saw(look, at_s=place) for place, look in enumerate("abcc")] == [False, False, False, True]


def test_what_looks_the_same_is_read_now_and_then_all_the_same() -> None:
    watch = ShelfWatch()
    read_first(watch, "a")
    assert not watch.saw("a", at_s=1)
    assert watch.saw("a", at_s=LOOK_EVERY_S + READ_EVERY_S)


def test_a_change_is_read_two_looks_later_however_lately_the_files_were_read() -> None:
    watch = ShelfWatch()
    read_first(watch, "a")
    assert not watch.saw("b", at_s=2 * LOOK_EVERY_S)
    assert watch.saw("b", at_s=3 * LOOK_EVERY_S)


def test_files_that_change_while_they_are_read_must_be_quiet_anew() -> None:
    watch = ShelfWatch()
    watch.saw("a", at_s=0)
    assert watch.saw("a", at_s=1)
    watch.torn("b")
    assert not watch.saw("c", at_s=2)
    assert watch.saw("c", at_s=3)


def test_an_offer_that_is_not_valid_is_read_once_more_before_it_is_refused() -> None:
    watch = ShelfWatch()
    read_first(watch, "a")
    watch.saw("b", at_s=1)
    assert watch.saw("b", at_s=2)
    assert watch.doubts("half")
    assert watch.saw("b", at_s=3), "read again at the very next look"
    assert watch.doubts("another half"), "the doubt is about one text"
    assert not watch.doubts("another half")


def test_a_doubt_does_not_outlive_what_came_after_it() -> None:
    watch = ShelfWatch()
    assert watch.doubts("half")
    watch.took("a", at_s=0)
    assert watch.doubts("half")
    watch.torn("b")
    assert watch.doubts("half")
