"""The commands over the books, on a real database.

They are `app.cli.books`, `app.cli.db`, `app.cli.key`, `app.cli.requests`, `app.cli.report`.
"""

from __future__ import annotations

import asyncio
import csv
import io
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.keys import KeyKind, read_key
from app.domain.ledger.adjustment import Adjustment
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.view import receipt_view
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from tests.command_line import COMMAND, ROOT, HereAtOnce, Ran, breakeven, clean_environment, runs
from tests.makers import REQUEST_ID, a_receipt, an_attempt, some_facts
from tests.ports.adjustment_book_suite import a_correction
from tests.postgres import FreshDatabases, open_directory

OTHER_ID = REQUEST_ID[:-1] + "2"
PERIOD = ("--from", "2026-11-23", "--to", "2026-11-23")


@pytest.fixture
def desk(
    books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HereAtOnce:
    return HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)


def book(url: str, *receipts: Receipt) -> None:
    """Book them, as the shipper does."""

    async def booked() -> None:
        async with Database(url) as database:
            await PostgresLedgerBook(database).book([encode(receipt) for receipt in receipts])

    asyncio.run(booked())


def correct(url: str, *adjustments: Adjustment) -> None:
    """Book them, as `price correct` does."""

    async def booked() -> None:
        async with Database(url) as database:
            assert await PostgresAdjustmentBook(database).adjust(adjustments) == len(adjustments)

    asyncio.run(booked())


def test_a_key_is_made_shown_once_listed_without_its_secret_and_revoked(desk: HereAtOnce) -> None:
    made = desk("key", "create", "first", "--team", "research", "--cost-centre", "cc-1", "--model", "chat", "--json")
    assert made.status == 0, made.err
    key = made.value["key"]
    known = read_key(key)
    assert known is not None
    assert made.value["models"] == ["chat"]

    listed = desk("key", "list", "--json")
    assert [each["id"] for each in listed.value] == [known.key_id]
    assert listed.value[0]["state"] == "active"
    assert key not in listed.out

    ended = desk("key", "revoke", key, "--json")
    assert ended.value == {"id": known.key_id, "revoked": True, "already": False}
    assert f"key {known.key_id} was revoked before" in desk("key", "revoke", known.key_id).out
    table = desk("key", "list")
    assert "revoked" in table.out
    assert "research" in table.out

    unknown = desk("key", "revoke", "nosuchid")
    assert (unknown.status, unknown.out) == (1, "")
    assert unknown.err.startswith("breakeven: there is no key 'nosuchid'")


def test_for_people_the_key_alone_is_on_stdout(desk: HereAtOnce) -> None:
    ran = desk("key", "create", "first", "--team", "research", "--cost-centre", "cc-1", "--expires", "30d")
    assert read_key(ran.out.strip()) is not None
    assert "it is shown once" in ran.err
    past = desk("key", "create", "late", "--team", "research", "--cost-centre", "cc-1", "--expires", "2020-01-01")
    assert (past.status, past.err.count("\n")) == (1, 1)
    assert "the expiry lies in the past" in past.err


def test_a_model_that_the_policy_does_not_have_is_told_beside_the_key(
    desk: HereAtOnce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = ("key", "create", "first", "--team", "research", "--cost-centre", "cc-1", "--model")
    assert "has no model" not in desk(*wish, "chat").err
    person, program = desk(*wish, "chat", "--model", "chatt"), desk(*wish, "chatt", "--json")
    assert read_key(person.out.strip()) is not None
    assert read_key(program.value["key"]) is not None
    for made in (person, program):
        assert made.status == 0
        assert made.err.endswith('has no model chatt, so its requests are refused: did you mean "chat"?\n')
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(tmp_path))
    unruled = desk(*wish, "chatt")
    assert (unruled.status, "has no model" in unruled.err) == (0, False)


def test_the_operators_key_is_made_once_and_replaced_only_when_asked(desk: HereAtOnce) -> None:
    first = desk("key", "operator").out.strip()
    read = read_key(first)
    assert read is not None
    assert read.kind is KeyKind.OPERATOR
    again = desk("key", "operator")
    assert again.status == 1
    assert "`breakeven key operator --new` replaces it" in again.err
    assert desk("key", "operator", "--new", "--json").value["key"] != first


def test_requests_are_shown_in_full_and_in_rows(desk: HereAtOnce) -> None:
    receipts = [
        a_receipt(
            an_attempt(attempt_id=f"{request_id}/1"),
            request_id=request_id,
            facts=some_facts(request_id=request_id, stream=True),
        )
        for request_id in (REQUEST_ID, REQUEST_ID[:-1] + "2", REQUEST_ID[:-1] + "3")
    ]
    book(desk.url, *receipts)

    shown = desk("requests", "show", REQUEST_ID, "--json")
    assert shown.value == receipt_view(receipts[0], adjustments=())
    told = desk("requests", "show", REQUEST_ID)
    assert "TTFT 250.0 ms, TPOT 20.0 ms, 50.0 tokens/s" in told.out
    assert "$0.0003962" in told.out

    rows = desk("requests", "tail", "-n", "2").out.splitlines()
    assert [REQUEST_ID[:-1] + end in row for end, row in zip("23", rows[1:], strict=True)] == [True, True]
    lines = desk("requests", "tail", "--json").out.splitlines()
    assert len(lines) == 3

    missing = desk("requests", "show", "no-such-id")
    assert missing.status == 1
    assert missing.err.startswith("breakeven: the ledger has no request 'no-such-id'")


