"""The start page: what it cost and what was asked last, in tables. No script, nothing stored, everything escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, Response

from app.console.access import OperatorPage
from app.console.forms import PageForm
from app.console.rooms import ConsoleRooms
from app.domain.errors import BadRequest
from app.domain.ledger.period import read_range
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.report import BooksDisagree, CostReport
from app.domain.ledger.view import moment
from app.flows.corrected_receipts import corrected_views
from app.flows.report_rows import NOT_KNOWN, ReportTable, hosting_table, table
from app.flows.reports import cost_report, query_of
from app.ports import BooksAway

NEWEST: Final = 25
#: A page with more lines than this helps nobody; the CSV holds them all.
MOST_LINES: Final = 200

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#1c2430}"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}"
    "div{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid #d8dee6;text-align:right;white-space:nowrap}"
    "th{color:#5b6675;font-weight:600}.w{text-align:left}tfoot td{font-weight:600}"
    "input{font:inherit;width:10rem;margin-right:.7rem}.bad{color:#a3261b}code{color:#5b6675}"
)
#: What a browser may do with this page: apply this very style sheet and send the form back here.
CONTENT_POLICY: Final = (
    "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    f"style-src 'sha256-{base64.b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
)


def page_router(rooms: ConsoleRooms, operator: OperatorPage) -> APIRouter:
    """`/`."""
    router = APIRouter()

    @router.get("/", dependencies=[Depends(operator)])
    async def start(form: Annotated[PageForm, Query()]) -> Response:
        try:
            period = read_range(first=form.first or None, last=form.last or None, now=rooms.now())
            report = await cost_report(rooms.reports, query_of(period=period, by=form.by))
            newest = await rooms.ledger.latest(most=NEWEST)
            charges = [str(view["corrected_charge_usd"]) for view in await corrected_views(newest, rooms.adjustments)]
        except BadRequest as fault:
            return _page(form, f'<p class="bad">{escape(str(fault))}</p>', status=400)
        except BooksAway:
            sentence = "Postgres does not answer. Requests go on being served and are booked when it is back."
            return _page(form, f'<p class="bad">{sentence}</p>', status=503)
        except BooksDisagree as fault:
            return _page(form, f'<p class="bad">{escape(str(fault))}</p>', status=500)
        return _page(form, _cost(report) + _requests(newest, charges), status=200)

    return router


def _page(form: PageForm, content: str, *, status: int) -> Response:
    fields = "".join(
        f'<label>{name} <input name="{name}" value="{escape(value)}" placeholder="{hint}"></label>'
        for name, value, hint in (
            ("from", form.first, "this-month"),
            ("to", form.last, "today"),
            ("by", form.by, "team,target"),
        )
    )
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Breakeven</title><style>{_STYLE}</style>'
        f'</head><body><h1>Breakeven</h1><form method="get" action="/">{fields}<button>Show</button></form>'
        f"{content}</body></html>"
    )
    return HTMLResponse(text, status_code=status)


def _cost(report: CostReport) -> str:
    query, whole = report.query, table(report)
    cut = "" if len(whole.rows) <= MOST_LINES else f"<p>The first {MOST_LINES} of {len(whole.rows)} lines.</p>"
    return (
        f"<h2>Cost, {query.since:%Y-%m-%d %H:%M} to {query.until:%Y-%m-%d %H:%M} UTC</h2>{_table(whole)}{cut}"
        f"<h2>Self-hosted against managed</h2>{_table(hosting_table(report))}"
    )


def _requests(newest: Sequence[Receipt], charges: Sequence[str]) -> str:
    head = ("at", "request", "team", "model", "target", "outcome", "prompt", "output", "TTFT ms", "charge USD")
    rows = tuple(_request(receipt, charge) for receipt, charge in zip(newest, charges, strict=True))
    body = "".join(f"<tr>{_cells(row, words=6)}</tr>" for row in rows)
    table_head = f"<thead><tr>{_heads(head, words=6)}</tr></thead>"
    return f"<h2>Latest requests</h2><div><table>{table_head}<tbody>{body}</tbody></table></div>"


def _request(receipt: Receipt, charge: str) -> tuple[str, ...]:
    final = receipt.final
    ttft_s = None if final is None else final.ttft_s
    return (
        moment(receipt.at_us),
        receipt.request_id,
        receipt.facts.caller.team,
        receipt.facts.model,
        NOT_KNOWN if final is None else final.target,
        receipt.outcome.value,
        f"{sum(attempt.usage.prompt for attempt in receipt.attempts):,}",
        f"{sum(attempt.usage.output for attempt in receipt.attempts):,}",
        NOT_KNOWN if ttft_s is None else f"{1000 * ttft_s:.0f}",
        charge,
    )


def _table(shown_table: ReportTable) -> str:
    body = "".join(f"<tr>{_cells(row, words=shown_table.groups)}</tr>" for row in shown_table.rows[:MOST_LINES])
    foot = _cells(shown_table.total, words=shown_table.groups)
    head = _heads(shown_table.head, words=shown_table.groups)
    return (
        f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody><tfoot><tr>{foot}</tr></tfoot></table></div>"
    )


def _heads(texts: Sequence[str], *, words: int) -> str:
    return "".join(_cell("th", text, word=at < words) for at, text in enumerate(texts))


def _cells(texts: Sequence[str], *, words: int) -> str:
    return "".join(_cell("td", text, word=at < words) for at, text in enumerate(texts))


def _cell(tag: str, text: str, *, word: bool) -> str:
    """Words are on the left, figures on the right. Nothing enters the page but through this escape."""
    return f"<{tag}{' class=w' if word else ''}>{escape(text)}</{tag}>"
