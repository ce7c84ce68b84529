"""Requests of every kind through policies that use the whole language, decided in worlds that change all the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

from app.domain.budget import BudgetSeen
from app.domain.caller import Caller
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.decide import decide
from app.domain.routing.facts import Endpoint, RequestFacts
from app.domain.routing.plan import Plan
from app.domain.routing.policy import Policy
from app.domain.routing.snapshot import Snapshot, spill_key
from app.domain.target import Circuit, Target, TargetSeen
from tests.makers import NOON, an_attempt

_HOMES = "".join(
    f"""
  {name}:
    hosting: self_hosted
    engine: vllm
    url: http://127.0.0.1:{port}/v1
    model: m
    can: [chat, completions, json_schema{more}]
    context_tokens: {context}
    limits: {{in_flight: {most}, waiting: 4}}
    machine: {{type: l4, count: {count}}}
"""
    for name, port, context, most, count, more in (
        ("gpu-a", 8001, 8192, 16, 1, ", tools"),
        ("gpu-b", 8002, 8192, 16, 2, ", tools, images"),
        ("gpu-c", 8003, 32768, 8, 4, ""),
    )
)
TARGETS = (
    f"""
timezone: Europe/Berlin
targets:
{_HOMES}"""
    """
  hosted-mini:
    hosting: managed
    provider: openai
    model: gpt-5-mini
    can: [chat, json_schema, tools, images, audio]
    context_tokens: 400000
    credential: env:OPENAI_API_KEY
    limits: {requests_per_minute: 500, tokens_per_minute: 200000}
    data_classes: [public, internal]
  hosted-max:
    hosting: managed
    provider: openai
    model: gpt-5
    can: [chat, completions, json_schema, tools, images]
    context_tokens: 400000
    credential: env:OPENAI_API_KEY
rates:
  machines:
    l4: {usd_per_hour: 0.80, marginal_usd_per_hour: 0.11}
  targets:
    gpu-a: {measured: {prefill_tokens_per_s: 9100, decode_tokens_per_s: 1700}}
    hosted-mini:
      usd_per_million_tokens: {prompt: 0.25, cached_prompt: 0.025, completion: 2.00}
    hosted-max:
      usd_per_million_tokens: {prompt: 1.25, cached_prompt: 0.125, completion: 10.00}
budgets:
  research-monthly:
    of: {team: research}
    usd: 500
    every: month
  everything:
    usd: 20.5
    every: day
"""
)

MODELS = """
models:
  chat:
    rules:
      - name: restricted stays home
        when: request.data_class == "restricted" || caller.team == "legal"
        use: [gpu-a, gpu-b]
        affinity: session
      - name: nobody serves this
        when: request.priority > 8
        use: [gpu-c]
      - name: nights wait at home
        when: time.hour < 6 && request.deadline_s > 3600.0
        use: [gpu-a, gpu-b]
        wait: true
      - name: budget is nearly gone
        when: budget["research-monthly"].used > 0.9 && caller.team == "research"
        use: [gpu-c, hosted-mini]
        prefer: cheapest
      - name: crowded at home
        when: fleet["gpu-a"].in_flight > 12 && fleet["gpu-c"].predicted_ttft_ms > 2000.0
        use: [hosted-mini, hosted-max]
        prefer: {weighted: {hosted-mini: 90, hosted-max: 10}}
      - name: conversations
        when: request.tags.exists(t, t == "chatty")
        use: [gpu-a, gpu-b, gpu-c, hosted-mini]
        prefer: cheapest
        affinity: session
      - name: quick ones
        when: request.stream && request.prompt_tokens < 500
        use: [gpu-a, gpu-b, hosted-mini]
        prefer: fastest
      - name: everybody else
        use: [gpu-a, gpu-b, hosted-mini, hosted-max]
        prefer: {usd_per_second: 0.002}
        spill: {predicted_ttft_ms: 1500, max_usd_per_hour: 5}
        shadow: {target: gpu-c, share: 0.2, max_usd_per_day: 3}
  drawn:
    rules:
      - name: canary
        use: [gpu-a, gpu-b, hosted-mini]
        prefer: {weighted: {gpu-a: 70, gpu-b: 25, hosted-mini: 5}}
        affinity: session
    output_tokens: {default: 300, most: 4096}
  picky:
    rules:
      - name: only in the building hours
        when: time.weekday < 6 && time.hour >= 8 && time.hour < 18
        use: [gpu-c]
      - name: or when a budget is fresh
        when: budget["everything"].days_left > 0 && budget["everything"].remaining_usd > 10.0
        use: [hosted-max, gpu-c]
