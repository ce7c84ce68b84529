"""`breakeven requests …`: single requests, read from the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.output import AsJson, write_json, write_labelled, write_table
from app.cli.receipt_text import receipt_table
from app.domain.errors import BadRequest
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.view import receipt_view
from app.domain.money import shown
from app.domain.usage import USAGE_SUSPECT
from app.flows.corrected_receipts import corrected_views

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="See single requests: where they went, why, and what they cost."
)

FOLLOW_EVERY_S = 1.0
MOST_AT_ONCE = 500

_HEAD = ("at", "id", "team", "model", "target", "outcome", "prompt", "output", "TTFT ms", "tokens/s", "charge USD")
_WORDS = 6
_SUSPECT_HEAD = (
    "at",
    "attempt",
    "team",
    "target",
    "kind",
    "what was wrong",
    "prompt",
    "cached",
    "output",
    "charge USD",
)
_SUSPECT_WORDS = 6


@app.command(help="The newest requests, oldest of them first, each with its id: the x-request-id of its answer.")
def tail(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=MOST_AT_ONCE, help="How many.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and show new ones as they come.")] = False,
    json: AsJson = False,
) -> None:
    async def read(rooms: Office) -> None:
        seen = await _show_newer(rooms, most=count, than=None, as_json=json)
        while follow:
            await asyncio.sleep(FOLLOW_EVERY_S)
            seen = await _show_newer(rooms, most=MOST_AT_ONCE, than=seen, as_json=json)

    in_office(read)


@app.command(help="One request in full: route, reasons, tokens, times, charge.")
def show(
    request_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The request's id: the header x-request-id of its answer, or `id` in `tail`."
        ),
    ],
    json: AsJson = False,
) -> None:
    async def read(rooms: Office) -> dict[str, object] | None:
        receipt = await rooms.ledger.find(request_id)
        return None if receipt is None else (await corrected_views([receipt], rooms.adjustments))[0]

    view = in_office(read)
    if view is None:
        raise BadRequest(
            f"the ledger has no request {request_id[:80]!r}: take the id from the header x-request-id, and give a new "
            "one a second to arrive",
            param="id",
        )
    if json:
        write_json(view)
    else:
        write_labelled(receipt_table(view))


@app.command(
    help="Requests whose usage cannot be true: clamped, flagged, and to be checked with whoever reported it. The id of "
    "the request is what stands before the / of an attempt."
)
def suspicious(
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=MOST_AT_ONCE, help="How many, the newest first.")
    ] = 50,
    days: Annotated[int, typer.Option("--days", min=1, max=3660, help="How far back to look.")] = 31,
    json: AsJson = False,
) -> None:
    async def read(rooms: Office) -> Sequence[Receipt]:
        since = datetime.fromtimestamp(rooms.clock.unix_us() / 1e6, UTC) - timedelta(days=days)
        return await rooms.suspects.suspicious(since=since, most=count)

    found = in_office(read)
    if json:
        write_json([receipt_view(receipt) for receipt in found])
        return
    rows = [row for receipt in found for row in _suspect_rows(receipt)]
    write_table(head=_SUSPECT_HEAD, rows=rows, words=_SUSPECT_WORDS)


async def _show_newer(rooms: Office, *, most: int, than: str | None, as_json: bool) -> str | None:
    """Show what is newer than `than`; the newest id seen. Ids sort by time."""
    latest = await rooms.ledger.latest(most=most)
    fresh = [receipt for receipt in reversed(latest) if than is None or receipt.request_id > than]
    views = await corrected_views(fresh, rooms.adjustments)
    if as_json:
        for view in views:
            write_json(view)
    elif fresh or than is None:
        write_table(head=_HEAD, rows=[_row(view) for view in views], words=_WORDS)
    return fresh[-1].request_id if fresh else than


def _row(view: dict[str, Any]) -> tuple[str, ...]:
    final = view["attempts"][-1] if view["attempts"] else None
    usage = final["usage"] if final else {"prompt_tokens": 0, "output_tokens": 0}
    return (
        str(view["at"]),
        str(view["id"]),
        str(view["team"]),
        str(view["model"]),
        str(view["target"] or "–"),
        str(view["outcome"]),
        f"{usage['prompt_tokens']:,}",
        f"{usage['output_tokens']:,}",
        _figure(final and final["ttft_ms"]),
        _figure(final and final["tokens_per_s"]),
        _charge(view),
    )


def _charge(view: dict[str, Any]) -> str:
    """What it costs as the books stand; where that was corrected, what it was."""
    now, first = str(view["corrected_charge_usd"]), str(view["charge_usd"])
    return f"{now} (was {first})" if view["adjustments"] else now


def _suspect_rows(receipt: Receipt) -> list[tuple[str, ...]]:
    """A row an attempt; its counts are those that were booked, after clamping."""
    return [
        (
            str(receipt_view(receipt)["at"]),
            attempt.attempt_id,
            receipt.facts.caller.team,
            attempt.target,
            attempt.kind,
            ", ".join(flag.removeprefix("usage_") for flag in attempt.flags if flag != USAGE_SUSPECT) or "suspect",
            f"{attempt.usage.prompt:,}",
            f"{attempt.usage.cached:,}",
            f"{attempt.usage.output:,}",
            shown(attempt.charge),
        )
        for attempt in receipt.attempts
        if USAGE_SUSPECT in attempt.flags
    ]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"
