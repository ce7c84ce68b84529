"""A receipt as people and programs read it: plain values, dollars, milliseconds, and the decision in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.domain.ledger.adjustment import Adjustment
from app.domain.ledger.receipt import Attempt, Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars, shown
from app.domain.routing.explain import explain
from app.domain.routing.plan import NOTHING_ELSE, Plan

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def receipt_view(receipt: Receipt, *, adjustments: Iterable[Adjustment] | None = None) -> dict[str, object]:
    """The receipt as a JSON-ready mapping. Amounts are exact decimal strings in USD; absent times are None,
    and so is the status of an interrupted request, whose end no caller is known to have seen.

    With `adjustments`, of any attempts, those of its own and the charge that they correct it to; without, the charge
    as it was first booked and no word of corrections.
    """
    final = receipt.final
    return {
        "id": receipt.request_id,
        "object": "receipt",
        "at": moment(receipt.at_us),
        "outcome": receipt.outcome.value,
        # What stands on an interrupted one is what it would have been, had its caller left: nobody knows what it saw.
        "status": None if receipt.outcome is Outcome.INTERRUPTED else receipt.status,
        "model": receipt.facts.model,
        "endpoint": receipt.facts.endpoint.value,
        "stream": receipt.facts.stream,
        "key": receipt.facts.caller.key_id,
        "team": receipt.facts.caller.team,
        "cost_centre": receipt.facts.caller.cost_centre,
        "tags": [*receipt.facts.caller.tags, *receipt.facts.tags],
        "caller_label": receipt.caller_label,
        **({} if receipt.shadow_of is None else {"shadow_of": receipt.shadow_of}),
        "target": None if final is None else final.target,
        "hosting": None if final is None else final.hosting.value,
        "rule": receipt.decision.rule,
        "why": [*receipt.remarks, *explain(receipt.decision)],
        "policy": receipt.policy_digest,
        "charge_usd": shown(receipt.charge),
        "charge_nanodollars": receipt.charge,
        **({} if adjustments is None else _corrections(receipt, adjustments)),
        "duration_ms": _ms(receipt.duration_s),
        "overhead_ms": _ms(receipt.overhead_s),
        "waited_ms": _ms(receipt.waited_s),
        "flags": sorted(receipt.flag_words),
        "attempts": [_attempt_view(attempt) for attempt in receipt.attempts],
    }


def callers_view(receipt: Receipt) -> dict[str, object]:
    """As the caller itself may read it: nothing of a shadow, of budgets, or of targets that its rule does not use."""
    decision = replace(receipt.decision, witness=NOTHING_ELSE)
    if isinstance(decision, Plan):
        decision = replace(decision, shadow=None)
    return receipt_view(replace(receipt, decision=decision))


def moment(at_us: int) -> str:
    """Unix microseconds as ISO 8601 in UTC."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def tokens_per_s(attempt: Attempt) -> float | None:
    """How fast the answer was written after its first token: 1 / TPOT."""
    return None if not attempt.tpot_s else 1.0 / attempt.tpot_s


def _corrections(receipt: Receipt, adjustments: Iterable[Adjustment]) -> dict[str, object]:
    attempts = {attempt.attempt_id for attempt in receipt.attempts}
    own = [one for one in adjustments if one.attempt_id in attempts]
    corrected = Nanodollars(receipt.charge + sum(one.amount for one in own))
    return {
        "corrected_charge_usd": shown(corrected),
        "corrected_charge_nanodollars": corrected,
        "adjustments": [_adjustment_view(one) for one in own],
    }


def _adjustment_view(one: Adjustment) -> dict[str, object]:
    return {
        "id": one.adjustment_id,
        "attempt": one.attempt_id,
        "reason": one.reason,
        "by": one.by,
        "amount_usd": shown(one.amount),
        "amount_nanodollars": one.amount,
        "tokens_added": {
            "prompt_tokens": one.prompt_added,
            "cached_tokens": one.cached_added,
            "output_tokens": one.output_added,
            "reasoning_tokens": one.reasoning_added,
        },
        "rate_card": one.rate_card_digest,
    }


def _attempt_view(attempt: Attempt) -> dict[str, object]:
    speed = tokens_per_s(attempt)
    return {
        "id": attempt.attempt_id,
        "target": attempt.target,
        "hosting": attempt.hosting.value,
        "engine_or_provider": attempt.kind,
        "upstream_model": attempt.upstream_model,
        "outcome": attempt.outcome.value,
        "fault": attempt.fault,
        "fault_message": attempt.fault_message,
        "status": attempt.status,
        "provider_request_id": attempt.provider_request_id,
        "usage": {
            "prompt_tokens": attempt.usage.prompt,
            "cached_tokens": attempt.usage.cached,
            "output_tokens": attempt.usage.output,
            "reasoning_tokens": attempt.usage.reasoning,
            "source": attempt.usage_source.value,
        },
        "ttft_ms": None if attempt.ttft_s is None else _ms(attempt.ttft_s),
        "tpot_ms": None if attempt.tpot_s is None else _ms(attempt.tpot_s),
        "tokens_per_s": None if speed is None else round(speed, 1),
        "duration_ms": _ms(attempt.duration_s),
        "usd_per_million_tokens": {
            "prompt": f"{attempt.price_prompt:f}",
            "cached_prompt": f"{attempt.price_cached_prompt:f}",
            "output": f"{attempt.price_output:f}",
        },
        "rate_card": attempt.rate_card_digest,
        "charge_usd": shown(attempt.charge),
        "flags": list(attempt.flags),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