"""

#: Two revisions of a policy that differ in a few rules.
FILES: Mapping[str, str] = {"targets.yaml": TARGETS, "models.yaml": MODELS}
LATER_FILES: Mapping[str, str] = {
    "targets.yaml": TARGETS.replace("prompt: 0.25, cached_prompt: 0.025", "prompt: 0.20, cached_prompt: 0.02"),
    "models.yaml": MODELS.replace("gpu-a: 70, gpu-b: 25", "gpu-a: 30, gpu-b: 65")
    .replace("request.prompt_tokens < 500", "request.prompt_tokens < 800")
    .replace("predicted_ttft_ms: 1500, max_usd_per_hour: 5", "predicted_ttft_ms: 900"),
}

_START_US = int(NOON.timestamp() * 1_000_000)


def traffic(policy: Policy, *, count: int, seed: int) -> Iterator[Receipt]:
    """So many receipts, as the gateway would have written them under `policy`; the same for the same seed."""
    chance = Random(seed)
    for place in range(count):
        # From the middle of a night over some days, so that hours, weekdays and a change of the month all occur.
        at_us = _START_US + place * 67_000_000 + chance.randrange(1_000_000)
        facts = _facts(chance, request_id=_request_id(at_us, chance))
        snapshot = _world(chance, policy, at_us=at_us)
        decision = decide(facts, snapshot)
        served = isinstance(decision, Plan)
        attempt = an_attempt(attempt_id=f"{facts.request_id}/1", started_us=at_us)
        yield Receipt(
            request_id=facts.request_id,
            at_us=at_us,
            facts=facts,
            policy_digest=policy.digest,
            decision=decision,
            outcome=Outcome.COMPLETE if served else Outcome.REFUSED,
            status=200 if served else 503,
            attempts=(attempt,) if served else (),
            duration_s=chance.random(),
        )


def _request_id(at_us: int, chance: Random) -> str:
    digits = f"{at_us // 1000:012x}7{chance.getrandbits(12):03x}{0x8000 | chance.getrandbits(14):04x}"
    digits += f"{chance.getrandbits(48):012x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _facts(chance: Random, *, request_id: str) -> RequestFacts:
    prompt = int(chance.paretovariate(1.1) * 120)
    session = f"{chance.randrange(40):016x}" if chance.random() < 0.5 else ""
    return RequestFacts(
        request_id=request_id,
        endpoint=chance.choices([Endpoint.CHAT, Endpoint.COMPLETIONS], [9, 1])[0],
        model=chance.choices(["chat", "drawn", "picky"], [7, 2, 1])[0],
        stream=chance.random() < 0.6,
        prompt_tokens=prompt,
        output_tokens_most=chance.choice([None, None, 1, 256, 100_000]),
        n=chance.choice([1, 1, 1, 4]),
        has_tools=chance.random() < 0.2,
        has_images=chance.random() < 0.05,
        has_audio=chance.random() < 0.02,
        json_schema=chance.random() < 0.1,
        data_class=chance.choices(["", "public", "internal", "restricted"], [4, 3, 4, 1])[0],
        deadline_s=chance.choice([None, None, chance.uniform(0, 90_000), 3600.0]),
        priority=chance.randrange(10),
        tags=tuple(chance.sample(["chatty", "nightly", 'qu"ote', "ünïcode ☃"], chance.randrange(3))),
        session=session,
        prefix_tokens=chance.randrange(prompt + 1) if session else 0,
        caller=Caller(
            key_id=chance.choice(["abcdefgh", "hgfedcba"]),
            team=chance.choices(["research", "legal", "web"], [5, 1, 4])[0],
            cost_centre="cc-1",
            tags=tuple(chance.sample(["eu", "us"], chance.randrange(2))),
            models=chance.choice([None, frozenset({"chat", "drawn", "picky"})]),
            expires_at_s=chance.choice([None, 1e10, chance.uniform(2e9, 3e9)]),
        ),
    )


def _world(chance: Random, policy: Policy, *, at_us: int) -> Snapshot:
    at = datetime.fromtimestamp(at_us / 1_000_000, UTC).astimezone(policy.timezone)
    fleet = {name: _seen(chance, target) for name, target in policy.targets.items() if chance.random() < 0.98}
    budgets = {
        name: BudgetSeen.of(budget, spent=Nanodollars(int(budget.amount * chance.uniform(0, 1.3))), at=at)
        for name, budget in policy.budgets.items()
        if chance.random() < 0.9
    }
    spent = {
        spill_key(model=route.model, rule=rule.name): Nanodollars(chance.randrange(7_000_000_000))
        for route in policy.routes.values()
        for rule in route.rules
        if rule.spill is not None and chance.random() < 0.8
    }
    return Snapshot(policy=policy, fleet=fleet, at=at, budgets=budgets, spill_spent=spent)


def _seen(chance: Random, target: Target) -> TargetSeen:
    managed = target.machine is None
    quiet = TargetSeen(
        in_flight=chance.randrange(18) if chance.random() < 0.5 else 0,
        circuit=chance.choices(list(Circuit), [20, 1, 1])[0],
        credential_present=chance.random() < 0.95,
        rate_card=target.rate_card or chance.choice([None, _measured(chance), _measured(chance)]),
    )
    if managed:
        return replace(
            quiet,
            requests_left=chance.choice([None, 0, 500]) if target.requests_per_minute else None,
            tokens_left=chance.choice([None, chance.randrange(2000)]) if target.tokens_per_minute else None,
            predicted_ttft_ms=chance.choice([None, chance.lognormvariate(6, 1)]),
        )
    return replace(
        quiet,
        waiting=chance.choice([None, chance.randrange(9)]),
        saturation=chance.choice([None, chance.random() * 1.2, 0.1 + 0.2]),
        predicted_ttft_ms=chance.choice([None, chance.lognormvariate(7, 1.5), 1500.0, 1e-7, 1e22]),
        age_s=chance.choice([None, chance.expovariate(1)]),
    )


def _measured(chance: Random) -> RateCard:
    prompt = Decimal(chance.randrange(10**9)).scaleb(-9)
    return RateCard.of(prompt=prompt, cached_prompt=Decimal("0E-3"), output=prompt * 4, origin="measured")
