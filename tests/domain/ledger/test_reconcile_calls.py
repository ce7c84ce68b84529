"""`app.domain.ledger.reconcile_calls`: which line is which attempt, and every difference under its cause, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ledger.billing import BilledCall, BilledTokens, OurCall
from app.domain.ledger.reconcile_calls import BilledIndex, weigh_billed, weigh_ours, weigh_pair
from app.domain.ledger.reconciliation import Cause, Reconciliation, Tally
from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import ServiceTier, Sheet, Terms
from app.domain.usage import Usage, UsageSource
from tests.billing import MIDNIGHT, THE_DAY, USAGE, billed, our_call, told
from tests.makers import CARD, NOON

DAY = MIDNIGHT.date()
ONE = Nanodollars(1)
SHEET = Sheet(prompt=CARD.prompt, cached_prompt=CARD.cached_prompt, output=CARD.output)
HALF = SHEET.changed(lambda price: price / 2)
TIERED = RateCard.under(Terms.of(SHEET, service_tiers=(ServiceTier(name="flex", sheet=HALF),)))
COST = charge(usage=USAGE, price=CARD)


def weighed(
    ours: Sequence[OurCall], lines: Sequence[BilledCall], *, card: RateCard = CARD, unit: Nanodollars = ONE
) -> Reconciliation:
    tally, index = Tally(THE_DAY), BilledIndex(lines)
    for call in ours:
        line = index.take(call.provider_request_id, call.attempt_id)
        if line is None:
            weigh_ours(tally, call)
        else:
            weigh_pair(tally, call, line, card=card, unit=unit)
    for line in index.left():
        weigh_billed(tally, line, model=line.model)
    for line in index.twice:
        weigh_billed(tally, line, model=line.model, cause=Cause.BILLED_TWICE)
    return tally.compiled()


def causes(result: Reconciliation) -> dict[Cause, int]:
    return {line.cause: line.amount for line in result.causes}


def of_pair(ours: OurCall, *, card: RateCard = CARD, unit: Nanodollars = ONE, **named: object) -> dict[Cause, int]:
    return causes(weighed([ours], [billed(ours, **named)], card=card, unit=unit))


def cost_of(**named: int) -> int:
    return charge(usage=replace(USAGE, **named), price=CARD)


def test_the_same_call_on_both_sides_leaves_nothing() -> None:
    result = weighed([our_call()], [billed(our_call())])
    assert (result.total.ours, result.total.provider, result.causes, result.largest) == (COST, COST, (), ())
    assert (result.total.our_requests, result.total.provider_requests) == (1, 1)


def test_the_same_tokens_for_other_money_is_the_price() -> None:
    assert of_pair(our_call(), cost=Nanodollars(COST + 77)) == {Cause.PRICE: 77}


def test_another_split_of_cached_tokens_is_that_and_no_price() -> None:
    cost = cost_of(cached=0)
    assert of_pair(our_call(), tokens=told(replace(USAGE, cached=0)), cost=cost) == {Cause.CACHED: cost - COST}


def test_other_tokens_are_usage_and_what_is_left_at_our_price_is_the_price() -> None:
    cost = cost_of(output=140)
    tokens = told(replace(USAGE, output=140))
    assert of_pair(our_call(), tokens=tokens, cost=cost) == {Cause.USAGE: cost - COST}
    dearer = of_pair(our_call(), tokens=tokens, cost=cost + 50)
    assert dearer == {Cause.USAGE: cost - COST, Cause.PRICE: 50}


@pytest.mark.parametrize("source", [UsageSource.CHECKPOINT, UsageSource.GATEWAY_ESTIMATE, UsageSource.HOLD])
def test_where_our_row_is_estimated_other_tokens_are_the_estimate(source: UsageSource) -> None:
    cost = cost_of(output=140)
    found = of_pair(our_call(usage_source=source), tokens=told(replace(USAGE, output=140)), cost=cost)
    assert found == {Cause.ESTIMATE: cost - COST}
    assert of_pair(our_call(usage_source=source), tokens=BilledTokens(), cost=cost) == {Cause.ESTIMATE: cost - COST}


def test_another_service_tier_is_priced_by_the_card_or_takes_what_is_left() -> None:
    cheaper = charge(usage=replace(USAGE, tier="flex"), price=TIERED)
    assert of_pair(our_call(), card=TIERED, tier="flex", cost=cheaper) == {Cause.TIER: cheaper - COST}
    assert of_pair(our_call(), tier="Priority", cost=3 * COST) == {Cause.TIER: 2 * COST}
    assert of_pair(our_call(), tier="standard", cost=3 * COST) == {Cause.PRICE: 2 * COST}
    assert of_pair(our_call(), tier=None, cost=3 * COST) == {Cause.PRICE: 2 * COST}


def test_what_is_smaller_than_a_step_of_the_export_is_rounding_and_not_more() -> None:
    step = Nanodollars(1000)
    assert of_pair(our_call(), unit=step, cost=Nanodollars(COST + 1000)) == {Cause.ROUNDING: 1000}
    assert of_pair(our_call(), unit=step, cost=Nanodollars(COST - 1001)) == {Cause.PRICE: -1001}


def test_money_without_tokens_cannot_be_explained_and_says_so() -> None:
    assert of_pair(our_call(), tokens=BilledTokens(), cost=Nanodollars(COST + 5000)) == {Cause.UNEXPLAINED: 5000}


def test_a_credit_in_our_books_is_no_price_unless_the_seller_gave_it_too() -> None:
    ours = our_call(charge=Nanodollars(COST - 10_000), credit=Nanodollars(-10_000))
    assert of_pair(ours, cost=COST) == {Cause.CREDIT: 10_000}
    assert of_pair(ours, cost=Nanodollars(COST - 10_000)) == {}


def test_what_only_one_side_has_is_named_for_it() -> None:
    ours, theirs = our_call(), billed(our_call(), ids=("other",), cost=Nanodollars(9))
    result = weighed([ours], [theirs])
    assert causes(result) == {Cause.UNLOGGED: 9, Cause.NOT_AT_PROVIDER: -COST}
    assert [(each.request, each.residual) for each in result.largest] == [("req-1", -COST), ("other", 9)]


def test_a_call_that_never_reached_the_seller_is_not_looked_for_there() -> None:
    nothing = our_call(usage=Usage(prompt=0, output=0), usage_source=UsageSource.NOTHING_SENT)
    result = weighed([nothing], [])
    assert (result.causes, result.total.our_requests) == ((), 0)


def test_a_line_is_found_by_our_own_id_too_and_taken_once() -> None:
    ours = our_call(provider_request_id=None)
    assert causes(weighed([ours], [billed(ours, ids=(ours.attempt_id,))])) == {}
    two = [our_call(attempt_id="a/1"), our_call(attempt_id="b/1")]
    assert causes(weighed(two, [billed(our_call())])) == {Cause.NOT_AT_PROVIDER: -COST}


def test_lines_of_one_request_add_up_and_a_repeated_one_is_billed_twice() -> None:
    prompt = billed(our_call(), tokens=BilledTokens(prompt=900, cached=128), cost=cost_of(output=0))
    output = billed(our_call(), line=3, tokens=BilledTokens(output=100), cost=Nanodollars(COST - cost_of(output=0)))
    assert causes(weighed([our_call()], [prompt, output])) == {}
    again = weighed([our_call()], [billed(our_call()), billed(our_call(), line=3)])
    assert causes(again) == {Cause.BILLED_TWICE: COST}
    later = weighed([our_call()], [billed(our_call()), billed(our_call(), at=NOON + timedelta(hours=1))])
    assert causes(later) == {Cause.BILLED_TWICE: COST}
    nameless = [billed(our_call(), ids=(), line=number) for number in (2, 3)]
    assert causes(weighed([], nameless)) == {Cause.UNLOGGED: 2 * COST}


def test_a_call_counted_for_the_next_day_moves_between_days_and_not_in_the_total() -> None:
    late = MIDNIGHT + timedelta(days=1) - timedelta(seconds=1)
    tally = Tally(replace(THE_DAY, until=MIDNIGHT + timedelta(days=2)))
    ours = our_call(began_at=late)
    weigh_pair(tally, ours, billed(ours, at=late + timedelta(seconds=2), cost=COST + 7), card=CARD, unit=ONE)
    result = tally.compiled()
    assert {day: each.residual for (_, day), each in result.days.items()} == {
        DAY: -COST,
        DAY + timedelta(days=1): COST + 7,
    }
    border, price = sorted(result.causes, key=lambda line: line.amount)
    assert (border.cause, border.requests, border.more, border.less) == (Cause.TIME_BORDER, 1, COST, -COST)
    assert (price.cause, price.amount) == (Cause.PRICE, 7)


def test_over_the_edge_of_the_period_it_moves_in_the_total_too() -> None:
    after = THE_DAY.until + timedelta(seconds=1)
    ours = our_call()
    assert causes(weighed([ours], [billed(ours, at=after)])) == {Cause.TIME_BORDER: -COST}
    outside = our_call(began_at=after, counted=())
    assert causes(weighed([outside], [billed(outside, at=NOON)])) == {Cause.TIME_BORDER: COST}
    assert causes(weighed([outside], [billed(outside, at=after)])) == {}
    assert causes(weighed([outside], [])) == {}
    assert causes(weighed([], [billed(ours, at=after)])) == {}


def test_what_was_booked_late_for_a_closed_month_is_not_looked_for_in_this_ones_export() -> None:
    late = our_call(began_at=MIDNIGHT - timedelta(days=40), counted=((DAY, COST),))
    assert causes(weighed([late], [])) == {Cause.TIME_BORDER: -COST}


USAGES = st.builds(
    lambda prompt, cached, output, tier: Usage(prompt=prompt, cached=min(cached, prompt), output=output, tier=tier),
    st.integers(0, 5_000),
    st.integers(0, 5_000),
    st.integers(0, 5_000),
    st.sampled_from(["", "flex"]),
)
MOMENTS = st.integers(-86_400, 2 * 86_400).map(lambda seconds: MIDNIGHT + timedelta(seconds=seconds))
MONEY = st.integers(-(10**7), 10**10).map(Nanodollars)


@st.composite
def our_calls(draw: st.DrawFn) -> OurCall:
    return our_call(
        attempt_id=f"{draw(st.integers(0, 12))}/1",
        provider_request_id=draw(st.sampled_from([None, *(f"req-{number}" for number in range(8))])),
        model=draw(st.sampled_from(["one", "two"])),
        began_at=draw(MOMENTS),
        usage=draw(USAGES),
        usage_source=draw(st.sampled_from(UsageSource)),
        charge=draw(MONEY),
        credit=draw(st.sampled_from([0, -500])),
        counted=draw(st.sampled_from([(), ((DAY, Nanodollars(5_000)),), ((DAY, Nanodollars(-7)),)])),
    )


@st.composite
def billed_calls(draw: st.DrawFn) -> BilledCall:
    counts = st.none() | st.integers(0, 5_000)
    names = st.sampled_from([*(f"req-{number}" for number in range(8)), *(f"{number}/1" for number in range(12))])
    return BilledCall(
        line=draw(st.integers(2, 100)),
        ids=draw(st.lists(names, max_size=2).map(tuple)),
        at=draw(MOMENTS),
        model=draw(st.sampled_from(["one", "two", "three"])),
        tokens=BilledTokens(prompt=draw(counts), cached=draw(counts), output=draw(counts)),
        tier=draw(st.sampled_from([None, "default", "flex", "priority"])),
        cost=draw(MONEY),
    )


@given(
    ours=st.lists(our_calls(), max_size=10),
    lines=st.lists(billed_calls(), max_size=10),
    card=st.sampled_from([CARD, TIERED, RateCard.of(prompt=Decimal(3), cached_prompt=Decimal(0), output=Decimal(7))]),
    unit=st.sampled_from([1, 1000, 10**7]).map(Nanodollars),
)
def test_whatever_the_two_accounts_say_the_causes_sum_to_the_residual(
    ours: list[OurCall], lines: list[BilledCall], card: RateCard, unit: Nanodollars
) -> None:
    result = weighed(ours, lines, card=card, unit=unit)
    counted = sum(amount for call in ours if call.is_something for _, amount in call.counted)
    asked_for = sum(line.cost for line in lines if THE_DAY.since <= line.at < THE_DAY.until)
    assert (result.total.ours, result.total.provider) == (counted, asked_for)
    assert sum(line.amount for line in result.causes) == result.total.residual
    for level in (result.models, result.days):
        assert sum(each.residual for each in level.values()) == result.total.residual
