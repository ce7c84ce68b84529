from __future__ import annotations

import json
from typing import Any, cast

from app.domain.ledger.view import receipt_view
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.plan import Refusal, RefusalReason
from tests.makers import a_receipt, an_attempt


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
