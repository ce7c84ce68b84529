"""One table: what went wrong → status, type and code for the caller. Nothing else in the house chooses a status."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import msgspec

from app.api.rates import rate_headers
from app.api.reply import one_line
from app.api.wire.openai import error_body
from app.domain.errors import (
    CALLERS_FAULT,
    BadRequest,
    BodyTooLarge,
    BodyTooLate,
    BreakevenError,
    BudgetExceeded,
    FaultKind,
    GatewayBusy,
    LedgerUnavailable,
    ModelNotAllowed,
    ModelUnknown,
    NoPlace,
    NoTarget,
    RateLimited,
    RepeatReason,
    RepeatRefused,
    RequestRejected,
    TargetFailure,
    Unauthenticated,
)
from app.domain.routing.plan import Refusal

#: A wait that we name to the caller is at least and at most this long.
RETRY_AFTER_LEAST_S = 1
RETRY_AFTER_MOST_S = 60
#: Whoever was turned away together is told waits that differ by up to this, or they would come back together.
RETRY_SPREAD_S = 3

_INVALID = "invalid_request_error"
_SERVER = "server_error"

_REJECTED: tuple[tuple[type[RequestRejected], int, str, str], ...] = (
    (Unauthenticated, 401, "authentication_error", "invalid_api_key"),
    (ModelNotAllowed, 403, "permission_error", "model_not_allowed"),
    (ModelUnknown, 404, _INVALID, "model_not_found"),
    (BodyTooLate, 408, _INVALID, "body_timeout"),
    (BodyTooLarge, 413, _INVALID, "body_too_large"),
    (BadRequest, 400, _INVALID, "invalid_request"),
)

_FAILED: dict[FaultKind, tuple[int, str]] = {
    FaultKind.REFUSED_CONNECTION: (503, _SERVER),
    FaultKind.CONNECT_TIMEOUT: (503, _SERVER),
    FaultKind.FIRST_TOKEN_TIMEOUT: (504, _SERVER),
    FaultKind.IDLE_TIMEOUT: (504, _SERVER),
    FaultKind.TOTAL_TIMEOUT: (504, _SERVER),
    FaultKind.CUT: (502, _SERVER),
    FaultKind.INVALID_ANSWER: (502, _SERVER),
    FaultKind.NOT_REPRODUCED: (502, _SERVER),
    FaultKind.OVERLOADED: (503, _SERVER),
    FaultKind.RATE_LIMITED: (429, "rate_limit_error"),
    FaultKind.MONEY_GONE: (503, _SERVER),
    FaultKind.AUTH: (502, _SERVER),
    FaultKind.CONTEXT_OVERFLOW: (400, _INVALID),
    FaultKind.CONTENT_REFUSED: (400, _INVALID),
    FaultKind.BAD_REQUEST: (400, _INVALID),
    FaultKind.NOT_FOUND: (502, _SERVER),
    FaultKind.SERVER_ERROR: (502, _SERVER),
}

#: Filters whose "no" lies in the request itself: repeating it will not help.
_REQUESTS_OWN = frozenset({"endpoint", "features", "context"})
#: Filters whose "no" passes with time.
_PASSING = frozenset({"circuit", "rate", "room", "queue", "spill_cap"})
#: Filters that keep a target out whatever is asked, until its operator does something.
_OPERATORS = frozenset({"credential", "price", "model"})
#: For OpenAI's SDKs, which repeat every 5xx.
_NO_RETRY = (b"x-should-retry", b"false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as it goes on the wire."""

    status: int
    body: bytes
    retry_after_s: int | None = None
    #: Callers are told up to so many seconds more, each another number.
    spread_s: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()


def problem_of(error: BreakevenError) -> Problem:
    """How this error is spelled. Anything unknown is a 500 without details: those are in the log."""
    problem = _spelled(error)
    if error.decided is None:
        return problem
    rule, policy_digest = error.decided
    known = [(b"x-breakeven-policy", policy_digest.encode())]
    if rule is not None:
        known.insert(0, (b"x-breakeven-rule", one_line(rule)))
    return replace(problem, headers=(*problem.headers, *known))


def _spelled(error: BreakevenError) -> Problem:
    if isinstance(error, RequestRejected):
        if isinstance(error, RepeatRefused):
            return _repeated(error)
        return _limited(error) if isinstance(error, RateLimited) else _rejected(error)
    if isinstance(error, NoTarget):
        return _refused(error.refusal, code=error.code)
    if isinstance(error, TargetFailure):
        return _failed(error)
    if isinstance(error, NoPlace):
        wait_s = _retry_after_s(error.retry_after_s)
        return _problem(503, str(error), kind=_SERVER, code=error.code, retry_after_s=wait_s)
    return _unfunded(error)


def status_of(error: BreakevenError) -> int:
    """The status alone."""
    return problem_of(error).status


def _rejected(error: RequestRejected) -> Problem:
    for kind_of_error, status, kind, code in _REJECTED:
        if isinstance(error, kind_of_error):
            return _problem(status, str(error), kind=kind, code=error.code or code, param=error.param)
    return UNKNOWN


