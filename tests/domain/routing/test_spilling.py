from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.money import Nanodollars
from app.domain.routing.decide import decide
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Preference, Rule, Spill
from app.domain.routing.ranking import Contender
from app.domain.routing.snapshot import Snapshot, spill_key
from app.domain.routing.spilling import hold_back_the_slow, reject_over_the_cap
from app.domain.target import Hosting, TargetSeen
from tests.makers import CARD, a_route, a_snapshot, a_target, some_facts

CAP = Nanodollars(5_000_000_000)


def contenders(**times_ms: float | None) -> list[Contender]:
    """Names that begin with `our` are self-hosted."""
    return [
        Contender(
            a_target(name, hosting=Hosting.SELF_HOSTED if name.startswith("our") else Hosting.MANAGED),
            TargetSeen(rate_card=CARD, predicted_ttft_ms=ms),
        )
        for name, ms in times_ms.items()
    ]


def a_world(spill: Spill, *, spent: int | None = None, **times_ms: float | None) -> Snapshot:
    rule = Rule(name="r", when=None, use=tuple(times_ms), prefer=Preference.LISTED, spill=spill)
    made = contenders(**times_ms)
    snapshot = a_snapshot(
        *(one.target for one in made),
        route=a_route("x", rules=(rule,)),
        **{one.target.name: one.seen for one in made},
    )
    key = spill_key(model="chat", rule="r")
    return snapshot if spent is None else replace(snapshot, spill_spent={key: Nanodollars(spent)})


@pytest.mark.parametrize(("spent", "is_out"), [(None, False), (CAP - 1, False), (CAP, True), (CAP + 1, True)])
def test_the_cap_takes_sellers_out_from_the_very_amount_on(spent: int | None, is_out: bool) -> None:
    ours, theirs = made = contenders(ours=None, theirs=None)
    reject_over_the_cap(made, spill=Spill(most_per_hour=CAP), spent=None if spent is None else Nanodollars(spent))
    assert ours.rejected is None
    assert (theirs.filter == "spill_cap") is is_out
    assert theirs.rejected == ("the rule has spent its $5.00 of this hour at managed targets" if is_out else None)


def test_without_a_cap_no_amount_is_too_much() -> None:
    (theirs,) = made = contenders(theirs=None)
    reject_over_the_cap(made, spill=Spill(), spent=Nanodollars(10**15))
    assert theirs.rejected is None


def test_an_earlier_reason_is_not_overwritten_by_the_cap() -> None:
    (theirs,) = made = contenders(theirs=None)
    theirs.rejected, theirs.filter = "its circuit is open", "circuit"
    reject_over_the_cap(made, spill=Spill(most_per_hour=Nanodollars(0)), spent=None)
    assert theirs.filter == "circuit"


@pytest.mark.parametrize(("ms", "stands_back"), [(None, False), (1500.0, False), (1500.1, True)])
def test_our_machine_stands_back_above_the_predicted_time_and_not_where_it_is_unknown(
    ms: float | None, stands_back: bool
) -> None:
    (ours,) = made = contenders(ours=ms)
    hold_back_the_slow(made, spill=Spill(predicted_ttft_ms=1500.0))
    assert (ours.held_back is not None) is stands_back
    assert ours.rejected is None


def test_a_slow_seller_does_not_stand_back() -> None:
    (theirs,) = made = contenders(theirs=9000.0)
    hold_back_the_slow(made, spill=Spill(predicted_ttft_ms=1500.0))
    assert theirs.held_back is None


def test_a_rule_with_a_cap_alone_holds_nobody_back() -> None:
    (ours,) = made = contenders(ours=9000.0)
    hold_back_the_slow(made, spill=Spill(most_per_hour=CAP))
    assert ours.held_back is None


def test_a_slow_machine_spills_to_a_seller_and_remains_the_fallback() -> None:
    plan = decide(some_facts(), a_world(Spill(predicted_ttft_ms=1500.0), ours=4000.0, theirs=None))
    assert isinstance(plan, Plan)
    assert plan.order == ("theirs", "ours")
    assert plan.spilled
    held = plan.candidates[0]
    assert (held.filter, held.place) == ("spill", 1)
    assert held.held_back == "its first token is predicted after 4000 ms, over the rule's 1500 ms"


def test_going_to_another_machine_of_ours_is_no_spill() -> None:
    plan = decide(some_facts(), a_world(Spill(predicted_ttft_ms=1500.0), ours=4000.0, ours_too=90.0, theirs=None))
    assert isinstance(plan, Plan)
    assert plan.order == ("ours_too", "theirs", "ours")
    assert not plan.spilled


def test_once_the_cap_is_spent_slow_is_better_than_nothing() -> None:
    spill = Spill(predicted_ttft_ms=1500.0, most_per_hour=CAP)
    plan = decide(some_facts(), a_world(spill, spent=CAP, ours=4000.0, theirs=None))
    assert isinstance(plan, Plan)
    assert plan.order == ("ours",)
    assert not plan.spilled
    assert plan.witness.spill_spent == CAP


def test_a_rule_that_knows_only_sellers_refuses_over_its_cap() -> None:
    refusal = decide(some_facts(), a_world(Spill(most_per_hour=CAP), spent=CAP, theirs=None))
    assert isinstance(refusal, Refusal)
    assert "spent its $5.00 of this hour" in refusal.message


def test_what_another_rule_spent_is_not_this_rules() -> None:
    snapshot = a_world(Spill(most_per_hour=CAP), ours=None, theirs=None)
    other = replace(snapshot, spill_spent={spill_key(model="chat", rule="another"): CAP})
    plan = decide(some_facts(), other)
    assert isinstance(plan, Plan)
    assert set(plan.order) == {"ours", "theirs"}


@pytest.mark.parametrize(("prompt_tokens", "is_held_back"), [(10, False), (2000, True)])
def test_a_long_prompt_spills_where_a_short_one_does_not(prompt_tokens: int, is_held_back: bool) -> None:
    seen = TargetSeen(rate_card=CARD, predicted_ttft_ms=100.0, prefill_tokens_per_s=1000.0)
    one = Contender(a_target(), seen, prompt_tokens=prompt_tokens)
    hold_back_the_slow([one], spill=Spill(predicted_ttft_ms=1500))
    assert (one.filter == "spill") is is_held_back


@pytest.mark.parametrize(
    ("is_idle", "base_ms", "is_held_back"),
    [
        (False, 2200.0, True),
        (True, 2200.0, False),  # learned under a load that is gone: who is never asked is never seen to be fast again
        (True, 1400.0, True),  # the prompt's own length makes it too slow
    ],
)
def test_an_idle_machine_is_not_left_for_a_time_that_was_learned_under_load(
    is_idle: bool, base_ms: float, is_held_back: bool
) -> None:
    seen = TargetSeen(rate_card=CARD, predicted_ttft_ms=base_ms, prefill_tokens_per_s=1000.0, is_idle=is_idle)
    one = Contender(a_target(), seen, prompt_tokens=700)
    hold_back_the_slow([one], spill=Spill(predicted_ttft_ms=1500))
    assert (one.filter == "spill") is is_held_back
