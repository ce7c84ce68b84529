"""The console over the real books."""

from __future__ import annotations

from app.storage.engine import Database
from app.storage.key_book import PostgresKeyBook
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from app.storage.report_book import PostgresReportBook
from tests.books import Reachable
from tests.console.served import console
from tests.makers import REQUEST_ID, a_receipt


async def test_what_was_booked_is_shown_and_what_was_made_opens_nothing_once_revoked(database: Database) -> None:
    ledger, keys = PostgresLedgerBook(database), PostgresKeyBook(database)
    await ledger.book([encode(a_receipt())])
    async with console(ledger=ledger, keys=keys, reports=PostgresReportBook(database)) as it:
        report = await it.get("/api/reports/cost?from=2026-11&by=team,day")
        one = await it.get(f"/api/requests/{REQUEST_ID}")
        wish = {"name": "'; drop table virtual_key;--", "team": "research", "cost_centre": "cc-1"}
        made = await it.ask("POST", "/api/keys", json=wish)
        await it.ask("DELETE", f"/api/keys/{made.json['key_id']}")
        listed = await it.get("/api/keys")
        nobody = await it.get("/api/requests/%27%20or%201%3D1")
    assert report.json["total"]["charge_nanodollars"] == one.json["charge_nanodollars"] == 396_200
    assert report.json["lines"][0]["day"] == "2026-11-23"
    assert [(key["name"], key["state"]) for key in listed.json["keys"]] == [(wish["name"], "revoked")]
    assert nobody.status == 404


async def test_a_report_says_so_while_postgres_is_away_and_comes_back_with_it(
    database: Database, books_url: str
) -> None:
    reachable = Reachable(books_url)
    async with console(ledger=PostgresLedgerBook(database), reports=PostgresReportBook(database)) as it:
        assert (await it.get("/api/reports/cost")).status == 200
        await reachable.take_away()
        away = await it.get("/api/reports/cost")
        await reachable.bring_back()
        back = await it.get("/api/reports/cost")
    assert (away.status, away.json["error"]["code"]) == (503, "books_away")
    assert back.status == 200
