from __future__ import annotations

import base64
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from app.console.page import CONTENT_POLICY, MOST_LINES
from tests.console.served import OPERATOR_KEY, Answer, Console, House, console
from tests.makers import REQUEST_ID, a_caller, a_receipt, an_attempt, some_facts
from tests.ports.adjustment_book_suite import a_correction

EVIL = "<script>alert('x')</script>\"&"


class Reader(HTMLParser):
    """What a browser makes of the page."""

    def __init__(self, page: Answer) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.styles = ""
        self._open: list[str] = []
        self.feed(page.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in {"td", "th", "style"}:
            self._open.append(tag)
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles += data
        elif self._open:
            self.cells[-1] += data


async def page(it: Console, query: str = "") -> Answer:
    basic = "Basic " + base64.b64encode(f"operator:{OPERATOR_KEY}".encode()).decode()
    return await it.get(f"/{query}", key=None, headers={"authorization": basic})


async def test_the_page_shows_what_it_cost_and_what_was_asked_last() -> None:
    house = House()
    await house.book(a_receipt())
    async with console(house) as it:
        answer = await page(it)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    cells = Reader(answer).cells
    for shown in (
        "research",
        "home",
        "self-hosted",
        "total",
        "0.0003962",
        REQUEST_ID,
        "complete",
        "2026-11-23T12:00:00.000Z",
    ):
        assert shown in cells


async def test_an_empty_ledger_is_an_empty_page_and_no_error() -> None:
    async with console() as it:
        answer = await page(it)
    assert answer.status == 200
    assert "total" in Reader(answer).cells


async def test_nothing_that_anybody_named_becomes_markup() -> None:
    house = House()
    facts = some_facts(model=EVIL, caller=a_caller(team=EVIL, cost_centre=EVIL))
    await house.book(a_receipt(an_attempt(target=EVIL), facts=facts, caller_label=EVIL))
    async with console(house) as it:
        shown = Reader(await page(it))
        asked = Reader(await page(it, "?by=team&from=%3Cscript%3E%22"))
    assert EVIL in shown.cells
    for reader in (shown, asked):
        assert set(reader.tags) <= {
            *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "form", "label", "input", "button"),
            *("div", "table", "thead", "tbody", "tfoot", "tr", "th", "td"),
        }


async def test_the_style_sheet_is_the_very_one_that_browsers_are_told_to_allow() -> None:
    async with console() as it:
        answer = await page(it)
    digest = base64.b64encode(sha256(Reader(answer).styles.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in CONTENT_POLICY
    assert answer.headers["content-security-policy"] == CONTENT_POLICY


async def test_the_form_chooses_period_and_grouping() -> None:
    house = House()
    await house.book(a_receipt())
    async with console(house) as it:
        by_model = Reader(await page(it, "?from=today&to=&by=model,cost-centre"))
        before = Reader(await page(it, "?from=2020&to=2020&by="))
    assert "cost centre" in by_model.cells
    assert "cc-1" in by_model.cells
    assert "research" not in before.cells[: before.cells.index("at")]


@pytest.mark.parametrize("query", ["?from=soon", "?by=request_id", "?from=&to=today", "?from=1926&to=2026&by="])
async def test_a_question_that_cannot_be_answered_is_a_sentence_on_the_page(query: str) -> None:
    async with console() as it:
        answer = await page(it, query)
    assert answer.status == 400
    assert b'<p class="bad">' in answer.body
    assert b"<form" in answer.body


async def test_while_postgres_is_away_the_page_says_so() -> None:
    async with console() as it:
        it.house.away()
        answer = await page(it)
    assert answer.status == 503
    assert b"Postgres does not answer" in answer.body


async def test_a_page_of_very_many_lines_is_cut_and_says_so() -> None:
    house = House()
    for number in range(MOST_LINES + 5):
        request_id = f"019ab000-0000-7000-8000-{number:012d}"
        facts = some_facts(request_id=request_id, caller=a_caller(team=f"team-{number}"))
        await house.book(a_receipt(an_attempt(attempt_id=f"{request_id}/1"), request_id=request_id, facts=facts))
    async with console(house) as it:
        answer = await page(it, "?by=team")
    assert f"The first {MOST_LINES} of {MOST_LINES + 5} lines.".encode() in answer.body
    assert answer.body.count(b">team-") <= MOST_LINES + 25


async def test_a_corrected_request_is_shown_with_what_it_costs_now() -> None:
    house = House()
    await house.book(a_receipt())
    await house.adjustments.adjust([a_correction(1, amount=-96_200, of=f"{REQUEST_ID}/1")])
    async with console(house) as it:
        answer = await page(it)
    latest = answer.body.decode().partition("Latest requests")[2]
    assert ">0.0003<" in latest
    assert "0.0003962" not in latest
