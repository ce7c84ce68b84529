from __future__ import annotations

import json

import pytest

from app.api.problems import RETRY_AFTER_MOST_S, RETRY_SPREAD_S, problem_of, status_of
from app.domain.errors import (
    BadRequest,
    BodyTooLarge,
    BodyTooLate,
    BreakevenError,
    FaultKind,
    LedgerUnavailable,
    ModelNotAllowed,
    ModelUnknown,
    NoPlace,
    NoTarget,
    RateLimited,
    TargetFailure,
    Unauthenticated,
)
from app.domain.limits import RateKind, RateStanding
from app.domain.routing.plan import Candidate, Refusal, RefusalReason
from app.domain.target import QueueSeen, TargetSeen


def _refusal(*filters: str) -> NoTarget:
    candidates = tuple(Candidate(target=name, rejected="no", filter=name, seen=TargetSeen()) for name in filters)
    return NoTarget(Refusal(reason=RefusalReason.NO_TARGET, rule="r", message="nobody may", candidates=candidates))


def _failure(kind: FaultKind, **named: object) -> TargetFailure:
    return TargetFailure("it failed", kind=kind, target="t", **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(("wait_s", "told_s"), [(None, 1), (0.2, 1), (12.3, 13), (900.0, RETRY_AFTER_MOST_S)])
def test_who_got_no_place_is_told_when_there_may_be_one(wait_s: float | None, told_s: int) -> None:
    problem = problem_of(NoPlace("no", target="t", code="queue_timeout", retry_after_s=wait_s))
    assert (problem.retry_after_s, problem.spread_s) == (told_s, RETRY_SPREAD_S)
    queue = QueueSeen(waiting=9, ahead=9, predicted_wait_ms=None if wait_s is None else 1000 * wait_s)
    full = Candidate(target="t", rejected="no", filter="queue", seen=TargetSeen(queue=queue))
    refusal = Refusal(reason=RefusalReason.NO_TARGET, rule="r", message="nobody may", candidates=(full,))
    assert problem_of(NoTarget(refusal)).retry_after_s == told_s
    coded = problem_of(NoTarget(refusal, code="queue_full"))
    assert (coded.status, coded.retry_after_s, json.loads(coded.body)["error"]["code"]) == (503, told_s, "queue_full")
    assert (b"x-should-retry", b"false") not in coded.headers


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unauthenticated("no"), 401, "invalid_api_key"),
        (Unauthenticated("no", code="key_expired"), 401, "key_expired"),
        (ModelNotAllowed("no"), 403, "model_not_allowed"),
        (ModelUnknown("no", param="model"), 404, "model_not_found"),
        (BadRequest("no"), 400, "invalid_request"),
        (BodyTooLate("no"), 408, "body_timeout"),
        (BodyTooLarge("no"), 413, "body_too_large"),
        (LedgerUnavailable("no"), 503, "ledger_unavailable"),
        (NoPlace("no", target="t", code="queue_full"), 503, "queue_full"),
        (_refusal("context"), 400, "context_length_exceeded"),
        (_refusal("features", "endpoint"), 400, "unsupported"),
        (_refusal("features", "circuit"), 503, "no_target"),
        (_refusal("features", "credential"), 400, "unsupported"),
        (_refusal("context", "price"), 400, "context_length_exceeded"),
        (_refusal("credential"), 503, "no_target"),
        (_failure(FaultKind.REFUSED_CONNECTION), 503, "refused_connection"),
        (_failure(FaultKind.FIRST_TOKEN_TIMEOUT), 504, "first_token_timeout"),
        (_failure(FaultKind.CUT), 502, "cut"),
        (_failure(FaultKind.RATE_LIMITED), 429, "rate_limited"),
        (BreakevenError("a secret detail"), 500, "internal_error"),
    ],
)
def test_each_error_has_its_status_and_code(error: BreakevenError, status: int, code: str) -> None:
    problem = problem_of(error)
    said = json.loads(problem.body)["error"]
    assert (problem.status, said["code"]) == (status, code)
    assert set(said) == {"message", "type", "param", "code"}
    assert status_of(error) == status


