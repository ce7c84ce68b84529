"""`app.domain.ledger.report.checked`: what the books can answer exactly, and what to ask instead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.domain.ledger.report import CostQuery, Dimension, checked

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MIDNIGHT = NOON.replace(hour=0)
DAY = timedelta(days=1)
INDIA = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    "query",
    [
        CostQuery(since=NOON, until=NOON),
        CostQuery(since=NOON, until=NOON + timedelta(hours=1), by=(Dimension.HOUR, Dimension.TEAM)),
        CostQuery(since=MIDNIGHT, until=MIDNIGHT + DAY, by=(Dimension.KEY, Dimension.DAY)),
        CostQuery(since=MIDNIGHT.astimezone(INDIA), until=(MIDNIGHT + DAY).astimezone(INDIA), by=(Dimension.KEY,)),
    ],
)
def test_whole_hours_can_be_asked_for_and_whole_utc_days_by_key(query: CostQuery) -> None:
    assert checked(query) is query


@pytest.mark.parametrize(
    ("query", "mend"),
    [
        (
            CostQuery(since=NOON + timedelta(minutes=1), until=NOON + DAY),
            "begin it at 2026-11-23T12:00:00+00:00 or at 2026-11-23T13:00:00",
        ),
        (
            CostQuery(since=NOON, until=NOON + timedelta(seconds=1)),
            "end it at 2026-11-23T12:00:00+00:00 or at 2026-11-23T13:00:00",
        ),
        (
            CostQuery(since=NOON, until=MIDNIGHT + DAY, by=(Dimension.KEY,)),
            "begin it at 2026-11-23T00:00:00+00:00 or at 2026-11-24T00:00:00",
        ),
        (CostQuery(since=datetime(2026, 11, 23, tzinfo=INDIA), until=NOON), "begin it at 2026-11-22T18:00:00+00:00"),
        (CostQuery(since=MIDNIGHT, until=MIDNIGHT + DAY, by=(Dimension.KEY, Dimension.HOUR)), "group by key and day"),
        (CostQuery(since=NOON.replace(tzinfo=None), until=NOON), "aware"),
        (CostQuery(since=NOON + DAY, until=NOON), "swap"),
    ],
)
def test_anything_else_is_refused_with_the_mend(query: CostQuery, mend: str) -> None:
    with pytest.raises(ValueError) as refused:
        checked(query)
    assert mend in str(refused.value)