def _unfunded(error: BreakevenError) -> Problem:
    """The money is not there, or it cannot be written down."""
    if isinstance(error, BudgetExceeded):
        # OpenAI's word for money that is gone; its SDKs repeat no 402.
        return _problem(402, str(error), kind="insufficient_quota", code="budget_exceeded")
    if isinstance(error, LedgerUnavailable):
        return _problem(503, error.told, kind=_SERVER, code="ledger_unavailable", retry_after_s=RETRY_AFTER_LEAST_S)
    if isinstance(error, GatewayBusy):
        message = f"{error}; try again in a moment, or have its operator add processes"
        return _problem(503, message, kind=_SERVER, code="overloaded", retry_after_s=RETRY_AFTER_LEAST_S)
    return UNKNOWN


def _limited(error: RateLimited) -> Problem:
    """As OpenAI's SDKs read it: they wait as long as they are told, and do not repeat what can never be let in."""
    headers = rate_headers(error.rates)
    wait_s = None
    if error.retry_after_s is None:
        headers.append(_NO_RETRY)
    else:
        wait_s = min(max(ceil(error.retry_after_s), RETRY_AFTER_LEAST_S), RETRY_AFTER_MOST_S)
    body = error_body(message=str(error), kind="rate_limit_error", param=None, code="rate_limit_exceeded")
    return Problem(status=429, body=body, retry_after_s=wait_s, headers=tuple(headers))


def _repeated(error: RepeatRefused) -> Problem:
    """OpenAI's SDKs repeat every 409: that helps while the first request runs, and then gives its answer."""
    body = error_body(message=str(error), kind="idempotency_error", param="idempotency-key", code=error.reason.value)
    original = (b"x-breakeven-original-request", error.original.encode())
    if error.reason is RepeatReason.IN_PROGRESS:
        return Problem(status=409, body=body, retry_after_s=RETRY_AFTER_LEAST_S, headers=(original,))
    status = 422 if error.reason is RepeatReason.ANOTHER_REQUEST else 409
    return Problem(status=status, body=body, headers=(original, _NO_RETRY))


def _refused(refusal: Refusal, *, code: str | None) -> Problem:
    filters = {candidate.filter for candidate in refusal.candidates}
    # What the targets say that could serve at all; one without its credential could not have served anything.
    usable = filters - _OPERATORS
    if usable == {"context"}:
        return _problem(400, refusal.message, kind=_INVALID, code="context_length_exceeded", param="messages")
    if usable and usable <= _REQUESTS_OWN:
        return _problem(400, refusal.message, kind=_INVALID, code="unsupported")
    wait_s = _retry_after_s(_turn_s(refusal)) if filters & _PASSING else None
    problem = _problem(503, refusal.message, kind=_SERVER, code=code or refusal.reason.value, retry_after_s=wait_s)
    # A measurement or another model may come at any moment; a data class or a missing rule stays as it is.
    may_change = filters & (_PASSING | {"price", "model"})
    return problem if may_change else replace(problem, headers=(_NO_RETRY,))


def _turn_s(refusal: Refusal) -> float | None:
    """When the queue that is shortest will have let in those who wait now; None: nobody waits, or nothing is known."""
    queues = [one.seen.queue for one in refusal.candidates if one.filter == "queue" and one.seen.queue is not None]
    waits_ms = [queue.predicted_wait_ms for queue in queues if queue.predicted_wait_ms is not None]
    return min(waits_ms) / 1000 if waits_ms else None


def _retry_after_s(wait_s: float | None) -> int:
    return ceil(min(max(wait_s or 0, RETRY_AFTER_LEAST_S), RETRY_AFTER_MOST_S))


def _failed(failure: TargetFailure) -> Problem:
    status, kind = _FAILED[failure.kind]
    if failure.kind in CALLERS_FAULT and failure.body is not None and _is_error_object(failure.body):
        return Problem(status=failure.status or status, body=failure.body)
    wait_s = None
    if failure.kind in {FaultKind.OVERLOADED, FaultKind.RATE_LIMITED, FaultKind.REFUSED_CONNECTION}:
        wait_s = round(min(max(failure.retry_after_s or 0, RETRY_AFTER_LEAST_S), RETRY_AFTER_MOST_S))
    return _problem(status, str(failure), kind=kind, code=failure.kind.value, retry_after_s=wait_s)


class _ErrorObject(msgspec.Struct):
    error: dict[str, msgspec.Raw]


def _is_error_object(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=_ErrorObject)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _problem(
    status: int,
    message: str,
    *,
    kind: str,
    code: str,
    param: str | None = None,
    retry_after_s: int | None = None,
) -> Problem:
    body = error_body(message=message, kind=kind, param=param, code=code)
    spread_s = RETRY_SPREAD_S if status == 503 and retry_after_s is not None else 0
    return Problem(status=status, body=body, retry_after_s=retry_after_s, spread_s=spread_s)


UNKNOWN = _problem(
    500,
    "the gateway failed on this request; its operator finds the cause in the log under the request id",
    kind=_SERVER,
    code="internal_error",
)
