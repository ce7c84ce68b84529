"""`app.cli.budget` and `app.cli.verify` over a real database."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.budget import app as budgets
from app.cli.verify import app as proof
from app.domain.ledger.invariants import SAID
from tests.cli.test_commands import desk
from tests.command_line import HereAtOnce
from tests.gateway_process import write_policy

__all__ = ["budgets", "desk", "proof"]


def test_budgets_are_listed_and_shown_with_what_is_spent(
    desk: HereAtOnce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = write_policy(tmp_path / "policies", targets={"home": "http://127.0.0.1:9/v1"})
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(policies))
    (policies / "budgets.yaml").write_text(
        "budgets:\n  research: {of: {team: research, tag: x}, usd: 12.5, every: month}\n  all: {usd: 100, every: day}\n"
    )
    first, second = desk("budget", "list", "--json").value
    assert (first["name"], first["of"], first["mode"]) == ("all", "the whole gateway", "hard")
    assert (second["of"], second["usd"], second["left_usd"]) == ("team research, tag x", "12.5", "12.5")
    assert "the whole gateway" in desk("budget", "list").out
    assert "12.5" in desk("budget", "show", "research").out
    unknown = desk("budget", "show", "nobody")
    assert (unknown.status, "all, research" in unknown.err) == (1, True)


def test_sound_books_verify_and_say_so(desk: HereAtOnce) -> None:
    shown = desk("verify")
    assert shown.status == 0
    assert "holds" in shown.out
    told = desk("verify", "--json").value
    assert told["holds"] is True
    assert [each["says"] for each in told["invariants"]] == list(SAID.values())
