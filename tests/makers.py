"""Values for tests: every maker gives a sound default, and a test names only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from app.domain.caller import Caller
from app.domain.ledger.receipt import Attempt, Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.facts import Endpoint, RequestFacts
from app.domain.routing.plan import Candidate, Plan, Refusal
from app.domain.routing.policy import Policy, Preference, Route, Rule
from app.domain.routing.snapshot import Snapshot
from app.domain.target import Capability, Hosting, Target, TargetSeen
from app.domain.usage import Usage, UsageSource

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
REQUEST_ID = "019ab000-0000-7000-8000-000000000001"
CARD = RateCard.of(prompt=Decimal("0.25"), cached_prompt=Decimal("0.025"), output=Decimal(2))
CHEAP = RateCard.of(prompt=Decimal("0.01"), cached_prompt=Decimal(0), output=Decimal("0.10"))


def a_caller(**named: object) -> Caller:
    values: dict[str, object] = {"key_id": "abcdefgh", "team": "research", "cost_centre": "cc-1", **named}
    return Caller(**values)  # type: ignore[arg-type]


def some_facts(**named: object) -> RequestFacts:
    values: dict[str, object] = {
        "request_id": REQUEST_ID,
        "endpoint": Endpoint.CHAT,
        "model": "chat",
        "stream": False,
        "prompt_tokens": 900,
        "caller": a_caller(),
        **named,
    }
    return RequestFacts(**values)  # type: ignore[arg-type]


def a_target(name: str = "home", **named: object) -> Target:
    values: dict[str, object] = {
        "name": name,
        "hosting": Hosting.SELF_HOSTED,
        "kind": "vllm",
        "url": "http://127.0.0.1:8001/v1",
        "model": "smollm2",
        "can": frozenset({Capability.CHAT, Capability.COMPLETIONS}),
        "rate_card": CARD,
        **named,
    }
    return Target(**values)  # type: ignore[arg-type]


def a_route(*names: str, model: str = "chat", **named: object) -> Route:
    rule = Rule(name="the rule", when=None, use=names or ("home",), prefer=Preference.LISTED)
    values: dict[str, object] = {"model": model, "rules": (rule,), **named}
    return Route(**values)  # type: ignore[arg-type]


def a_policy(*targets: Target, route: Route | None = None) -> Policy:
    all_targets = targets or (a_target(),)
    the_route = route or a_route(*(target.name for target in all_targets))
    return Policy(
        digest="0123456789abcdef",
        targets={target.name: target for target in all_targets},
        routes={the_route.model: the_route},
        timezone=UTC,
    )


def a_snapshot(*targets: Target, route: Route | None = None, **seen: TargetSeen) -> Snapshot:
    policy = a_policy(*targets, route=route)
    fleet = {name: TargetSeen(rate_card=target.rate_card) for name, target in policy.targets.items()}
    return Snapshot(policy=policy, fleet={**fleet, **seen}, at=NOON)


def an_attempt(**named: object) -> Attempt:
    values: dict[str, object] = {
        "attempt_id": f"{REQUEST_ID}/1",
        "number": 1,
        "target": "home",
        "hosting": Hosting.SELF_HOSTED,
        "kind": "vllm",
        "upstream_model": "smollm2",
        "outcome": Outcome.COMPLETE,
        "status": 200,
        "started_us": 1_795_435_200_000_100,
        "usage": Usage(prompt=900, output=100, cached=128),
        "usage_source": UsageSource.PROVIDER_FINAL,
        "content_events": 100,
        "ttft_s": 0.25,
        "tpot_s": 0.02,
        "duration_s": 2.3,
        "rate_card_digest": CARD.digest,
        "price_prompt": CARD.prompt,
        "price_cached_prompt": CARD.cached_prompt,
        "price_output": CARD.output,
        "charge": Nanodollars(396_200),
        **named,
    }
    return Attempt(**values)  # type: ignore[arg-type]


def a_plan(*names: str, rule: str = "the rule") -> Plan:
    order = names or ("home",)
    candidates = tuple(
        Candidate(target=name, rejected=None, place=place, seen=TargetSeen(rate_card=CARD))
        for place, name in enumerate(order)
    )
    return Plan(rule=rule, prefer="listed", order=order, candidates=candidates)


def a_receipt(*attempts: Attempt, decision: Plan | Refusal | None = None, **named: object) -> Receipt:
    values: dict[str, object] = {
        "request_id": REQUEST_ID,
        "at_us": 1_795_435_200_000_000,
        "facts": some_facts(),
        "policy_digest": "0123456789abcdef",
        "decision": decision or a_plan(),
        "outcome": Outcome.COMPLETE,
        "status": 200,
        "attempts": attempts or (an_attempt(),),
        "duration_s": 2.31,
        "overhead_s": 0.0004,
        **named,
    }
    return Receipt(**values)  # type: ignore[arg-type]
