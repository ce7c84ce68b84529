"""From scenarios as written to the values that `decide` runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time
from decimal import Decimal

from app.documents.gather import Placed
from app.documents.scenario import (
    WrittenBudgetSeen,
    WrittenExpect,
    WrittenGiven,
    WrittenScenario,
    WrittenTargetSeen,
    day_of,
)
from app.domain.budget import Budget, BudgetSeen
from app.domain.caller import Caller
from app.domain.money import ZERO, dollars, from_dollars
from app.domain.routing.facts import Endpoint, RequestFacts
from app.domain.routing.plan import RefusalReason
from app.domain.routing.policy import Policy
from app.domain.routing.scenario import Expected, Scenario, fleet_at_rest
from app.domain.target import Circuit, TargetSeen


def scenario_values(placed: Sequence[Placed[WrittenScenario]], policy: Policy) -> tuple[Scenario, ...]:
    """The scenarios as values. They have no faults, and name only what `policy` has."""
    at_rest = fleet_at_rest(policy)
    return tuple(_scenario(one, one.written, policy, at_rest) for one in placed if one.written is not None)


def _scenario(
    placed: Placed[WrittenScenario], written: WrittenScenario, policy: Policy, at_rest: Mapping[str, TargetSeen]
) -> Scenario:
    given, mark = written.given, placed.page.mark(placed.path)
    day = day_of(given.time)
    assert day is not None, "lint refuses a date that is of another weekday"
    at = datetime.combine(day, time(given.time.hour, given.time.minute), tzinfo=policy.timezone)
    return Scenario(
        name=written.name,
        facts=_facts(given, request_id=given.request.request_id or f"scenario: {written.name}"),
        at=at,
        expected=_expected(written.expect),
        fleet={name: _seen(seen, at_rest[name]) for name, seen in given.fleet.items()},
        budgets={
            name: _budget_seen(budget, given.budget.get(name, WrittenBudgetSeen()), at=at)
            for name, budget in policy.budgets.items()
        },
        spill_spent=None if given.spill_spent_usd is None else from_dollars(given.spill_spent_usd),
        file=placed.page.file,
        line=mark.line,
        column=mark.column,
    )


def _facts(given: WrittenGiven, *, request_id: str) -> RequestFacts:
    request, caller = given.request, given.caller
    return RequestFacts(
        request_id=request_id,
        endpoint=Endpoint(request.endpoint),
        model=given.model,
        stream=request.stream,
        prompt_tokens=request.prompt_tokens,
        output_tokens_most=request.output_tokens_most,
        n=request.n,
        has_tools=request.has_tools,
        has_images=request.has_images,
        has_audio=request.has_audio,
        json_schema=request.json_schema,
        data_class=request.data_class,
        deadline_s=_float(request.deadline_s),
        priority=request.priority,
        tags=tuple(request.tags),
        session=request.session,
        prefix_tokens=request.prefix_tokens,
        caller=Caller(key_id=caller.key, team=caller.team, cost_centre=caller.cost_centre, tags=tuple(caller.tags)),
    )


def _seen(written: WrittenTargetSeen, at_rest: TargetSeen) -> TargetSeen:
    return replace(
        at_rest,
        in_flight=written.in_flight or 0,
        circuit=Circuit(written.circuit or "closed"),
        credential_present=written.credential == "present",
        rate_card=at_rest.rate_card if written.price == "known" else None,
        serves_instead=written.serves_instead,
        waiting=written.waiting,
        saturation=_float(written.saturation),
        predicted_ttft_ms=_float(written.predicted_ttft_ms),
        age_s=_float(written.age_s),
        requests_left=written.requests_left,
        tokens_left=written.tokens_left,
    )


def _budget_seen(budget: Budget, written: WrittenBudgetSeen, *, at: datetime) -> BudgetSeen:
    untouched = BudgetSeen.of(budget, spent=ZERO, at=at)
    amount = dollars(budget.amount)
    used, remaining = untouched.used, untouched.remaining_usd
    if written.used is not None:
        used, remaining = float(written.used), float(amount * (1 - written.used))
    if written.remaining_usd is not None:
        remaining = float(written.remaining_usd)
        if written.used is None and amount:
            used = float(1 - written.remaining_usd / amount)
    days_left = untouched.days_left if written.days_left is None else written.days_left
    return BudgetSeen(remaining_usd=remaining, used=used, days_left=days_left)


def _expected(written: WrittenExpect) -> Expected:
    return Expected(
        rule=written.rule,
        first=written.first,
        order=None if written.order is None else tuple(written.order),
        refused=None if written.refused is None else RefusalReason(written.refused),
        never=tuple(written.never or ()),
        spilled=written.spilled,
        shadow=written.shadow,
        filters=dict(written.filter or {}),
    )


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)
