"""`breakeven policy explain` (`app.cli.policy_explain`): past requests, and requests that nobody made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.ledger.receipt import Receipt
from app.domain.routing.plan import Plan
from app.ports import Revision
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.policy_history import PostgresPolicyHistory
from app.storage.receipt_json import encode
from tests.archive import BROKEN, FILES
from tests.command_line import HereAtOnce
from tests.flows.test_policy_moves import a_request


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    directory = tmp_path / "policies"
    directory.mkdir()
    for name, text in FILES.items():
        (directory / name).write_text(text)
    return directory


@pytest.fixture
def dry_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> HereAtOnce:
    """Without a database: a dry run needs none."""
    monkeypatch.setenv("OPENAI_API_KEY", "set")
    return HereAtOnce(url="postgresql://x@127.0.0.1:9/x", data=tmp_path, monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def desk(
    books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HereAtOnce:
    return HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)


def book(url: str, receipt: Receipt, *, with_revision: bool = True) -> None:
    async def booked() -> None:
        async with Database(url) as database:
            await PostgresLedgerBook(database).book([encode(receipt)])
            if with_revision:
                revision = Revision(digest=receipt.policy_digest, files=FILES, author="Ada", seen_at_s=0.0)
                await PostgresPolicyHistory(database).remember(revision)

    asyncio.run(booked())


def test_a_past_request_is_explained_and_comes_out_the_same_bit_for_bit(desk: HereAtOnce) -> None:
    receipt = a_request(1)
    book(desk.url, receipt)
    ran = desk("policy", "explain", "--request", receipt.request_id)
    assert (ran.status, ran.err) == (0, "")
    assert f"{receipt.policy_digest}, by Ada" in ran.out
    assert "the same, bit for bit" in ran.out
    told = desk("policy", "explain", "--request", receipt.request_id, "--json").value
    assert told["replay"]["verdict"] == "same"
    assert told["decision"]["order"] == ["home", "api"]
    assert told["facts"]["caller"]["team"] == "research"


def test_a_decision_that_comes_out_otherwise_names_the_part_and_fails(desk: HereAtOnce) -> None:
    receipt = a_request(1)
    assert isinstance(receipt.decision, Plan)
    book(desk.url, replace(receipt, decision=replace(receipt.decision, prefer="cheapest")))
    ran = desk("policy", "explain", "--request", receipt.request_id)
    assert ran.status == 1
    assert "prefer: it was 'cheapest', and comes out as 'listed'" in ran.out


def test_without_its_revision_a_past_request_is_still_explained(desk: HereAtOnce) -> None:
    receipt = a_request(1)
    book(desk.url, receipt, with_revision=False)
    ran = desk("policy", "explain", "--request", receipt.request_id)
    assert ran.status == 0
    assert 'Rule "everybody" matched' in ran.out
    assert "the history does not hold policy" in ran.out


def test_an_unknown_request_is_a_sentence(desk: HereAtOnce) -> None:
    ran = desk("policy", "explain", "--request", "no-such-id")
    assert (ran.status, ran.out) == (1, "")
    assert "the ledger has no request 'no-such-id'" in ran.err


def test_a_request_that_nobody_made_is_decided_on_the_files_without_a_database(
    dry_desk: HereAtOnce, shelf: Path
) -> None:
    ran = dry_desk("policy", "explain", "--model", "chat", "--team", "legal", "--stream", str(shelf))
    assert (ran.status, ran.err) == (0, "")
    assert 'Rule "legal stays home" matched' in ran.out
    told = dry_desk(
        *("policy", "explain", "--model", "chat", "--needs", "has_tools", "--prompt-tokens", "42", "--tag", "a"),
        *("--at", "2026-11-23T02:30:00", "--json", str(shelf)),
    ).value
    assert told["decision"]["order"] == ["api"]
    assert told["at"] == "2026-11-23T02:30:00+00:00"
    assert (told["facts"]["prompt_tokens"], told["facts"]["tags"]) == (42, ["a"])
    assert [one["target"] for one in told["decision"]["candidates"]] == ["home", "api"]


def test_credentials_that_are_taken_for_present_and_are_not_set_here_are_named(
    dry_desk: HereAtOnce, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("policy", "explain", "--model", "chat", str(shelf))
    assert dry_desk(*asked, "--json").value["notes"] == []
    assert "credentials" not in dry_desk(*asked).out
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    ran = dry_desk(*asked)
    assert "credentials are taken for present; OPENAI_API_KEY (api) is not set here" in ran.out
    (note,) = dry_desk(*asked, "--json").value["notes"]
    assert note.startswith("credentials are taken for present; OPENAI_API_KEY (api) is not set here")
    shadowed = "[home]\n        shadow: {target: api, share: 0.1, max_usd_per_day: 1}"
    (shelf / "models.yaml").write_text(FILES["models.yaml"].replace("[home, api]", shadowed))
    assert "OPENAI_API_KEY (api)" in dry_desk(*asked).out
    (shelf / "models.yaml").write_text(FILES["models.yaml"].replace("[home, api]", "[home]"))
    assert dry_desk(*asked, "--json").value["notes"] == []
    key = shelf.parent / "keys"
    key.mkdir()
    (shelf / "models.yaml").write_text(FILES["models.yaml"])
    (shelf / "targets.yaml").write_text(FILES["targets.yaml"].replace("env:OPENAI_API_KEY", "file:openai"))
    assert "file:openai (api) is not set here" in dry_desk(*asked).out
    (key / "openai").write_text("sk-1")
    monkeypatch.setenv("BREAKEVEN_CREDENTIALS", str(key))
    assert dry_desk(*asked, "--json").value["notes"] == []


def test_files_that_are_no_policy_are_told_with_their_findings(dry_desk: HereAtOnce, shelf: Path) -> None:
    (shelf / "models.yaml").write_text(BROKEN["models.yaml"])
    ran = dry_desk("policy", "explain", "--model", "chat", str(shelf))
    assert ran.status == 1
    assert "models.yaml:8:" in ran.out
    assert "mend them first" in ran.err
    assert dry_desk("policy", "explain", "--model", "chat", str(shelf), "--json").value["not_valid"] == "files"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give either --request ID"),
        (("--model", "chat", "--request", "x"), "give either --request ID"),
        (("--request", "x", "somewhere"), "leave the directory out"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(dry_desk: HereAtOnce, words: tuple[str, ...], said: str) -> None:
    ran = dry_desk("policy", "explain", *words)
    assert (ran.status, ran.out) == (1, "")
    assert said in ran.err


def test_a_model_that_is_not_there_says_which_are(dry_desk: HereAtOnce, shelf: Path) -> None:
    ran = dry_desk("policy", "explain", "--model", "nope", str(shelf))
    assert ran.err == 'breakeven: the policy has no model "nope"; it has chat\n'
