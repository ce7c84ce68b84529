"""`app.domain.replay.tally`: what receipts come to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.replay.tally import NOT_TIMED, Tally, Times
from app.domain.routing.plan import Plan, Refusal, RefusalReason
from app.domain.target import Hosting
from app.domain.usage import Usage
from tests.makers import a_receipt, an_attempt


def answered(
    *,
    target: str = "home",
    managed: bool = False,
    ttft_s: float | None = 0.5,
    charge: int = 1000,
    spilled: bool = False,
) -> Receipt:
    attempt = an_attempt(
        target=target,
        hosting=Hosting.MANAGED if managed else Hosting.SELF_HOSTED,
        ttft_s=ttft_s,
        tpot_s=0.02,
        usage=Usage(prompt=100, output=10),
        charge=Nanodollars(charge),
    )
    receipt = a_receipt(attempts=(attempt,))
    assert isinstance(receipt.decision, Plan)
    return replace(receipt, decision=replace(receipt.decision, spilled=spilled))


def a_tally(*receipts: Receipt, objective_s: float | None = None) -> Tally:
    tally = Tally(objective_s=objective_s)
    for at_s, receipt in enumerate(receipts):
        ppm = 1_000_000 if receipt.final is not None and receipt.final.hosting is Hosting.MANAGED else 100_000
        tally.saw(receipt, at_s=at_s, first_token_most_s=2.0, marginal_ppm=ppm)
    return tally


@given(st.lists(st.floats(0, 100), min_size=1, max_size=600))
def test_a_percentile_is_the_least_time_that_so_many_do_not_exceed(times_s: list[float]) -> None:
    times = Times.of(times_s)
    for share, got in ((50, times.p50_s), (90, times.p90_s), (99, times.p99_s)):
        if got is None:
            assert share == 99
            assert len(times_s) < 500
            continue
        assert got in times_s
        assert sum(each <= got for each in times_s) * 100 >= share * len(times_s)
        assert sum(each < got for each in times_s) * 100 < share * len(times_s)


def test_of_nothing_nothing_is_told() -> None:
    assert Times.of([]) is NOT_TIMED
    tally = Tally(objective_s=1.0)
    assert (tally.requests, tally.lines(), tally.slices(4)) == (0, {}, ())
    assert tally.total().share == 0
    assert tally.total().within_objective is None


def test_targets_are_added_up_and_sum_to_the_total() -> None:
    tally = a_tally(
        answered(),
        answered(ttft_s=1.5, charge=3000),
        answered(target="api", managed=True, ttft_s=2.5, charge=20_000, spilled=True),
        answered(ttft_s=None),
        objective_s=1.0,
    )
    home, api, total = tally.lines()["home"], tally.lines()["api"], tally.total()
    assert (home.requests, api.requests, total.requests) == (3, 1, 4)
    assert (home.share, api.share) == (0.75, 0.25)
    assert (home.charge, home.marginal) == (5000, 500)
    assert (api.charge, api.marginal) == (20_000, 20_000)
    assert (total.charge, total.marginal) == (25_000, 20_500)
    assert (total.prompt_tokens, total.output_tokens) == (400, 40)
    assert home.within_objective == 0.5
    assert total.within_objective == pytest.approx(1 / 3)
    assert (home.too_late, api.too_late) == (0, 1)
    assert tally.spilled == 1
    assert tally.of(Hosting.MANAGED) == api
    assert tally.of(Hosting.SELF_HOSTED).requests == 3


def test_predictions_are_held_against_what_came() -> None:
    receipt = answered(ttft_s=0.5)
    candidate = receipt.decision.candidates[0]
    predicted = [
        replace(
            receipt,
            decision=replace(
                receipt.decision,
                candidates=(
                    replace(candidate, predicted_ttft_ms=None, seen=replace(candidate.seen, predicted_ttft_ms=ms)),
                ),
            ),
        )
        for ms in (700.0, 400.0, None)
    ]
    line = a_tally(*predicted).total()
    assert line.predicted == 2
    assert line.error_mean_s == pytest.approx((0.2 - 0.1) / 2)
    assert line.error_size_s == pytest.approx(0.1)


def test_who_got_no_answer_is_counted_apart_by_its_reason() -> None:
    refusal = Refusal(reason=RefusalReason.NO_TARGET, rule="the rule", message="nobody")
    refused = replace(answered(), decision=refusal, attempts=(), outcome=Outcome.REFUSED)
    failed_attempt = replace(answered().attempts[0], outcome=Outcome.REFUSED, fault_message="it is too long")
    failed = replace(answered(), attempts=(failed_attempt,), outcome=Outcome.REFUSED)
    tally = a_tally(refused, answered(), failed, refused)
    assert tally.refusals == {"the rule": 2}
    assert tally.failures == {"it is too long": 1}
    assert tally.requests == 4
    assert tally.total().requests == 1
    assert tally.total().share == 0.25


def test_the_time_is_told_in_even_parts_and_every_request_is_in_one() -> None:
    refusal = Refusal(reason=RefusalReason.NO_RULE, rule=None, message="nobody")
    tally = a_tally(
        answered(ttft_s=1.0),
        answered(target="api", managed=True),
        replace(answered(), decision=refusal, attempts=(), outcome=Outcome.REFUSED),
        answered(ttft_s=3.0),
        answered(ttft_s=4.0),
    )
    first, second = tally.slices(2)
    assert (first.at_s, second.at_s) == (0.0, 2.0)
    assert (first.requests, first.managed, first.refused, first.ttft.p50_s) == (2, 1, 0, 1.0)
    assert (second.requests, second.managed, second.refused, second.ttft.p50_s) == (3, 0, 1, 3.0)
    assert tally.refusals == {"no rule": 1}
    assert sum(each.requests for each in tally.slices(7)) == 5
    assert len(a_tally(answered()).slices(3)) == 3
