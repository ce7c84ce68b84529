from __future__ import annotations

import pytest

from app.domain.errors import FaultKind, TargetFailure
from app.domain.target import Target
from app.domain.trying import PAUSE_MOST_S, REPEAT_AFTER_S, Try, next_try
from tests.makers import a_target

TARGETS = {name: a_target(name) for name in ("first", "second", "third")}


def _failed(target: str, kind: FaultKind, *, retry_after_s: float | None = None) -> TargetFailure:
    return TargetFailure("it failed", kind=kind, target=target, retry_after_s=retry_after_s)


def _next(
    *failures: TargetFailure,
    order: tuple[str, ...] = ("first", "second"),
    targets: dict[str, Target] | None = None,
    attempts_most: int = 3,
    resting: tuple[str, ...] = (),
    left_s: float = 600.0,
) -> Try | None:
    return next_try(
        order,
        failures,
        attempts_most=attempts_most,
        targets=targets or TARGETS,
        resting=resting,
        jitter=0.5,
        left_s=left_s,
    )


def test_the_pick_is_asked_first() -> None:
    assert _next() == Try(target="first")


ENDS_THE_WALK = {FaultKind.BAD_REQUEST, FaultKind.CONTENT_REFUSED, FaultKind.NOT_REPRODUCED}


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in ENDS_THE_WALK])
def test_what_is_not_the_requests_own_fault_goes_to_the_next_at_once(kind: FaultKind) -> None:
    larger = {**TARGETS, "first": a_target("first", context_tokens=1000), "second": a_target("second")}
    assert _next(_failed("first", kind), targets=larger) == Try(target="second")


@pytest.mark.parametrize("kind", sorted(ENDS_THE_WALK))
def test_what_is_the_requests_own_fault_or_was_answered_otherwise_ends_the_walk(kind: FaultKind) -> None:
    assert _next(_failed("first", kind)) is None


def test_no_more_attempts_are_made_than_allowed() -> None:
    assert _next(_failed("first", FaultKind.SERVER_ERROR), attempts_most=1) is None


def test_a_candidate_whose_circuit_opened_meanwhile_is_passed_over() -> None:
    failure = _failed("first", FaultKind.CUT)
    assert _next(failure, order=("first", "second", "third"), resting=("second",)) == Try(target="third")


def test_a_prompt_that_was_too_long_goes_on_to_larger_contexts_only() -> None:
    targets = {
        name: a_target(name, context_tokens=size)
        for name, size in (("small", 4_000), ("same", 4_000), ("large", 32_000))
    }
    order = ("small", "same", "large")
    small = _failed("small", FaultKind.CONTEXT_OVERFLOW)
    assert _next(small, order=order, targets=targets) == Try(target="large")
    large = _failed("large", FaultKind.CONTEXT_OVERFLOW)
    assert _next(small, large, order=order, targets=targets) is None


def test_after_a_context_of_unknown_size_only_another_of_unknown_size_is_tried() -> None:
    targets = {"unknown": a_target("unknown", context_tokens=None), "known": a_target("known", context_tokens=9_000)}
    failure = _failed("unknown", FaultKind.CONTEXT_OVERFLOW)
    assert _next(failure, order=("unknown", "known"), targets=targets) is None


def test_the_only_target_is_asked_once_more_after_a_moment_and_no_third_time() -> None:
    failure = _failed("first", FaultKind.SERVER_ERROR)
    again = _next(failure, order=("first",))
    assert again == Try(target="first", pause_s=1.5 * REPEAT_AFTER_S, again=True)
    assert _next(failure, failure, order=("first",)) is None


def test_when_all_have_failed_the_one_that_may_be_asked_soonest_is() -> None:
    slow = _failed("first", FaultKind.OVERLOADED, retry_after_s=3)
    quick = _failed("second", FaultKind.SERVER_ERROR)
    assert _next(slow, quick) == Try(target="second", pause_s=1.5 * REPEAT_AFTER_S, again=True)


@pytest.mark.parametrize("kind", [FaultKind.OVERLOADED, FaultKind.RATE_LIMITED])
def test_a_pause_that_the_target_asks_for_is_kept(kind: FaultKind) -> None:
    again = _next(_failed("first", kind, retry_after_s=1), order=("first",))
    assert again is not None
    assert again.again
    assert 1 <= again.pause_s < 2


def test_a_rate_limit_without_a_pause_is_not_asked_again() -> None:
    assert _next(_failed("first", FaultKind.RATE_LIMITED), order=("first",)) is None


@pytest.mark.parametrize(("pause_s", "left_s"), [(PAUSE_MOST_S + 1, 600.0), (5.0, 4.0)])
def test_nobody_waits_beyond_its_patience_or_its_own_time(pause_s: float, left_s: float) -> None:
    failure = _failed("first", FaultKind.OVERLOADED, retry_after_s=pause_s)
    assert _next(failure, order=("first",), left_s=left_s) is None


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.FIRST_TOKEN_TIMEOUT,
        FaultKind.CONNECT_TIMEOUT,
        FaultKind.CUT,
        FaultKind.MONEY_GONE,
        FaultKind.AUTH,
        FaultKind.NOT_FOUND,
    ],
)
def test_what_costs_time_or_money_or_cannot_pass_is_not_asked_again(kind: FaultKind) -> None:
    assert _next(_failed("first", kind), order=("first",)) is None


def test_who_may_not_take_over_is_not_asked_again_though_it_failed_in_passing() -> None:
    passing = _failed("first", FaultKind.SERVER_ERROR)
    cut = _failed("second", FaultKind.CUT)
    assert _next(passing, cut, order=("second",)) is None


def test_a_target_that_rests_by_now_is_not_waited_for_unless_it_named_the_pause_itself() -> None:
    refused = _failed("first", FaultKind.REFUSED_CONNECTION)
    assert _next(refused, order=("first",), resting=("first",)) is None
    busy = _failed("first", FaultKind.OVERLOADED, retry_after_s=1)
    assert _next(busy, order=("first",), resting=("first",)) is not None
