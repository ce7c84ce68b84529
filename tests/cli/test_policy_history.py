"""`breakeven policy history`, `diff`, `rollback`, `release` (`app.cli.policy_history`), on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.documents.compile import digest_of
from app.domain.ledger.receipt import Receipt
from app.ports import Revision
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.policy_history import PostgresPolicyHistory
from app.storage.receipt_json import encode
from tests.archive import BROKEN, FILES, TURNED
from tests.command_line import HereAtOnce
from tests.flows.test_policy_moves import a_request
from tests.makers import NOON

FIRST, SECOND, BAD = (digest_of(files) for files in (FILES, TURNED, BROKEN))


@pytest.fixture
def desk(
    books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HereAtOnce:
    """A history of three revisions, the second of them on the shelf and the third refused, and three requests."""
    shelf = tmp_path / "policies"
    shelf.mkdir()
    for name, text in TURNED.items():
        (shelf / name).write_text(text)
    desk = HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(shelf))
    asyncio.run(_filled(books_url, receipts=[a_request(number) for number in (1, 2, 3)]))
    return desk


async def _filled(url: str, *, receipts: list[Receipt]) -> None:
    async with Database(url) as database:
        history = PostgresPolicyHistory(database)
        for minute, files in enumerate((FILES, TURNED, BROKEN)):
            await history.remember(_revision(files, at_s=NOON.timestamp() + 60 * minute, refused=files is BROKEN))
        await PostgresLedgerBook(database).book([encode(receipt) for receipt in receipts])


def _revision(files: Mapping[str, str], *, at_s: float, refused: bool) -> Revision:
    return Revision(
        digest=digest_of(files),
        files=files,
        author="Ada [bold]",
        seen_at_s=at_s,
        in_force_at_s=None if refused else at_s,
        findings=("models.yaml:8:21: error: no target apo",) if refused else (),
    )


def test_the_history_is_a_table_newest_first_and_one_document_for_programs(desk: HereAtOnce) -> None:
    rows = desk("policy", "history").out.splitlines()
    assert [row.split()[0] for row in rows[1:]] == [BAD, SECOND, FIRST]
    assert "never" in rows[1]
    assert "refused" in rows[1]
    assert "Ada [bold]" in rows[2]
    assert ["in force  " in row for row in rows[1:]] == [False, True, False]
    assert len(desk("policy", "history", "--most", "1").out.splitlines()) == 2
    told = desk("policy", "history", "--json").value
    assert (told["in_force"], told["pin"]) == (SECOND, None)
    assert [one["digest"] for one in told["revisions"]] == [BAD, SECOND, FIRST]
    assert told["revisions"][0]["findings"] == ["models.yaml:8:21: error: no target apo"]


def test_the_files_of_a_revision_are_written_out(desk: HereAtOnce) -> None:
    shown = desk("policy", "history", "--show", FIRST[:6])
    assert shown.status == 0
    for name, text in FILES.items():
        assert f"# ── {name}\n{text}" in shown.out
    assert f"{FIRST}, by Ada [bold], first seen 2026-11-23T12:00:00Z, first in force" in shown.err
    assert desk("policy", "history", "--show", FIRST, "--json").value["files"] == FILES
    assert "no target apo" in desk("policy", "history", "--show", BAD).err


def test_a_rollback_is_one_command_and_shows_until_it_is_released(desk: HereAtOnce) -> None:
    back = desk("policy", "rollback", FIRST[:5], "--by", "Grace")
    assert (back.status, back.err) == (0, "")
    assert f"pinned {FIRST}, by Grace" in back.out
    listed = desk("policy", "history")
    assert f"{FIRST} is pinned by Grace" in listed.err
    assert "in force, pinned" in next(row for row in listed.out.splitlines() if row.startswith(FIRST))
    assert "in force" not in next(row for row in listed.out.splitlines() if row.startswith(SECOND))
    again = desk("policy", "rollback", SECOND, "--json")
    assert again.value["pin"]["digest"] == SECOND
    assert again.value["pin"]["by"] != ""
    released = desk("policy", "release")
    assert f"released {SECOND}" in released.out
    nothing = desk("policy", "release")
    assert (nothing.status, nothing.out) == (0, "")
    assert "nothing was pinned" in nothing.err
    assert desk("policy", "release", "--json").value == {"released": None}


def test_a_revision_that_is_not_valid_today_is_refused_with_its_findings(desk: HereAtOnce) -> None:
    ran = desk("policy", "rollback", BAD)
    assert ran.status == 1
    assert "models.yaml:8:" in ran.out
    assert f"{BAD} is no valid policy for this version" in ran.err
    told = desk("policy", "rollback", BAD, "--json")
    assert (told.status, told.value["not_valid"]) == (1, BAD)
    assert desk("policy", "history", "--json").value["pin"] is None


@pytest.mark.parametrize("words", [("rollback", "ffff"), ("history", "--show", "ffff"), ("diff", "ffff", "live")])
def test_an_unknown_digest_says_what_there_is(desk: HereAtOnce, words: tuple[str, ...]) -> None:
    ran = desk("policy", *words)
    assert (ran.status, ran.out) == (1, "")
    assert f"the newest are {BAD}, {SECOND}, {FIRST}" in ran.err
    assert ran.err.count("\n") == 1


def test_a_diff_names_the_rules_that_changed_and_the_requests_that_would_move(desk: HereAtOnce) -> None:
    ran = desk("policy", "diff", FIRST, "files")
    assert ran.status == 0
    assert f"from {FIRST} to {SECOND}" in ran.out
    assert 'model chat: rule "everybody": use [home, api] → [api, home]' in ran.out
    assert "3 requests decided again: 3 would go elsewhere" in ran.out
    assert f"  {a_request(3).request_id}  chat: home → api" in ran.out.splitlines()
    told = desk("policy", "diff", FIRST, "live", "--last", "2", "--json").value
    assert told["requests"]["ways"] == [{"from": "home", "to": "api", "count": 2}]
    same = desk("policy", "diff", "live", "files").out
    assert "they decide alike" in same
    assert "0 would go elsewhere" in same
    refused = desk("policy", "diff", FIRST, BAD)
    assert refused.status == 1
    assert f"{BAD} is no valid policy" in refused.err


def test_an_empty_history_says_who_writes_it(
    books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)
    ran = desk("policy", "history")
    assert (ran.status, ran.out) == (0, "")
    assert "a gateway writes its first one when it starts" in ran.err
