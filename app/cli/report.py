"""`breakeven report …`: sums over the ledger, proved before they are shown."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.output import AsJson, write_json, write_table
from app.domain.ledger.period import read_period, read_range
from app.domain.ledger.report import CostReport
from app.flows.report_rows import as_plain, csv_text, hosting_table, table
from app.flows.reports import cost_report, query_of

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Sum up the ledger.")


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@app.callback()
def report() -> None:
    """Sum up the ledger."""


@app.command(
    help="Requests, tokens, times and charges, grouped; the lines sum to the ledger to the last nanodollar. "
    "Percentiles are read from buckets that are 10 % wide."
)
def cost(
    by: Annotated[
        str, typer.Option(help="team, cost_centre, key, model, target, hosting, day, hour; several with commas.")
    ] = "team,target",
    first: Annotated[str | None, typer.Option("--from", help="2026-11, 2026-11-23, today, 7d … (UTC)")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last period, included.")] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            help="As the books were at the end of a day (2026-11-23, yesterday …) or at a moment "
            "(2026-11-23T14:05:30Z), whatever was booked or corrected since.",
        ),
    ] = None,
    format: Annotated[Format, typer.Option(help="For people, programs or spreadsheets.")] = Format.TABLE,
    json: AsJson = False,
) -> None:
    async def read(rooms: Office) -> CostReport:
        now = datetime.fromtimestamp(rooms.clock.unix_us() / 1_000_000, UTC)
        then = None if as_of is None else _moment(as_of, now=now)
        query = query_of(period=read_range(first=first, last=last, now=now), by=by, as_of=then)
        return await cost_report(rooms.reports, query)

    result = in_office(read)
    if json or format is Format.JSON:
        write_json(as_plain(result))
    elif format is Format.CSV:
        print(csv_text(result), end="")
    else:
        write_report(result)


def _moment(text: str, *, now: datetime) -> datetime:
    """An aware moment as it is written, or the end of a period. Raises BadRequest."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is not None and moment.tzinfo is not None:
        return moment
    return read_period(text, now=now, param="as-of").until


def write_report(result: CostReport) -> None:
    """The report as tables: the groups asked for, then self-hosted against managed."""
    lines, hosting = table(result), hosting_table(result)
    period = f"{result.query.since:%Y-%m-%d %H:%M} to {result.query.until:%Y-%m-%d %H:%M} UTC"
    if result.query.as_of is not None:
        period = f"{period}, as the books were at {result.query.as_of:%Y-%m-%d %H:%M} UTC"
    write_table(head=lines.head, rows=lines.rows, total=lines.total, words=lines.groups, title=f"Cost, {period}")
    if result.lines and "hosting" not in lines.head:
        print()
        write_table(head=hosting.head, rows=hosting.rows, words=hosting.groups, title="Self-hosted and managed")
