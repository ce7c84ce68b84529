from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.budget import Budget, BudgetSeen, Every, period
from app.domain.money import Nanodollars

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana")
]
MOMENTS = st.integers(1_420_000_000, 2_050_000_000).map(lambda at_s: datetime.fromtimestamp(at_s, UTC))


def hours(every: Every, *, at: datetime) -> float:
    begin, end = period(every, at=at)
    return (end.astimezone(UTC) - begin.astimezone(UTC)) / timedelta(hours=1)


@given(every=st.sampled_from(Every), moment=MOMENTS, zone=st.sampled_from(ZONES))
def test_a_moment_lies_in_its_period_and_the_next_begins_where_it_ends(
    every: Every, moment: datetime, zone: ZoneInfo
) -> None:
    begin, end = period(every, at=moment.astimezone(zone))
    assert begin.astimezone(UTC) <= moment < end.astimezone(UTC)
    assert period(every, at=end.astimezone(UTC).astimezone(zone))[0].astimezone(UTC) == end.astimezone(UTC)
    assert period(every, at=begin.astimezone(UTC).astimezone(zone))[0].astimezone(UTC) == begin.astimezone(UTC)


@pytest.mark.parametrize(
    ("at", "every", "begin", "end"),
    [
        (datetime(2026, 11, 23, 12, tzinfo=BERLIN), Every.DAY, date(2026, 11, 23), date(2026, 11, 24)),
        (datetime(2026, 11, 22, 23, 59, tzinfo=BERLIN), Every.WEEK, date(2026, 11, 16), date(2026, 11, 23)),
        (datetime(2026, 11, 23, 0, 0, tzinfo=BERLIN), Every.WEEK, date(2026, 11, 23), date(2026, 11, 30)),
        (datetime(2026, 12, 31, 23, 59, tzinfo=BERLIN), Every.MONTH, date(2026, 12, 1), date(2027, 1, 1)),
        (datetime(2028, 2, 29, 8, tzinfo=BERLIN), Every.MONTH, date(2028, 2, 1), date(2028, 3, 1)),
        (datetime(2027, 1, 31, 8, tzinfo=BERLIN), Every.MONTH, date(2027, 1, 1), date(2027, 2, 1)),
        (datetime(2027, 1, 1, 8, tzinfo=BERLIN), Every.WEEK, date(2026, 12, 28), date(2027, 1, 4)),
    ],
)
def test_periods_are_the_calendars(at: datetime, every: Every, begin: date, end: date) -> None:
    first, following = period(every, at=at)
    assert (first.date(), following.date()) == (begin, end)
    assert (first.hour, first.minute, first.tzinfo) == (0, 0, BERLIN)


def test_a_day_has_23_or_25_hours_when_the_clocks_change() -> None:
    assert hours(Every.DAY, at=datetime(2026, 3, 29, 12, tzinfo=BERLIN)) == 23
    assert hours(Every.DAY, at=datetime(2026, 10, 25, 12, tzinfo=BERLIN)) == 25
    assert hours(Every.WEEK, at=datetime(2026, 10, 25, 12, tzinfo=BERLIN)) == 169
    assert hours(Every.MONTH, at=datetime(2026, 3, 1, tzinfo=BERLIN)) == 31 * 24 - 1


def test_a_day_with_two_midnights_begins_at_the_first() -> None:
    havana = ZoneInfo("America/Havana")
    first = datetime(2026, 11, 1, 0, 30, tzinfo=havana)
    second = first.replace(fold=1)
    begin = datetime(2026, 11, 1, 4, tzinfo=UTC)
    assert period(Every.DAY, at=first)[0].astimezone(UTC) == begin
    assert period(Every.DAY, at=second)[0].astimezone(UTC) == begin
    assert hours(Every.DAY, at=second) == 25


def test_a_day_without_a_midnight_begins_at_its_first_moment() -> None:
    havana = ZoneInfo("America/Havana")
    at = datetime(2026, 3, 8, 12, tzinfo=havana)
    assert period(Every.DAY, at=at)[0].astimezone(UTC) == datetime(2026, 3, 8, 5, tzinfo=UTC)
    assert hours(Every.DAY, at=at) == 23


def test_a_moment_belongs_to_the_day_of_the_policys_timezone() -> None:
    late = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
    assert period(Every.MONTH, at=late)[0].month == 11
    assert period(Every.MONTH, at=late.astimezone(BERLIN))[0].month == 12


def a_budget(dollars: int, every: Every = Every.MONTH) -> Budget:
    return Budget(name="research", amount=Nanodollars(dollars * 1_000_000_000), every=every)


def test_a_budget_says_what_is_left_which_part_is_gone_and_for_how_many_days() -> None:
    at = datetime(2026, 11, 23, 12, tzinfo=BERLIN)
    seen = BudgetSeen.of(a_budget(500), spent=Nanodollars(125_000_000_000), at=at)
    assert seen == BudgetSeen(remaining_usd=375.0, used=0.25, days_left=8)


def test_an_overspent_budget_is_below_zero_and_above_one() -> None:
    seen = BudgetSeen.of(a_budget(10), spent=Nanodollars(15_000_000_000), at=datetime(2026, 11, 30, 23, tzinfo=UTC))
    assert seen == BudgetSeen(remaining_usd=-5.0, used=1.5, days_left=1)


def test_a_budget_of_nothing_is_used_up() -> None:
    seen = BudgetSeen.of(a_budget(0), spent=Nanodollars(0), at=datetime(2026, 11, 1, tzinfo=UTC))
    assert (seen.used, seen.remaining_usd, seen.days_left) == (1.0, 0.0, 30)


@given(moment=MOMENTS, zone=st.sampled_from(ZONES))
def test_the_last_day_counts(moment: datetime, zone: ZoneInfo) -> None:
    at = moment.astimezone(zone)
    for every, most in ((Every.DAY, 1), (Every.WEEK, 7), (Every.MONTH, 31)):
        assert 1 <= BudgetSeen.of(a_budget(1, every), spent=Nanodollars(0), at=at).days_left <= most
