"""`app.domain.ledger.month`: which month may be closed, and what its digest holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from app.domain.errors import BadRequest
from app.domain.ledger.month import (
    NO_MONTH_BEFORE,
    ClosedMonth,
    Month,
    MonthPart,
    MonthsSeen,
    MonthStaysOpen,
    closed_month,
    faults,
    may_close,
)

SEPTEMBER, OCTOBER, NOVEMBER = (Month(year=2026, number=number) for number in (9, 10, 11))
NOW = datetime(2026, 11, 24, tzinfo=UTC)
PART = MonthPart(name="attempts", rows=3, amount=40, digest="ab")


def seen(*, first: Month | None = OCTOBER, sealed: tuple[Month, ...] = (), closed: int = 0) -> MonthsSeen:
    kept = tuple(closed_month(each, parts=(PART,), previous=NO_MONTH_BEFORE) for each in sealed[:closed])
    return MonthsSeen(now=NOW, first=first, sealed=sealed, closed=kept)


def test_a_month_is_written_as_it_is_read() -> None:
    assert str(Month.read(" 2026-11 ")) == "2026-11"
    assert Month.read("2026-12").next == Month.read("2027-01")
    assert Month.read("2026-12").end == datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "2026", "2026-13", "2026-00", "0000-01", "2026-11-01", "now", "٢٠٢٦-١١"])
def test_what_is_no_month_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(BadRequest, match="2026-11"):
        Month.read(text)


def test_a_moment_belongs_to_the_month_that_it_is_in_utc() -> None:
    assert Month.of(datetime(2026, 11, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))) == OCTOBER
    assert Month.of(date(2026, 11, 1)) == NOVEMBER


def test_the_first_month_with_facts_may_be_closed_and_then_the_next() -> None:
    may_close(OCTOBER, seen=seen())
    may_close(OCTOBER, seen=seen(first=SEPTEMBER, sealed=(SEPTEMBER,), closed=1))
    may_close(OCTOBER, seen=seen(first=None))


def test_a_close_that_stopped_half_way_may_go_on() -> None:
    may_close(OCTOBER, seen=seen(sealed=(OCTOBER,)))


@pytest.mark.parametrize(
    ("month", "world", "said"),
    [
        (NOVEMBER, seen(), "not over"),
        (OCTOBER, seen(first=SEPTEMBER), "close 2026-09 first"),
        (SEPTEMBER, seen(), "nothing was booked there"),
        (OCTOBER, seen(sealed=(OCTOBER,), closed=1), "closed already"),
        (OCTOBER, seen(sealed=(SEPTEMBER, OCTOBER)), "close 2026-09 first"),
    ],
)
def test_another_month_stays_open_and_says_why(month: Month, world: MonthsSeen, said: str) -> None:
    with pytest.raises(MonthStaysOpen, match=said):
        may_close(month, seen=world)


def a_close() -> ClosedMonth:
    return closed_month(OCTOBER, parts=(PART,), previous=NO_MONTH_BEFORE)


def test_a_month_that_is_as_it_was_has_no_faults() -> None:
    assert faults(a_close(), parts=(PART,), previous=NO_MONTH_BEFORE) == ()


@pytest.mark.parametrize("change", [{"rows": 4}, {"amount": 41}, {"digest": "ac"}])
def test_any_change_of_a_part_is_told(change: dict[str, object]) -> None:
    now = replace(PART, **change)  # type: ignore[arg-type]
    (fault,) = faults(a_close(), parts=(now,), previous=NO_MONTH_BEFORE)
    assert "2026-10: attempts were 3 rows" in fault


def test_another_month_before_and_an_altered_record_are_told() -> None:
    (fault,) = faults(a_close(), parts=(PART,), previous="1" * 64)
    assert "the month before" in fault
    forged = replace(a_close(), parts=(replace(PART, amount=1),))
    (fault,) = faults(forged, parts=forged.parts, previous=NO_MONTH_BEFORE)
    assert "altered" in fault


def test_the_digest_holds_the_month_its_parts_and_the_month_before() -> None:
    same = {
        closed_month(OCTOBER, parts=(PART,), previous=NO_MONTH_BEFORE).digest,
        closed_month(NOVEMBER, parts=(PART,), previous=NO_MONTH_BEFORE).digest,
        closed_month(OCTOBER, parts=(PART, PART), previous=NO_MONTH_BEFORE).digest,
        closed_month(OCTOBER, parts=(PART,), previous="1" * 64).digest,
    }
    assert len(same) == 4