def test_a_corrected_request_tells_why_and_what_it_costs_now(desk: HereAtOnce) -> None:
    book(desk.url, a_receipt(), a_receipt(an_attempt(attempt_id=f"{OTHER_ID}/1"), request_id=OTHER_ID))
    correct(desk.url, a_correction(1, amount=-96_200, of=f"{REQUEST_ID}/1"))

    view = desk("requests", "show", REQUEST_ID, "--json").value
    assert (view["charge_usd"], view["corrected_charge_usd"]) == ("0.0003962", "0.0003")
    assert [(one["amount_usd"], one["reason"]) for one in view["adjustments"]] == [
        ("-0.0000962", "the seller lowered the price")
    ]
    told = desk("requests", "show", REQUEST_ID).out
    assert "-$0.0000962: the seller lowered the price (by finance)" in told
    assert "$0.0003: what reports and budgets count" in told
    assert [line for line in told.splitlines() if line != line.rstrip()] == []

    first, second = desk("requests", "tail").out.splitlines()[1:]
    assert first.endswith("0.0003 (was 0.0003962)")
    assert "was" not in second


def test_requests_with_impossible_usage_are_listed_with_what_was_wrong(desk: HereAtOnce) -> None:
    now_us = time.time_ns() // 1000
    wrong = a_receipt(an_attempt(flags=("usage_suspect", "usage_over_cap")), at_us=now_us)
    sound_id = REQUEST_ID[:-1] + "2"
    sound = a_receipt(an_attempt(attempt_id=f"{sound_id}/1"), request_id=sound_id, at_us=now_us)
    book(desk.url, wrong, sound)
    assert desk("requests", "suspicious", "--json").value == [receipt_view(wrong)]
    told = desk("requests", "suspicious").out
    assert "over_cap" in told
    assert sound_id not in told


def test_new_requests_are_followed_as_they_come(desk: HereAtOnce) -> None:
    book(desk.url, a_receipt())
    follower = subprocess.Popen(
        [*COMMAND, "requests", "tail", "--follow", "--json"],
        cwd=ROOT,
        env=clean_environment({"DATABASE_URL": desk.url, "BREAKEVEN_DATA": str(desk.data)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    with follower:
        assert REQUEST_ID in follower.stdout.readline()
        later = REQUEST_ID[:-1] + "9"
        book(desk.url, a_receipt(an_attempt(attempt_id=f"{later}/1"), request_id=later))
        assert later in follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        assert follower.wait(30) == 130
        assert follower.stderr is not None
        assert "Traceback" not in follower.stderr.read()


def test_a_report_is_written_for_people_programs_and_spreadsheets(desk: HereAtOnce) -> None:
    book(desk.url, a_receipt())
    table = desk("report", "cost", *PERIOD)
    assert "Cost, 2026-11-23 00:00 to 2026-11-24 00:00 UTC" in table.out
    assert "Self-hosted and managed" in table.out
    assert "0.0003962" in table.out

    report = desk("report", "cost", "--by", "team", *PERIOD, "--format", "json")
    assert report.value["lines"][0]["team"] == "research"
    assert report.value["total"]["charge_nanodollars"] == 396_200
    assert desk("report", "cost", "--by", "team", *PERIOD, "--json").value == report.value

    rows = list(csv.DictReader(io.StringIO(desk("report", "cost", "--by", "target", *PERIOD, "--format", "csv").out)))
    assert [row["target"] for row in rows] == ["home"]

    wrong = desk("report", "cost", "--by", "colour")
    assert (wrong.status, wrong.out) == (1, "")
    assert "cannot group by 'colour': choose among team" in wrong.err


def test_a_database_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    ran = breakeven("key", "list", DATABASE_URL="postgresql://x@127.0.0.1:9/x", BREAKEVEN_DATA=str(tmp_path))
    assert ran.status == 1
    assert ran.err.startswith("breakeven: the database does not answer (")
    assert ran.err.count("\n") == 1


@pytest.fixture
async def empty_url(fresh_database: FreshDatabases) -> str:
    """A database without any tables."""
    return await fresh_database()


def test_a_database_that_was_never_migrated_says_what_to_run(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = HereAtOnce(url=empty_url, data=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    ran = desk("key", "list")
    assert ran.status == 1
    assert "run `breakeven db migrate`" in ran.err
    assert "run `breakeven db migrate`" in desk("db", "status").out
    assert desk("db", "migrate", "--json").value["migrated"] is True
    assert desk("db", "status", "--json").value == {"embedded": False, "answers": True, "trouble": None}
    assert desk("key", "list", "--json").value == []


def test_a_server_of_ones_own_is_not_ours_to_start(desk: HereAtOnce) -> None:
    assert desk("db", "url").out.strip() == desk.url
    for command in ("start", "stop"):
        ran = desk("db", command)
        assert ran.status == 1
        assert "DATABASE_URL names a server that is not ours" in ran.err


@pytest.fixture
def data() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory / "data"
        breakeven("db", "stop", "--force", BREAKEVEN_DATA=str(directory / "data"))


def test_the_embedded_server_starts_stays_through_other_commands_and_stops(data: Path) -> None:
    def run(*arguments: str) -> Ran:
        return breakeven(*arguments, BREAKEVEN_DATA=str(data))

    not_running = run("db", "url")
    assert not_running.status == 1
    assert "start it with `breakeven db start`" in not_running.err

    started = run("db", "start")
    assert started.out.startswith("postgresql://postgres@/breakeven?host=")
    assert run("db", "migrate").status == 0
    assert run("key", "list", "--json").value == []
    assert run("db", "url").out == started.out
    seen = run("db", "status", "--json").value
    assert seen["answers"] is True
    assert runs(seen["pid"])

    assert run("db", "stop").out == "stopped\n"
    assert not runs(seen["pid"])
    assert run("key", "list", "--json").value == [], "a command starts the server for itself"
    assert run("db", "status", "--json").value["answers"] is False
