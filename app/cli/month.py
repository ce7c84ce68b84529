"""`breakeven month …`: months of the ledger end, and stay as they were."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.output import AsJson, note, write_json, write_table
from app.domain.ledger.month import ClosedMonth, Month, MonthsSeen
from app.domain.money import Nanodollars, shown
from app.flows.month_close import MonthClosed, MonthVerified, close_month, verify_months

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Close months of the ledger, and prove that closed ones never changed.",
)

_SHORT = 16


@app.command(help="Close a month that is over: nothing is booked into it any more, and its digest is kept.")
def close(
    month: Annotated[str, typer.Argument(help="Such as 2026-11; months end in UTC.")],
    by: Annotated[str | None, typer.Option(help="Who closes it; this user where nobody is named.")] = None,
    json: AsJson = False,
) -> None:
    who = by or os.environ.get("USER") or f"user {os.getuid()}"

    async def act(rooms: Office) -> MonthClosed:
        return await close_month(rooms.months, Month.read(month), by=who)

    result = in_office(act)
    if result.unfinished:
        note(
            f"{result.unfinished} processes keep money of budgets of {month}: what they have not booked yet will count "
            "for a later month"
        )
    if json:
        write_json({**month_view(result.closed), "unfinished_processes": result.unfinished})
        return
    _write_parts(result.closed)


@app.command("list", help="Which months are closed, oldest first.")
def list_all(json: AsJson = False) -> None:
    async def read(rooms: Office) -> MonthsSeen:
        return await rooms.months.seen()

    seen = in_office(read)
    unsummed = [str(month) for month in seen.sealed if month not in {each.month for each in seen.closed}]
    if json:
        write_json({"closed": [month_view(each) for each in seen.closed], "sealed_but_not_added_up": unsummed})
        return
    rows = [
        (str(each.month), each.digest[:_SHORT], *(str(part.rows) for part in each.parts), _charged(each))
        for each in seen.closed
    ]
    write_table(
        head=("month", "digest", "receipts", "attempts", "adjustments", "postings", "charged"), rows=rows, words=2
    )
    for month in unsummed:
        note(f"{month} is sealed but not added up yet: `breakeven month close {month}` goes on")


@app.command(help="Add closed months up again and compare; fails if anything differs.")
def verify(
    month: Annotated[str | None, typer.Argument(help="One month; all closed ones where none is named.")] = None,
    json: AsJson = False,
) -> None:
    async def read(rooms: Office) -> tuple[MonthVerified, ...]:
        return await verify_months(rooms.months, None if month is None else Month.read(month))

    results = in_office(read)
    if json:
        write_json([{**month_view(each.closed), "faults": list(each.faults)} for each in results])
    else:
        for each in results:
            rows = sum(part.rows for part in each.closed.parts)
            print(f"{each.closed.month}: {'DIFFERS' if each.faults else 'as it was'}, {rows} rows")
        if not results:
            print("no month is closed yet")
    for fault in (fault for each in results for fault in each.faults):
        note(fault)
    if any(each.faults for each in results):
        raise typer.Exit(1)


def month_view(closed: ClosedMonth) -> dict[str, object]:
    """A closed month as a JSON-ready mapping; amounts in nanodollars."""
    return {
        "month": str(closed.month),
        "digest": closed.digest,
        "previous": closed.previous,
        "parts": [
            {"name": part.name, "rows": part.rows, "amount_nanodollars": part.amount, "digest": part.digest}
            for part in closed.parts
        ],
    }


def _write_parts(closed: ClosedMonth) -> None:
    rows = [
        (part.name, part.digest[:_SHORT], str(part.rows), f"{shown(Nanodollars(part.amount))} USD")
        for part in closed.parts
    ]
    write_table(head=("of", "digest", "rows", "sum"), rows=rows, words=2, title=f"{closed.month}, {closed.digest}")


def _charged(closed: ClosedMonth) -> str:
    amounts = {part.name: part.amount for part in closed.parts}
    return f"{shown(Nanodollars(amounts['attempts'] + amounts['adjustments']))} USD"
