"""`app.cli.price_correct`: from a wrong price in the policy to books that are right, over a real database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.domain.money import Nanodollars, shown
from app.domain.pricing.charge import charge
from tests.books import said
from tests.cli.test_commands import book
from tests.command_line import HereAtOnce
from tests.makers import CARD, CHEAP, a_receipt, an_attempt
from tests.ports.ledger_book_suite import receipt, request_id

POLICY = """\
targets:
  home:
    hosting: managed
    provider: openai
    model: smollm2
    can: [chat]
    credential: env:OPENAI_API_KEY
models:
  chat: {rules: [{name: all, use: [home]}]}
rates:
  targets:
    home: {usd_per_million_tokens: {prompt: 0.01, cached_prompt: 0, completion: 0.10}}
"""
PERIOD = ("--from", "2026-11-23", "--to", "2026-11-23")
(ATTEMPT,) = a_receipt().attempts
OLD, NEW = (charge(usage=ATTEMPT.usage, price=card) for card in (CARD, CHEAP))


@pytest.fixture
def desk(
    books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HereAtOnce:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "policy.yaml").write_text(POLICY)
    at_once = HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(tmp_path / "policies"))
    return at_once


def test_the_policys_price_is_tried_booked_and_then_nothing_is_left_to_do(desk: HereAtOnce, books_url: str) -> None:
    book(books_url, receipt(1), receipt(2))
    before = desk("report", "cost", *PERIOD, "--json").value["total"]
    moment = datetime.now(UTC).isoformat()
    tried = desk("price", "correct", *PERIOD, "--dry-run")
    assert tried.status == 0, tried.err
    assert "2 attempts looked at, 2 would change" in tried.out
    assert asyncio.run(said(books_url, "select 1 from adjustment")) == []

    done = desk("price", "correct", *PERIOD, "--reason", "the invoice of November", "--by", "finance", "--json").value
    assert (done["attempts"], done["touched"], done["booked"], done["dry_run"]) == (2, 2, 2, False)
    (part,) = done["parts"]
    assert part == {
        "target": "home",
        "rate_card_before": CARD.digest,
        "rate_card_after": CHEAP.digest,
        "attempts": 2,
        "before_usd": shown(Nanodollars(2 * OLD)),
        "after_usd": shown(Nanodollars(2 * NEW)),
    }
    assert "2 attempts looked at, 0 changed, 0.00 USD" in desk("price", "correct", *PERIOD).out
    assert desk("report", "cost", *PERIOD, "--json").value["total"]["charge_nanodollars"] == 2 * NEW
    earlier = desk("report", "cost", *PERIOD, "--as-of", moment, "--json").value
    assert (earlier["total"], earlier["as_of"]) == (before, moment)
    assert "as the books were at" in desk("report", "cost", *PERIOD, "--as-of", moment).out
    assert desk("report", "cost", *PERIOD, "--as-of", "2026-11-01", "--json").value["total"]["requests"] == 0


def test_prices_on_the_line_and_cards_by_digest_do_the_same(desk: HereAtOnce, books_url: str) -> None:
    book(books_url, receipt(1))
    given = ("--target", "home", "--usd", "prompt=0.25, cached_prompt=0.025, output=2")
    assert desk("price", "correct", *PERIOD, *given, "--json").value["touched"] == 0
    changed = desk("price", "correct", *PERIOD, "--json").value
    assert changed["parts"][0]["rate_card_after"] == CHEAP.digest
    back = desk("price", "correct", *PERIOD, *given, "--json").value
    assert back["parts"][0]["rate_card_after"] == CARD.digest
    by_card = desk("price", "correct", *PERIOD, "--target", "home", "--card", CHEAP.digest, "--json").value
    assert by_card["touched"] == 1
    assert "rate card" in desk("price", "show", CHEAP.digest).out


def test_what_has_no_price_is_named_and_left(desk: HereAtOnce, books_url: str) -> None:
    away = an_attempt(attempt_id=f"{request_id(3)}/1", target="gone")
    book(books_url, a_receipt(away, request_id=request_id(3)))
    ran = desk("price", "correct", *PERIOD)
    assert (ran.status, "0 changed" in ran.out) == (0, True)
    assert "1 attempts at gone stay as they are" in ran.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--usd", "prompt=1,cached_prompt=1,output=1"), "name it with --target"),
        (("--target", "home", "--usd", "prompt=1"), "lack cached_prompt, output"),
        (("--target", "home", "--usd", "prompt=1,prompt=2"), "is no price"),
        (("--target", "home", "--usd", "gold=1"), "is no price"),
        (("--target", "home", "--usd", "prompt=cheap"), "is no amount"),
        (("--target", "home", "--usd", "prompt=-1,cached_prompt=0,output=0"), "0 or more"),
        (("--target", "home", "--card", "0123456789abcdef"), "was ever in force"),
        (("--target", "home", "--card", CARD.digest, "--usd", "prompt=1,cached_prompt=1,output=1"), "one of them"),
        (("--target", "nowhere"), "has no target 'nowhere'"),
        (("--policy", "0123456789abcdef"), "holds no revision"),
        (("--to", "2026-11-22"), "before it begins"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(desk: HereAtOnce, arguments: tuple[str, ...], told: str) -> None:
    ran = desk("price", "correct", "--from", "2026-11-23", *arguments)
    assert (ran.status, ran.out) == (1, "")
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_a_moment_that_is_none_is_refused_in_one_line(desk: HereAtOnce) -> None:
    ran = desk("report", "cost", "--as-of", "once upon a time")
    assert (ran.status, ran.err.count("\n")) == (1, 1)
