from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

from app.domain.budget import BudgetSeen
from app.domain.ledger.receipt import waited_flag
from app.domain.ledger.view import callers_view, receipt_view
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.plan import Refusal, RefusalReason, Witness
from tests.makers import a_plan, a_receipt, an_attempt


def test_a_receipt_reads_as_plain_json_with_the_exact_charge() -> None:
    view = receipt_view(a_receipt(an_attempt(charge=Nanodollars(1)), an_attempt(number=2, charge=Nanodollars(2))))
    assert json.loads(json.dumps(view)) == view
    assert view["charge_usd"] == "0.000000003"
    assert view["at"] == "2026-11-23T12:00:00.000Z"


def test_a_receipt_says_route_reason_tokens_and_times() -> None:
    view = cast(dict[str, Any], receipt_view(a_receipt()))
    assert view["target"] == "home"
    assert view["rule"] == "the rule"
    assert view["attempts"][0]["ttft_ms"] == 250.0
    assert view["attempts"][0]["tokens_per_s"] == 50.0
    assert view["attempts"][0]["usage"]["cached_tokens"] == 128


def test_a_refused_request_has_a_receipt_without_a_target() -> None:
    refusal = Refusal(reason=RefusalReason.NO_TARGET, rule="r", message="nobody")
    view = receipt_view(a_receipt(decision=refusal, outcome=Outcome.REFUSED, status=503, attempts=()))
    assert view["target"] is None
    assert view["charge_usd"] == "0.00"


def test_of_an_interrupted_request_nobody_knows_which_status_its_caller_saw() -> None:
    assert receipt_view(a_receipt(outcome=Outcome.INTERRUPTED, status=499))["status"] is None
    assert receipt_view(a_receipt(outcome=Outcome.ABANDONED, status=499))["status"] == 499


def test_a_price_has_no_exponent() -> None:
    view = receipt_view(a_receipt(an_attempt(price_prompt=Decimal("6E-8"))))
    assert view["attempts"][0]["usd_per_million_tokens"]["prompt"] == "0.00000006"  # type: ignore[index]


def test_a_caller_reads_nothing_of_shadows_budgets_or_targets_that_are_not_its_rules() -> None:
    budgets = {"board": BudgetSeen(remaining_usd=7.0, used=0.3, days_left=1)}
    witness = Witness(budgets=budgets, fleet={"elsewhere": a_plan().candidates[0].seen})
    receipt = a_receipt(decision=replace(a_plan(), shadow="shade", witness=witness))
    assert "shade" in json.dumps(receipt_view(receipt))
    said = json.dumps(callers_view(receipt))
    assert not [word for word in ("shade", "board", "elsewhere") if word in said]
    assert callers_view(a_receipt()) == receipt_view(a_receipt())


def test_a_refused_caller_reads_no_budget_either() -> None:
    witness = Witness(budgets={"board": BudgetSeen(remaining_usd=7.0, used=0.3, days_left=1)})
    refusal = Refusal(reason=RefusalReason.NO_RULE, rule=None, message="nobody", witness=witness)
    view = callers_view(a_receipt(decision=refusal, outcome=Outcome.REFUSED, status=503, attempts=()))
    assert "board" not in json.dumps(view)


def test_a_copy_for_a_shadow_says_of_what() -> None:
    assert receipt_view(a_receipt(shadow_of="another"))["shadow_of"] == "another"
    assert "shadow_of" not in receipt_view(a_receipt())


def test_a_receipt_says_how_long_it_waited_for_places_and_for_whose() -> None:
    flags = (
        waited_flag(target="gpu-a", waited_s=5.0004, in_vain="no place came free within 5.0 s"),
        waited_flag(target="gpu-b", waited_s=0.25),
        "passed_over: gpu-c was passed over: it waited 9 ms too long",
    )
    receipt = a_receipt(flags=flags)
    assert receipt.waited_s == 5.25
    view = cast(dict[str, Any], receipt_view(receipt))
    assert view["waited_ms"] == 5250.0
    assert view["flags"] == ["passed_over", "waited"]
    assert view["why"][:2] == [
        "It waited 5000 ms for a place at gpu-a, in vain: no place came free within 5.0 s.",
        "It waited 250 ms for a place at gpu-b.",
    ]
    assert receipt_view(a_receipt())["waited_ms"] == 0
