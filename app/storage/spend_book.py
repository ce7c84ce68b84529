"""What was spent of a budget, read from the books: roll-ups where a period holds whole ones, attempts at its edges.

Hours and days of roll-ups are UTC. A period that begins in a timezone of whole hours holds whole hours; of one that is
30 or 45 minutes off, the first and the last hour are read attempt by attempt. By key the roll-ups are whole days, so
there up to a day at each end is.
"""
# ruff: noqa: S608  (what is put together here is our own columns)

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.domain.budget import Budget
from app.domain.money import Nanodollars
from app.storage.engine import Database

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

#: $1 and $2 the period, $3 and $4 the whole steps within it, then what the budget is of; null does not narrow.
_OF = """
    ($5::text is null or team = $5) and ($6::text is null or cost_centre = $6)
    and ($7::text is null or model = $7) and ($8::text is null or key_id = $8)
"""
_EDGES = f"""
    select coalesce(sum(charge), 0) from attempt
     where ((at >= $1 and at < $3) or (at >= $4 and at < $2)) and {_OF}
"""
_BY_HOUR = f"""
select (({_EDGES}) + (
    select coalesce(sum(charge), 0) from usage_hour
     where hour >= $3 and hour < $4 and {_OF.replace("key_id = $8", "false")}
))::bigint
"""
_BY_KEY = f"""
select (({_EDGES}) + (
    select coalesce(sum(charge), 0) from usage_day_key
     where day >= ($3::timestamptz at time zone 'UTC')::date and day < ($4::timestamptz at time zone 'UTC')::date
       and {_OF}
))::bigint
"""


class PostgresSpendBook:
    """`ports.SpendBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def spent(self, budget: Budget, *, begin: datetime, end: datetime) -> Nanodollars:
        """All that is booked for the budget from `begin` until before `end`, copies for shadows included."""
        by_key = budget.key is not None
        first, last = _whole(begin, end, step=_DAY if by_key else _HOUR)
        whose = (budget.team, budget.cost_centre, budget.model, budget.key)
        async with self._database.connection() as connection:
            spent = await connection.fetchval(_BY_KEY if by_key else _BY_HOUR, begin, end, first, last, *whose)
        return Nanodollars(spent)


def _whole(begin: datetime, end: datetime, *, step: timedelta) -> tuple[datetime, datetime]:
    """The first and the last border of a whole step within the period; where there is none, its end twice."""
    first = _floor(begin + step - timedelta(microseconds=1), step=step)
    last = _floor(end, step=step)
    return (first, last) if first <= last else (end, end)


def _floor(moment: datetime, *, step: timedelta) -> datetime:
    in_utc = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return in_utc.replace(hour=0) if step == _DAY else in_utc
