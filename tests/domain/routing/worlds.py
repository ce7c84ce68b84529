"""Random questions for `decide`: a policy, a fleet, budgets and a request, with conditions that need no CEL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from app.domain.budget import BudgetSeen
from app.domain.money import Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.facts import RequestFacts
from app.domain.routing.policy import Policy, Preference, Route, Rule, Shadow, Spill
from app.domain.routing.snapshot import Snapshot, spill_key
from app.domain.target import Capability, Circuit, Hosting, QueueSeen, Target, TargetSeen
from tests.makers import a_caller, a_target, some_facts

NAMES = ("a", "b", "c", "d", "e")
BUDGETS = ("research", "all")
DOLLAR = 1_000_000_000


@dataclass(frozen=True)
class Says:
    """A condition without CEL: it holds where the named field is at least so much, as `room.field` or
    `room[of].field`; where the field is not there, it does not hold."""

    room: str
    of: str
    field: str
    least: Any

    @property
    def source(self) -> str:
        return f"{self.room}[{self.of}].{self.field} >= {self.least}"

    @property
    def reads_fleet(self) -> frozenset[str]:
        return frozenset({self.of}) if self.room == "fleet" else frozenset()

    @property
    def reads_budgets(self) -> frozenset[str]:
        return frozenset({self.of}) if self.room == "budget" else frozenset()

    def holds(self, names: Mapping[str, Any]) -> bool:
        fields = names[self.room].get(self.of, {}) if self.of else names[self.room]
        return self.field in fields and bool(fields[self.field] >= self.least)


@dataclass(frozen=True)
class World:
    """A question. `at_us` is its moment in Unix microseconds, `rule` the one that is meant to match."""

    facts: RequestFacts
    snapshot: Snapshot
    at_us: int


def a_condition(room: str, field: str, least: object, *, of: str = "") -> Says:
    return Says(room, of, field, least)


CONDITIONS = st.one_of(
    st.builds(a_condition, st.just("request"), st.just("prompt_tokens"), st.integers(0, 2000)),
    st.builds(a_condition, st.just("time"), st.just("hour"), st.integers(0, 23)),
    st.builds(a_condition, st.just("fleet"), st.just("in_flight"), st.integers(0, 6), of=st.sampled_from(NAMES)),
    st.builds(a_condition, st.just("fleet"), st.just("waiting"), st.integers(0, 3), of=st.sampled_from(NAMES)),
    st.builds(a_condition, st.just("budget"), st.just("used"), st.floats(0, 2), of=st.sampled_from(BUDGETS)),
)
PRICES = st.decimals(min_value=0, max_value=20, places=2)
CARDS = st.builds(
    lambda prompt, output: RateCard.of(prompt=prompt, cached_prompt=prompt / Decimal(2), output=output), PRICES, PRICES
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


SEEN = st.builds(
    TargetSeen,
    in_flight=st.integers(0, 6),
    circuit=st.sampled_from((Circuit.CLOSED, Circuit.CLOSED, Circuit.HALF_OPEN, Circuit.OPEN)),
    credential_present=st.sampled_from((True, True, True, False)),
    rate_card=st.one_of(CARDS, CARDS, CARDS, st.none()),
    waiting=maybe(st.integers(0, 4)),
    saturation=maybe(st.floats(0, 1.5)),
    predicted_ttft_ms=maybe(st.floats(0, 5000)),
    age_s=maybe(st.floats(0, 60)),
    requests_left=maybe(st.integers(0, 3)),
    tokens_left=maybe(st.integers(0, 4000)),
    queue=maybe(
        st.builds(
            QueueSeen,
            waiting=st.integers(0, 9),
            ahead=st.integers(0, 9),
            predicted_wait_ms=maybe(st.floats(0, 60_000)),
            is_full=st.booleans(),
        )
    ),
)


def targets(name: str) -> st.SearchStrategy[Target]:
    return st.builds(
        a_target,
        st.just(name),
        hosting=st.sampled_from(Hosting),
        in_flight_most=maybe(st.integers(1, 6)),
        waiting_most=maybe(st.integers(0, 3)),
        marginal_ppm=st.integers(0, 1_000_000),
        can=st.sampled_from((frozenset(Capability), frozenset({Capability.CHAT}))),
        context_tokens=maybe(st.integers(500, 4000)),
    )


@st.composite
def rules(draw: st.DrawFn, *, name: str, when: Says | None, prefer: Preference | None = None) -> Rule:
    use = tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True)))
    chosen = prefer or draw(st.sampled_from(Preference))
    spill = st.builds(
        Spill,
        predicted_ttft_ms=maybe(st.floats(100, 4000)),
        most_per_hour=maybe(st.integers(0, 3).map(lambda usd: Nanodollars(usd * DOLLAR))),
    )
    shadow = st.builds(Shadow, target=st.sampled_from(NAMES), share_ppm=st.sampled_from((1, 500_000, 1_000_000)))
    return Rule(
        name=name,
        when=when,
        use=use,
        prefer=chosen,
        weights={name: draw(st.integers(0, 9)) for name in use} if chosen is Preference.WEIGHTED else {},
        per_second=Nanodollars(draw(st.integers(0, DOLLAR)) if chosen is Preference.BALANCED else 0),
        spill=draw(maybe(spill)),
        keeps_sessions=draw(st.booleans()),
        waits=draw(st.booleans()),
        shadow=draw(maybe(shadow)),
    )


@st.composite
def policies(draw: st.DrawFn, *, prefer: Preference | None = None) -> Policy:
    written = [
        draw(rules(name=f"rule {n}", when=condition, prefer=prefer))
        for n, condition in enumerate(draw(st.lists(CONDITIONS, max_size=3)))
    ]
    if draw(st.sampled_from((True, True, True, False))):
        written.append(draw(rules(name="last", when=None, prefer=prefer)))
    conditions = [rule.when for rule in written if rule.when is not None]
    route = Route(
        model="chat",
        rules=tuple(written),
        reads_fleet=tuple(sorted({name for one in conditions for name in one.reads_fleet})),
        reads_budgets=tuple(sorted({name for one in conditions for name in one.reads_budgets})),
    )
    return Policy(
        digest="0123456789abcdef",
        targets={name: draw(targets(name)) for name in NAMES},
        routes={"chat": route},
        timezone=draw(st.sampled_from((UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")))),
    )


@st.composite
def worlds(draw: st.DrawFn, *, prefer: Preference | None = None) -> World:
    policy = draw(policies(prefer=prefer))
    prompt = draw(st.integers(0, 2000))
    facts = some_facts(
        request_id=draw(st.uuids()).hex,
        prompt_tokens=prompt,
        prefix_tokens=draw(st.integers(0, prompt)),
        output_tokens_most=draw(maybe(st.integers(1, 3000))),
        n=draw(st.integers(1, 3)),
        has_tools=draw(st.booleans()),
        session=draw(st.sampled_from(("", "one", "another"))),
        caller=a_caller(team=draw(st.sampled_from(("legal", "sales")))),
    )
    at_us = draw(st.integers(1_700_000_000_000_000, 1_900_000_000_000_000))
    seen_budgets = st.builds(
        BudgetSeen, remaining_usd=st.floats(-10, 500), used=st.floats(0, 2), days_left=st.integers(1, 31)
    )
    keys = [spill_key(model="chat", rule=rule.name) for rule in policy.routes["chat"].rules]
    snapshot = Snapshot(
        policy=policy,
        fleet=draw(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, SEEN))),
        at=datetime.fromtimestamp(at_us / 1_000_000, UTC).astimezone(policy.timezone),
        budgets=draw(st.fixed_dictionaries({}, optional=dict.fromkeys(BUDGETS, seen_budgets))),
        spill_spent={key: Nanodollars(draw(st.integers(0, 4)) * DOLLAR) for key in keys if draw(st.booleans())},
    )
    return World(facts=facts, snapshot=snapshot, at_us=at_us)
