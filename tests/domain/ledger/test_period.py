from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import BadRequest
from app.domain.ledger.period import MOST_DAYS, Period, read_period, read_range

NOW = datetime(2026, 11, 23, 14, 35, 12, tzinfo=UTC)


def span(since: str, until: str) -> Period:
    return Period(since=datetime.fromisoformat(f"{since}+00:00"), until=datetime.fromisoformat(f"{until}+00:00"))


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2026", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("2026-11", "2026-11-01T00:00", "2026-12-01T00:00"),
        ("2026-12", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("2028-02", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("2026-11-23", "2026-11-23T00:00", "2026-11-24T00:00"),
        ("2026-11-23T14", "2026-11-23T14:00", "2026-11-23T15:00"),
        ("2026-11-23t23", "2026-11-23T23:00", "2026-11-24T00:00"),
        ("today", "2026-11-23T00:00", "2026-11-24T00:00"),
        (" Today ", "2026-11-23T00:00", "2026-11-24T00:00"),
        ("yesterday", "2026-11-22T00:00", "2026-11-23T00:00"),
        ("this-month", "2026-11-01T00:00", "2026-12-01T00:00"),
        ("last-month", "2026-10-01T00:00", "2026-11-01T00:00"),
        ("1d", "2026-11-23T00:00", "2026-11-24T00:00"),
        ("7d", "2026-11-17T00:00", "2026-11-24T00:00"),
        ("24h", "2026-11-22T15:00", "2026-11-23T15:00"),
    ],
)
def test_a_period_means_what_people_mean_by_it(text: str, since: str, until: str) -> None:
    assert read_period(text, now=NOW) == span(since, until)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "0d", "-7d", "7w", "7", "20261123", "2026-13", "2026-00", "2026-11-00", "2026-02-30", "0000"),
        *("2026-11-23T24", "9999", "9999-12", "99999d", "2026-11-23T14:30", "٢٠٢٦", "x" * 5000),
        "2026-11'; drop table receipt;--",
    ],
)
def test_what_is_no_period_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_period(text, now=NOW, param="from")
    assert caught.value.param == "from"
    assert len(str(caught.value)) < 300


@given(st.text(max_size=30))
def test_no_text_makes_the_reader_fail_otherwise(text: str) -> None:
    try:
        period = read_period(text, now=NOW)
    except BadRequest:
        return
    assert period.since < period.until


@given(st.integers(946_684_800, 4_102_444_800), st.integers(-14, 14))
def test_days_are_days_in_utc_wherever_the_asker_is(unix_s: int, offset_h: int) -> None:
    now = datetime.fromtimestamp(unix_s, UTC)
    elsewhere = now.astimezone(timezone(timedelta(hours=offset_h)))
    for text in ("today", "yesterday", "this-month", "last-month", "7d", "24h"):
        period = read_period(text, now=elsewhere)
        assert period == read_period(text, now=now)
        assert period.since < period.until
    assert read_period("today", now=now).since <= now < read_period("today", now=now).until


def test_without_any_word_the_range_is_this_month() -> None:
    assert read_range(first=None, last=None, now=NOW) == span("2026-11-01T00:00", "2026-12-01T00:00")


def test_a_beginning_alone_reaches_to_the_end_of_today() -> None:
    assert read_range(first="2026-10", last=None, now=NOW) == span("2026-10-01T00:00", "2026-11-24T00:00")


def test_the_last_period_is_included() -> None:
    assert read_range(first="2026-09", last="2026-10", now=NOW) == span("2026-09-01T00:00", "2026-11-01T00:00")
    assert read_range(first="yesterday", last="yesterday", now=NOW) == span("2026-11-22T00:00", "2026-11-23T00:00")


def test_an_end_without_a_beginning_is_refused() -> None:
    with pytest.raises(BadRequest, match="from when") as caught:
        read_range(first=None, last="today", now=NOW)
    assert caught.value.param == "from"


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(BadRequest, match="before it begins") as caught:
        read_range(first="today", last="2026-10", now=NOW)
    assert caught.value.param == "to"


def test_a_hundred_years_are_refused() -> None:
    with pytest.raises(BadRequest, match=str(MOST_DAYS)):
        read_range(first="1926", last="2026", now=NOW)
    with pytest.raises(BadRequest, match=str(MOST_DAYS)):
        read_range(first="36500d", last=None, now=NOW)
