"""Receipts as Hypothesis makes them: every outcome, every kind of attempt, few names so that groups meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from hypothesis import strategies as st

from app.domain.budget import BudgetSeen
from app.domain.caller import Caller
from app.domain.errors import FaultKind
from app.domain.ledger.receipt import HEDGE_LOST, Attempt, Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.facts import Endpoint, RequestFacts
from app.domain.routing.plan import NOTHING_ELSE, Candidate, Plan, Refusal, RefusalReason, Witness
from app.domain.routing.policy import Preference
from app.domain.target import Circuit, Hosting, QueueSeen, TargetSeen
from app.domain.usage import Usage, UsageSource
from tests.makers import NOON

#: Three days around NOON, so that hours, days and a roll-up's edges all occur.
FIRST_US = int(NOON.timestamp() * 1e6) - 36 * 3_600_000_000
LAST_US = FIRST_US + 72 * 3_600_000_000

names = st.sampled_from(["a", "b", "ß", "with space", 'quo"te', "per%cent", "back\\slash", "日本"])
#: Any text that Postgres can keep: no zero byte, no lone surrogate.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
seconds = st.floats(min_value=0, max_value=1e5) | st.sampled_from([0.0, 0.001, 0.0011, 1.1, 1e-9, 600.0])
prices = st.decimals(min_value=0, max_value=1000, places=9).map(abs) | st.sampled_from(
    [Decimal("1E-9"), Decimal("2.50"), Decimal("1E+2")]
)
money = st.integers(0, 10**13).map(Nanodollars)
digests = st.text("0123456789abcdef", min_size=16, max_size=16)
flags = st.lists(st.sampled_from(["usage_estimated", "usage_suspect", "x,y", '{"a"}', "NULL", ""]), max_size=3).map(
    tuple
)


@st.composite
def usages(draw: Callable[..., int]) -> Usage:
    prompt, output = draw(st.integers(0, 10**7)), draw(st.integers(0, 10**6) | st.integers(0, 3))
    return Usage(
        prompt=prompt, output=output, cached=draw(st.integers(0, prompt)), reasoning=draw(st.integers(0, output))
    )


callers = st.builds(
    Caller,
    key_id=names,
    team=names,
    cost_centre=st.sampled_from(["cc-1", "cc-2", "cc-3"]),
    tags=st.lists(texts, max_size=3).map(tuple),
    models=st.none() | st.frozensets(names, max_size=3),
    expires_at_s=st.none() | st.floats(0, 1e11),
)
cards = st.builds(RateCard.of, prompt=prices, cached_prompt=prices, output=prices, origin=texts)
#: Whatever a fleet may have measured: any finite number that is not negative, to its last bit.
measured = st.none() | st.floats(min_value=0, allow_infinity=False)
seen = st.builds(
    TargetSeen,
    in_flight=st.integers(0, 99),
    circuit=st.sampled_from(Circuit),
    credential_present=st.booleans(),
    rate_card=st.none() | cards,
    waiting=st.none() | st.integers(0, 99),
    saturation=measured,
    predicted_ttft_ms=measured,
    age_s=measured,
    requests_left=st.none() | st.integers(0, 10**6),
    tokens_left=st.none() | st.integers(0, 10**12),
    queue=st.sampled_from(
        [None, QueueSeen(waiting=9, ahead=3), QueueSeen(waiting=1, ahead=0, predicted_wait_ms=1e-9, is_full=True)]
    ),
)
budgets = st.builds(
    BudgetSeen,
    remaining_usd=st.floats(allow_nan=False, allow_infinity=False).filter(bool),
    used=st.floats(min_value=0, allow_infinity=False),
    days_left=st.integers(1, 31),
)
witnesses = st.just(NOTHING_ELSE) | st.builds(
    Witness,
    fleet=st.dictionaries(names, seen, max_size=2),
    budgets=st.dictionaries(names, budgets, max_size=2),
    spill_spent=st.none() | money,
)
candidates = st.lists(
    st.builds(
        Candidate,
        target=names,
        rejected=st.none() | texts,
        filter=st.none() | texts,
        held_back=st.none() | texts,
        expected_charge=st.none() | money,
        cached_tokens=st.integers(0, 10**9),
        marginal_charge=st.none() | money,
        waiting_charge=st.none() | money,
        place=st.none() | st.integers(0, 8),
        seen=seen,
    ),
    max_size=3,
).map(tuple)
plans = st.builds(
    Plan,
    rule=names,
    prefer=st.sampled_from(Preference).map(str),
    order=st.lists(names, max_size=3).map(tuple),
    candidates=candidates,
    home=st.none() | names,
    spilled=st.booleans(),
    shadow=st.none() | names,
    witness=witnesses,
)
refusals = st.builds(
    Refusal,
    reason=st.sampled_from(RefusalReason),
    rule=st.none() | names,
    message=texts,
    candidates=candidates,
    witness=witnesses,
)


@st.composite
def receipts(draw: Callable[..., object]) -> Receipt:
    """One sound receipt with 0 to 3 attempts. As with real ids, its moment belongs to its id."""
    at_us: int = draw(st.integers(FIRST_US, LAST_US))  # type: ignore[assignment]
    request_id = str(UUID(int=(at_us // 1000 << 80) | (0x7 << 76) | (0x2 << 62) | at_us % 1000))
    count = draw(st.integers(0, 3))
    facts = draw(
        st.builds(
            RequestFacts,
            request_id=st.just(request_id),
            endpoint=st.sampled_from(Endpoint),
            model=names,
            stream=st.booleans(),
            prompt_tokens=st.integers(0, 10**9),
            output_tokens_most=st.none() | st.integers(0, 10**9),
            n=st.integers(1, 8),
            has_tools=st.booleans(),
            has_images=st.booleans(),
            has_audio=st.booleans(),
            json_schema=st.booleans(),
            data_class=texts,
            deadline_s=st.none() | seconds,
            priority=st.integers(-9, 9),
            session=digests | st.just(""),
            prefix_tokens=st.integers(0, 10**9),
            tags=st.lists(texts, max_size=2).map(tuple),
            caller=callers,
        )
    )
    attempts = tuple(draw(_attempt(request_id, number)) for number in range(1, count + 1))  # type: ignore[operator]
    if count > 1 and draw(st.booleans()):
        attempts = (*attempts[:-1], replace(attempts[-1], flags=(*attempts[-1].flags, HEDGE_LOST)))
    return draw(  # type: ignore[return-value]
        st.builds(
            Receipt,
            request_id=st.just(request_id),
            at_us=st.just(at_us),
            facts=st.just(facts),
            caller_label=st.none() | texts,
            policy_digest=digests,
            decision=plans | refusals,
            outcome=st.sampled_from(Outcome),
            status=st.sampled_from([200, 400, 429, 499, 503]),
            attempts=st.just(attempts),
            duration_s=seconds,
            overhead_s=seconds,
            flags=flags,
            shadow_of=st.none() | st.uuids().map(str),
        )
    )


def _attempt(request_id: str, number: int) -> st.SearchStrategy[Attempt]:
    return st.builds(
        Attempt,
        attempt_id=st.just(f"{request_id}/{number}"),
        number=st.just(number),
        target=names,
        hosting=st.sampled_from(Hosting),
        kind=st.sampled_from(["vllm", "openai"]),
        upstream_model=names,
        outcome=st.sampled_from(Outcome),
        fault=st.none() | st.sampled_from(FaultKind).map(str),
        fault_message=st.none() | texts,
        status=st.none() | st.integers(100, 599),
        provider_request_id=st.none() | texts,
        started_us=st.integers(0, LAST_US),
        usage=usages(),
        usage_source=st.sampled_from(UsageSource),
        content_events=st.integers(0, 10**6),
        ttft_s=st.none() | seconds,
        tpot_s=st.none() | st.floats(0, 10),
        duration_s=seconds,
        rate_card_digest=digests,
        price_prompt=prices,
        price_cached_prompt=prices,
        price_output=prices,
        charge=money,
        flags=flags,
    )
