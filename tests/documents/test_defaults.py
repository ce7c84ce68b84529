"""`defaults` fill what is left out, key by key, and nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.documents.defaults import with_defaults
from app.documents.policy import (
    WrittenDefaults,
    WrittenHedge,
    WrittenModel,
    WrittenOutputTokens,
    WrittenPreference,
    WrittenRule,
    WrittenTimeouts,
)

USUAL = WrittenDefaults(
    attempts=2,
    timeouts=WrittenTimeouts(connect_s=Decimal(1), total_s=Decimal(120)),
    recovery="restart",
    hedge=WrittenHedge(after_ms=Decimal(700)),
    kept_answers="nothing",
    output_tokens=WrittenOutputTokens(default=800, most=2000),
    prefer="cheapest",
    affinity="session",
    wait=True,
)
SILENT = WrittenModel(rules=[WrittenRule(name="a", use=["x"])])


def test_without_defaults_nothing_changes() -> None:
    assert with_defaults(SILENT, WrittenDefaults()) == SILENT


def test_what_says_nothing_is_as_the_defaults_say() -> None:
    model = with_defaults(SILENT, USUAL)
    assert (model.attempts, model.recovery, model.kept_answers) == (2, "restart", "nothing")
    assert model.timeouts == USUAL.timeouts
    assert model.hedge == USUAL.hedge
    assert model.output_tokens == USUAL.output_tokens
    (rule,) = model.rules
    assert (rule.prefer, rule.affinity, rule.wait) == ("cheapest", "session", True)


def test_what_says_something_keeps_it() -> None:
    weighted = WrittenPreference(weighted={"x": 1})
    own = WrittenModel(
        rules=[WrittenRule(name="a", use=["x"], prefer=weighted, affinity="none", wait=False)],
        attempts=5,
        timeouts=WrittenTimeouts(total_s=Decimal(9)),
        recovery="error",
        hedge=WrittenHedge(),
        kept_answers="all",
        output_tokens=WrittenOutputTokens(default=7),
    )
    model = with_defaults(own, USUAL)
    assert (model.attempts, model.recovery, model.kept_answers) == (5, "error", "all")
    assert model.timeouts == WrittenTimeouts(connect_s=Decimal(1), total_s=Decimal(9))
    assert model.output_tokens == WrittenOutputTokens(default=7, most=2000)
    assert model.hedge == WrittenHedge()
    assert model.rules == own.rules


@pytest.mark.parametrize(
    ("most", "default"),
    [(500, 500), (800, 800), (5000, 800)],
)
def test_a_default_length_from_the_defaults_is_cut_to_what_the_model_allows(most: int, default: int) -> None:
    own = WrittenModel(rules=SILENT.rules, output_tokens=WrittenOutputTokens(most=most))
    assert with_defaults(own, USUAL).output_tokens == WrittenOutputTokens(default=default, most=most)
