"""Everything that can go wrong, on one page.

    BreakevenError                      says what to do next, always
    ├── RequestRejected                 the caller's own doing: nothing was dispatched
    │   ├── BadRequest                  a field is missing, of the wrong type or out of bounds
    │   ├── BodyTooLarge
    │   ├── BodyTooLate                 it did not arrive in time
    │   ├── Unauthenticated             no key, a wrong key, a revoked key, an expired key
    │   ├── ModelUnknown                no route of that name
    │   ├── ModelNotAllowed             the key may not use it
    │   ├── RateLimited                 a limit by the minute of its key or team is reached
    │   └── RepeatRefused               its Idempotency-Key was used before, and has no answer for this request
    ├── BudgetExceeded                  a budget has no room for what the request may cost
    ├── NoTarget                        the policy leaves no target that may serve
    ├── NoPlace                         it got no place at a full target, or the target turned out to be another
    ├── TargetFailure                   one target failed one attempt
    ├── CallerLeft                      the caller hung up; a fact, not a fault
    ├── GatewayBusy                     this process has no room or no time for another request
    ├── LedgerUnavailable               a record cannot be kept, so no work may begin
    ├── PolicyInvalid                   the written policy has findings that forbid it
    └── SetupError                      the machine or its settings do not allow a start

How each becomes a status, a type and a code for the caller is one table: `api/problems.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from app.domain.fault import FaultKind as FaultKind  # noqa: PLC0414 (given on: most ask for it here)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.domain.findings import Finding
    from app.domain.limits import RateStanding
    from app.domain.routing.plan import Refusal


class BreakevenError(Exception):
    """Root of the tree. `str(error)` is a sentence that says what to do next."""

    #: The rule and the policy's digest, once its request was decided on: None before, and no rule where none matched.
    decided: tuple[str | None, str] | None = None
    #: A target began to work on it, or may have: to ask again is to pay again.
    executed: bool = False


class RequestRejected(BreakevenError):
    """The caller sent something that cannot be served. `param` names the field where there is one."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class BadRequest(RequestRejected):
    """The body or a field of it is malformed."""


class BodyTooLarge(RequestRejected):
    """The body is over the limit; it was not read to its end."""


class BodyTooLate(RequestRejected):
    """The body did not arrive whole within its time."""


class Unauthenticated(RequestRejected):
    """No valid key came with the request. The message never says which part was wrong."""


class ModelUnknown(RequestRejected):
    """The policy has no route of this name."""


class ModelNotAllowed(RequestRejected):
    """The key's list of models does not hold this one."""


class RateLimited(RequestRejected):
    """A limit by the minute has no room for this request. `retry_after_s` is None when waiting cannot help; `limit`
    says whose and of what, such as `team tokens`."""

    def __init__(
        self,
        message: str,
        *,
        limit: str = "",
        rates: Sequence[RateStanding] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.rates = tuple(rates)
        self.retry_after_s = retry_after_s


class RepeatReason(StrEnum):
    """Why a request with an idempotency key that was used before gets no answer."""

    IN_PROGRESS = "idempotency_in_progress"
    ANOTHER_REQUEST = "idempotency_key_reused"
    NOT_KEPT = "idempotency_answer_not_kept"


class RepeatRefused(RequestRejected):
    """The same Idempotency-Key came before, with the request `original`, and that one's answer cannot be given."""

    def __init__(self, message: str, *, reason: RepeatReason, original: str) -> None:
        super().__init__(message, code=reason.value)
        self.reason = reason
        self.original = original


class BudgetExceeded(BreakevenError):
    """A budget has no room for the most that the request may cost; nothing was dispatched."""

    def __init__(self, message: str, *, budget: str, resets_at: datetime) -> None:
        super().__init__(message)
        self.budget = budget
        self.resets_at = resets_at


class NoTarget(BreakevenError):
    """The decision was a refusal: every candidate was filtered out. Carries the refusal with its reasons. `code` says
    what callers are told where that is more than the refusal's reason; None: it is not."""

    def __init__(self, refusal: Refusal, *, code: str | None = None) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.code = code


class NoPlace(BreakevenError):
    """The request waited in the gateway's queue for a place at `target` and got none, or could not wait; or the target
    was asked what it serves just before, and it is another model. Nothing was sent there. `code` says which,
    `retry_after_s` when a place is to be expected; None: nobody knows."""

    def __init__(self, message: str, *, target: str, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.target = target
        self.code = code
        self.retry_after_s = retry_after_s


#: Faults of the request itself: what the target says of it is passed on.
CALLERS_FAULT = frozenset({FaultKind.BAD_REQUEST, FaultKind.CONTENT_REFUSED, FaultKind.CONTEXT_OVERFLOW})

#: Faults after which the target may have done work that it will bill.
MAY_HAVE_WORKED = frozenset(
    {
        FaultKind.FIRST_TOKEN_TIMEOUT,
        FaultKind.IDLE_TIMEOUT,
        FaultKind.TOTAL_TIMEOUT,
        FaultKind.CUT,
        FaultKind.INVALID_ANSWER,
        FaultKind.NOT_REPRODUCED,
    }
)

#: Faults of a target that did not begin: to ask again costs nothing twice.
NOT_TAKEN_ON = frozenset(
    {
        FaultKind.REFUSED_CONNECTION,
        FaultKind.CONNECT_TIMEOUT,
        FaultKind.OVERLOADED,
        FaultKind.RATE_LIMITED,
        FaultKind.MONEY_GONE,
        FaultKind.AUTH,
        FaultKind.NOT_FOUND,
    }
)


class TargetFailure(BreakevenError):
    """One attempt failed. `status` and `body` are the target's own answer, where it gave one.

    `body` is passed on to the caller only for faults in `CALLERS_FAULT`, and only if it is an OpenAI error body.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: FaultKind,
        target: str,
        status: int | None = None,
        body: bytes | None = None,
        retry_after_s: float | None = None,
        provider_request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.target = target
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s
        self.provider_request_id = provider_request_id

    @property
    def another_may_serve(self) -> bool:
        """True when the next candidate may be asked. What was too long for one may fit into another's larger context;
        an answer that one did not reproduce is hardly reproduced by a third."""
        if self.kind is FaultKind.NOT_REPRODUCED:
            return False
        return self.kind not in CALLERS_FAULT or self.kind is FaultKind.CONTEXT_OVERFLOW

    @property
    def may_have_worked(self) -> bool:
        """True when the target may bill for what it did before it failed."""
        return self.kind in MAY_HAVE_WORKED


class CallerLeft(BreakevenError):
    """The caller closed the connection before the answer ended."""


class GatewayBusy(BreakevenError):
    """This process of the gateway takes nothing new on at the moment; nothing was read or dispatched."""


class LedgerUnavailable(BreakevenError):
    """The spool cannot keep a record (full disk, failed fsync, over its cap); new work is refused, none is lost.

    `told`: what callers are told, where `str(error)` is the operator's business; None: the same."""

    def __init__(self, message: str, *, told: str | None = None) -> None:
        super().__init__(message)
        self.told = message if told is None else told


class PolicyInvalid(BreakevenError):
    """The written policy may not go live. Carries every finding, not the first one."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


class SetupError(BreakevenError):
    """A start that cannot succeed here: port taken, no disk, no binaries. One sentence, naming the cure."""
