"""Periods as people write them: `2026-11`, `2026-11-23`, `2026-11-23T14`, `today`, `7d`, `last-month`. All in UTC."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from app.domain.errors import BadRequest

#: Reports go back this many days at most: ten years.
MOST_DAYS: Final = 3660
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_WRITTEN: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d))?)?)?", re.ASCII)
_BACK: Final = re.compile(r"([1-9]\d{0,4})([dh])", re.ASCII)
_FORMS: Final = "2026, 2026-11, 2026-11-23, 2026-11-23T14, today, yesterday, this-month, last-month, 7d or 24h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `since` (inclusive) to `until` (exclusive), aware, in UTC, whole hours."""

    since: datetime
    until: datetime


def read_period(text: str, *, now: datetime, param: str = "period") -> Period:
    """The period that a word names. `7d` is today and the six days before it, `24h` this hour and the 23 before.

    `now` is aware. Raises BadRequest saying which forms there are; `param` is the field it names.
    """
    word = text.strip().lower()
    now = now.astimezone(UTC)
    if word in _NAMED:
        return _NAMED[word](now)
    written = _WRITTEN.fullmatch(text.strip().upper())
    if written is not None:
        return _written(text, *(None if part is None else int(part) for part in written.groups()), param=param)
    back = _BACK.fullmatch(word)
    if back is not None:
        return _back(text, count=int(back[1]), unit=back[2], now=now, param=param)
    raise BadRequest(f"{_quoted(text)} is no period: write {_FORMS}", param=param)


def read_range(*, first: str | None, last: str | None, now: datetime) -> Period:
    """From the beginning of the period `first` to the end of the period `last`, both included.

    Without `last`: until the end of today. Without both: this month. Raises BadRequest.
    """
    if first is None and last is not None:
        raise BadRequest("the period has an end and no beginning: say from when, too", param="from")
    since = read_period(first or "this-month", now=now, param="from")
    until = since if last is None else read_period(last, now=now, param="to")
    end = max(until.until, _day(now.astimezone(UTC)) + _DAY) if last is None else until.until
    if since.since >= end:
        raise BadRequest(
            f"the period ends ({end:%Y-%m-%dT%HZ}) before it begins ({since.since:%Y-%m-%dT%HZ})", param="to"
        )
    if end - since.since > MOST_DAYS * _DAY:
        raise BadRequest(f"a report covers at most {MOST_DAYS} days: ask for a shorter period", param="from")
    return Period(since=since.since, until=end)


def _written(
    text: str, year: int | None, month: int | None, day: int | None, hour: int | None, *, param: str
) -> Period:
    assert year is not None, "the pattern demands a year"
    try:
        first_month, first_day = (1 if part is None else part for part in (month, day))
        since = datetime(year, first_month, first_day, hour or 0, tzinfo=UTC)
        if hour is not None:
            return Period(since=since, until=since + _HOUR)
        if day is not None:
            return Period(since=since, until=since + _DAY)
        if month is not None:
            return Period(since=since, until=_next_month(since))
        return Period(since=since, until=since.replace(year=year + 1))
    except (ValueError, OverflowError) as fault:
        raise BadRequest(f"{_quoted(text)} is not in the calendar: write {_FORMS}", param=param) from fault


def _back(text: str, *, count: int, unit: str, now: datetime, param: str) -> Period:
    if (count if unit == "d" else count / 24) > MOST_DAYS:
        raise BadRequest(f"{_quoted(text)} is too long: a report covers at most {MOST_DAYS} days", param=param)
    if unit == "d":
        until = _day(now) + _DAY
        return Period(since=until - count * _DAY, until=until)
    until = now.replace(minute=0, second=0, microsecond=0) + _HOUR
    return Period(since=until - count * _HOUR, until=until)


def _day(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _month(moment: datetime) -> datetime:
    return _day(moment).replace(day=1)


def _next_month(first: datetime) -> datetime:
    return _month(first + 31 * _DAY)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


_NAMED: Final[Mapping[str, Callable[[datetime], Period]]] = {
    "today": lambda now: Period(since=_day(now), until=_day(now) + _DAY),
    "yesterday": lambda now: Period(since=_day(now) - _DAY, until=_day(now)),
    "this-month": lambda now: Period(since=_month(now), until=_next_month(_month(now))),
    "last-month": lambda now: Period(since=_month(_month(now) - _DAY), until=_month(now)),
}
