"""`app.domain.ledger.reconcile_days`: what sums of days tell of their differences, and what stays unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import BadRequest
from app.domain.ledger.billing import UNTOLD, BilledDay, BilledTokens, OurCall
from app.domain.ledger.period import Period
from app.domain.ledger.reconcile_days import ALL_MODELS, OurDays, weigh_days
from app.domain.ledger.reconciliation import Cause, Reconciliation, Tally
from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import NOTHING, Usage, UsageSource
from tests.billing import MIDNIGHT, USAGE, our_call
from tests.makers import CARD, CHEAP, NOON

DAY = MIDNIGHT.date()
NEXT = DAY + timedelta(days=1)
TWO_DAYS = Period(since=MIDNIGHT, until=MIDNIGHT + timedelta(days=2))
ONE = Nanodollars(1)
COST = charge(usage=USAGE, price=CARD)
TEN = [our_call() for _ in range(10)]


def weighed(
    ours: Sequence[OurCall],
    lines: Sequence[BilledDay],
    *,
    cards: Sequence[RateCard] = (CARD,),
    unit: Nanodollars = ONE,
    all_models: bool = False,
) -> Reconciliation:
    days, tally = OurDays(all_models=all_models), Tally(TWO_DAYS)
    for number, call in enumerate(ours):
        days.add(call, card=cards[number % len(cards)])
    weigh_days(tally, days, lines, unit=unit)
    return tally.compiled()


def causes(result: Reconciliation) -> dict[Cause, int]:
    return {line.cause: line.amount for line in result.causes}


def a_day(count: int = 10, **named: object) -> BilledDay:
    """What the seller bills of so many of those calls."""
    values: dict[str, object] = {
        "day": DAY,
        "model": "gpt-5-mini-2025-08-07",
        "requests": count,
        "tokens": BilledTokens(prompt=900 * count, cached=128 * count, output=100 * count),
        "cost": Nanodollars(COST * count),
        **named,
    }
    return BilledDay(**values)  # type: ignore[arg-type]


def test_the_same_sums_on_both_sides_leave_nothing_and_the_model_has_our_name() -> None:
    result = weighed(TEN, [a_day()])
    assert (causes(result), list(result.models)) == ({}, ["gpt-5-mini"])
    assert (result.total.our_requests, result.total.provider_requests) == (10, 10)


def test_more_requests_than_ours_are_unlogged_and_fewer_are_not_at_the_provider() -> None:
    assert causes(weighed(TEN, [a_day(11)])) == {Cause.UNLOGGED: COST}
    assert causes(weighed(TEN, [a_day(8)])) == {Cause.NOT_AT_PROVIDER: -2 * COST}
    by_money_alone = a_day(11, tokens=UNTOLD)
    assert causes(weighed(TEN, [by_money_alone])) == {Cause.UNLOGGED: COST}


def test_a_model_or_day_that_one_side_lacks_is_named_for_it() -> None:
    other = a_day(1, model="web search", requests=None, tokens=UNTOLD, cost=Nanodollars(10**7))
    assert causes(weighed(TEN, [a_day(), other])) == {Cause.UNLOGGED: 10**7}
    assert causes(weighed(TEN, [])) == {Cause.NOT_AT_PROVIDER: -10 * COST}


def test_the_same_tokens_for_other_money_are_the_price() -> None:
    assert causes(weighed(TEN, [a_day(cost=Nanodollars(11 * COST))])) == {Cause.PRICE: COST}


def test_other_cached_tokens_are_valued_at_our_prices() -> None:
    tokens = BilledTokens(prompt=9000, cached=0, output=1000)
    cost = charge(usage=Usage(prompt=9000, output=1000), price=CARD)
    assert causes(weighed(TEN, [a_day(tokens=tokens, cost=cost)])) == {Cause.CACHED: cost - 10 * COST}


def test_other_tokens_are_usage_or_the_estimate_as_far_as_an_estimate_reaches() -> None:
    more = replace(a_day().tokens, output=1060)
    cost = Nanodollars(10 * COST + 60 * 2_000)
    assert causes(weighed(TEN, [a_day(tokens=more, cost=cost)])) == {Cause.USAGE: 120_000}
    guessed = [our_call(usage_source=UsageSource.CHECKPOINT), *TEN[1:]]
    assert causes(weighed(guessed, [a_day(tokens=more, cost=cost)])) == {Cause.ESTIMATE: 120_000}
    far = a_day(tokens=replace(more, output=1300), cost=Nanodollars(10 * COST + 300 * 2_000))
    assert causes(weighed(guessed, [far])) == {Cause.ESTIMATE: 200_000, Cause.USAGE: 400_000}


def test_another_share_of_service_tiers_is_that() -> None:
    tokens = BilledTokens(prompt=4500, cached=640, output=500)
    lines = [
        a_day(5, tokens=tokens, tier="default"),
        a_day(5, tokens=tokens, tier="priority", cost=Nanodollars(10 * COST)),
    ]
    assert causes(weighed(TEN, lines)) == {Cause.TIER: 5 * COST}
    untold = [replace(line, tier=None) for line in lines]
    assert causes(weighed(TEN, untold)) == {Cause.PRICE: 5 * COST}


def test_money_without_tokens_stays_unexplained_but_for_rounding() -> None:
    lines = [a_day(requests=None, tokens=UNTOLD, cost=Nanodollars(10 * COST + 9_000))]
    assert causes(weighed(TEN, lines)) == {Cause.UNEXPLAINED: 9_000}
    assert causes(weighed(TEN, lines, unit=Nanodollars(10_000))) == {Cause.ROUNDING: 9_000}


def test_where_tokens_differ_and_cost_no_one_price_what_is_left_is_not_called_a_price() -> None:
    more = replace(a_day().tokens, output=1060)
    mixed = weighed(TEN, [a_day(tokens=more, cost=Nanodollars(20 * COST))], cards=(CARD, CHEAP))
    assert set(causes(mixed)) == {Cause.USAGE, Cause.UNEXPLAINED}


def test_a_seller_who_counts_by_the_end_of_a_call_shifts_days_and_no_money() -> None:
    midnight = MIDNIGHT + timedelta(days=1)
    over = our_call(began_at=midnight - timedelta(seconds=2), ended_at=midnight + timedelta(seconds=3))
    result = weighed([*TEN, over], [a_day(), a_day(1, day=NEXT)])
    (border,) = result.causes
    assert (border.cause, border.requests, border.more, border.less) == (Cause.TIME_BORDER, 1, COST, -COST)
    assert {day: each.residual for (_, day), each in result.days.items()} == {DAY: -COST, NEXT: COST}
    began = weighed([*TEN, over], [a_day(11)])
    assert causes(began) == {}


def test_what_was_booked_late_or_happened_outside_is_no_fault_of_the_seller() -> None:
    late = our_call(began_at=MIDNIGHT - timedelta(days=30), counted=((DAY, COST),))
    assert causes(weighed([*TEN, late], [a_day()])) == {Cause.TIME_BORDER: -COST}
    sealed = our_call(counted=())
    assert causes(weighed([*TEN, sealed], [a_day(11)])) == {Cause.TIME_BORDER: COST}


def test_calls_that_never_reached_the_seller_count_on_neither_side() -> None:
    nothing = our_call(usage=NOTHING, usage_source=UsageSource.NOTHING_SENT)
    assert causes(weighed([*TEN, nothing], [a_day()])) == {}


def test_a_credit_of_ours_is_named() -> None:
    credited = our_call(charge=Nanodollars(COST - 5_000), credit=Nanodollars(-5_000))
    assert causes(weighed([credited], [a_day(1)])) == {Cause.CREDIT: 5_000}


def test_tokens_without_any_money_are_valued_at_our_prices_or_refused_never_zero() -> None:
    usage_alone = a_day(11, cost=None)
    result = weighed(TEN, [usage_alone])
    assert (causes(result), result.total.provider) == ({Cause.UNLOGGED: COST}, 11 * COST)
    with pytest.raises(BadRequest, match=r"gpt-9.*export of costs beside"):
        weighed(TEN, [usage_alone, a_day(1, model="gpt-9", cost=None)])


def test_tokens_and_costs_from_two_files_make_one_account() -> None:
    lines = [a_day(cost=None), a_day(requests=None, tokens=UNTOLD)]
    assert causes(weighed(TEN, lines)) == {}


def test_an_export_that_names_no_models_is_held_against_all_of_them_together() -> None:
    other = [our_call(model="another") for _ in range(10)]
    result = weighed([*TEN, *other], [a_day(20, model=None)], all_models=True)
    assert (causes(result), list(result.models)) == ({}, [ALL_MODELS])


DAYS = st.sampled_from([DAY, NEXT, DAY - timedelta(days=1)])
MONEY = st.integers(-(10**7), 10**10).map(Nanodollars)
COUNTS = st.none() | st.integers(0, 5_000)


@st.composite
def our_calls(draw: st.DrawFn) -> OurCall:
    began_at = NOON + timedelta(hours=draw(st.integers(-36, 60)))
    prompt = draw(st.integers(0, 5_000))
    days: list[date] = sorted(draw(st.sets(st.sampled_from([DAY, NEXT]))))
    return our_call(
        model=draw(st.sampled_from(["gpt-5-mini", "two"])),
        began_at=began_at,
        ended_at=began_at + timedelta(hours=draw(st.integers(0, 3))),
        usage=Usage(prompt=prompt, cached=draw(st.integers(0, prompt)), output=draw(st.integers(0, 5_000))),
        usage_source=draw(st.sampled_from(UsageSource)),
        charge=draw(MONEY),
        credit=draw(st.sampled_from([0, -500])),
        counted=tuple((day, draw(MONEY)) for day in days),
    )


@st.composite
def billed_days(draw: st.DrawFn) -> BilledDay:
    return BilledDay(
        day=draw(DAYS),
        model=draw(st.sampled_from(["gpt-5-mini", "two", "three"])),
        tier=draw(st.sampled_from([None, "default", "flex"])),
        requests=draw(st.none() | st.integers(0, 20)),
        tokens=BilledTokens(prompt=draw(COUNTS), cached=draw(COUNTS), output=draw(COUNTS)),
        cost=draw(MONEY),
    )


@given(
    ours=st.lists(our_calls(), max_size=10),
    lines=st.lists(billed_days(), max_size=8),
    unit=st.sampled_from([1, 1000, 10**7]).map(Nanodollars),
    all_models=st.booleans(),
)
def test_whatever_the_two_accounts_say_the_causes_sum_to_the_residual(
    ours: list[OurCall], lines: list[BilledDay], unit: Nanodollars, all_models: bool
) -> None:
    result = weighed(ours, lines, cards=(CARD, CHEAP), unit=unit, all_models=all_models)
    counted = sum(amount for call in ours if call.is_something for _, amount in call.counted)
    billed = sum(line.cost or 0 for line in lines if line.day in (DAY, NEXT))
    assert (result.total.ours, result.total.provider) == (counted, billed)
    assert sum(line.amount for line in result.causes) == billed - counted
    for level in (result.models, result.days):
        assert sum(each.residual for each in level.values()) == billed - counted
