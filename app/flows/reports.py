"""The cost report: asked in words, read from the books, proved before it is shown."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from app.domain.errors import BadRequest
from app.domain.ledger.period import Period
from app.domain.ledger.report import CostQuery, CostReport, Dimension, checked, compiled
from app.ports import ReportBook

#: Grouped by the hour a report covers at most a quarter; by the day there are few enough lines for years.
MOST_HOURLY: Final = timedelta(days=92)
MOST_LINES: Final = 100_000


async def cost_report(book: ReportBook, query: CostQuery) -> CostReport:
    """The report, its lines adding up to the ledger to the last nanodollar.

    Raises BadRequest for a query that the books cannot answer, BooksAway, and BooksDisagree rather than show a sum
    that is not proved.
    """
    try:
        checked(query)
    except ValueError as fault:
        raise BadRequest(str(fault), param="by") from fault
    if Dimension.HOUR in query.by and query.until - query.since > MOST_HOURLY:
        raise BadRequest(
            f"by the hour a report covers at most {MOST_HOURLY.days} days: shorten the period or group by day",
            param="by",
        )
    books = await book.read(query)
    if len(books.lines) > MOST_LINES:
        raise BadRequest(
            f"this report has {len(books.lines)} lines, over {MOST_LINES}: shorten the period or group by less",
            param="by",
        )
    return compiled(query=query, lines=books.lines, by_hosting=books.by_hosting, ledger_charge=books.ledger_charge)


def query_of(
    *, period: Period, by: str, cost_centres: frozenset[str] | None = None, as_of: datetime | None = None
) -> CostQuery:
    """The query for `by`, names of dimensions with commas between them; "" is the whole in one line.

    Raises BadRequest naming what may be grouped by.
    """
    names = [name.strip().replace("-", "_") for name in by.split(",") if name.strip()]
    known = [dimension.value for dimension in Dimension]
    for name in names:
        if name not in known:
            raise BadRequest(f"cannot group by {name[:40]!r}: choose among {', '.join(known)}", param="by")
    if len(set(names)) != len(names):
        raise BadRequest("each thing to group by is named once", param="by")
    return CostQuery(
        since=period.since,
        until=period.until,
        by=tuple(Dimension(name) for name in names),
        cost_centres=cost_centres,
        as_of=as_of,
    )