@pytest.mark.parametrize("kind", FaultKind)
def test_no_fault_of_a_target_is_without_a_status(kind: FaultKind) -> None:
    assert 400 <= problem_of(_failure(kind)).status < 600


@pytest.mark.parametrize(
    ("filters", "is_final"),
    [
        (("credential",), True),
        (("data_class", "features"), True),
        ((), True),
        (("credential", "circuit"), False),
        (("price",), False),
        (("model",), False),
    ],
)
def test_sdks_do_not_repeat_a_refusal_that_will_not_pass(filters: tuple[str, ...], is_final: bool) -> None:
    problem = problem_of(_refusal(*filters))
    assert problem.status == 503
    assert ((b"x-should-retry", b"false") in problem.headers) is is_final


def test_an_error_names_the_rule_and_the_policy_that_decided() -> None:
    error = _refusal("circuit")
    assert problem_of(error).headers == ()
    error.decided = ("nächtlich", "0123")
    assert problem_of(error).headers == ((b"x-breakeven-rule", b"n?chtlich"), (b"x-breakeven-policy", b"0123"))
    error.decided = (None, "0123")
    assert [name for name, _ in problem_of(error).headers] == [b"x-breakeven-policy"]


def test_an_unknown_error_tells_the_caller_no_detail() -> None:
    assert b"secret" not in problem_of(BreakevenError("a secret detail")).body


def test_what_is_the_operators_business_alone_is_not_told_to_callers() -> None:
    said = problem_of(LedgerUnavailable("/srv/spool is full", told="try again later")).body
    assert b"/srv" not in said
    assert b"try again later" in said


def test_a_targets_own_error_body_is_passed_on_only_when_the_caller_is_at_fault() -> None:
    own = b'{"error":{"message":"too long","code":400}}'
    assert problem_of(_failure(FaultKind.CONTEXT_OVERFLOW, status=400, body=own)).body == own
    assert problem_of(_failure(FaultKind.SERVER_ERROR, status=500, body=own)).body != own
    assert problem_of(_failure(FaultKind.BAD_REQUEST, status=400, body=b"<html>")).body != b"<html>"


def test_a_wait_is_named_and_bounded() -> None:
    assert problem_of(_failure(FaultKind.OVERLOADED, retry_after_s=1e9)).retry_after_s == RETRY_AFTER_MOST_S
    assert problem_of(_failure(FaultKind.OVERLOADED)).retry_after_s == 1
    for passing in ("circuit", "rate", "room", "queue", "spill_cap"):
        assert problem_of(_refusal(passing)).retry_after_s == 1
    assert problem_of(_refusal("price")).retry_after_s is None


RATE = RateStanding(kind=RateKind.REQUESTS, per_minute=100, left=0, full_in_s=60.0)


@pytest.mark.parametrize(("after_s", "told_s"), [(0.0, 1), (0.6, 1), (1.2, 2), (600.0, RETRY_AFTER_MOST_S)])
def test_who_is_over_a_limit_is_told_which_and_when_to_come_again(after_s: float, told_s: int) -> None:
    problem = problem_of(RateLimited("wait", rates=[RATE], retry_after_s=after_s))
    assert (problem.status, problem.retry_after_s) == (429, told_s)
    assert json.loads(problem.body)["error"]["code"] == "rate_limit_exceeded"
    assert (b"x-ratelimit-remaining-requests", b"0") in problem.headers
    assert not any(name == b"x-should-retry" for name, _ in problem.headers)


def test_who_could_never_be_let_in_is_told_not_to_try_again() -> None:
    problem = problem_of(RateLimited("too large", rates=[RATE]))
    assert (problem.status, problem.retry_after_s) == (429, None)
    assert (b"x-should-retry", b"false") in problem.headers
