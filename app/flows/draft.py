"""A receipt in the making: what is known so far of one request, and how it would be booked if it ended now."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.errors import TargetFailure
from app.domain.ledger.hold import Hold
from app.domain.ledger.receipt import Attempt, Receipt
from app.domain.metering.measurement import Measurement, Outcome
from app.domain.metering.meter import USAGE_ESTIMATED, Meter
from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge, price_flags
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.facts import RequestFacts
from app.domain.routing.plan import Plan, Refusal
from app.domain.target import Target
from app.domain.usage import Usage, UsageSource
from app.flows.limits import Admitted

#: Output tokens by which intents and checkpoints run ahead of what was delivered, so that a process that dies has
#: never booked less than it delivered.
CHECKPOINT_TOKENS = 64
#: What the caller of a request that it left itself would have seen (nginx's convention).
STATUS_CALLER_LEFT = 499


@dataclass(slots=True, kw_only=True)
class OpenAttempt:
    """One dispatch that is under way, with its meter and its price."""

    number: int
    target: Target
    price: RateCard
    meter: Meter
    started_us: int
    provider_request_id: str | None = None
    status: int | None = None
    #: Output tokens that the spool already covers.
    covered_tokens: int = CHECKPOINT_TOKENS

    def cost_of(self, usage: Usage) -> Nanodollars:
        return charge(usage=usage, price=self.price)


class ReceiptDraft:
    """Collects attempts; yields whole, immutable receipts. `started_s` is of the monotonic clock."""

    def __init__(
        self,
        *,
        facts: RequestFacts,
        at_us: int,
        started_s: float,
        caller_label: str | None,
        policy_digest: str,
        decision: Plan | Refusal,
        shadow_of: str | None = None,
    ) -> None:
        self._facts = facts
        self._at_us = at_us
        self._caller_label = caller_label
        self.policy_digest = policy_digest
        self._decision = decision
        self._shadow_of = shadow_of
        self._started_s = started_s
        self._overhead_s = 0.0
        self._closed: list[Attempt] = []
        #: What is held of budgets for it; grows with further attempts.
        self.holds: tuple[Hold, ...] = ()
        #: What its limits let in; None: it has none.
        self.admitted: Admitted | None = None

    @property
    def request_id(self) -> str:
        return self._facts.request_id

    @property
    def spent(self) -> Nanodollars:
        """What the attempts that ended cost."""
        return Nanodollars(sum(attempt.charge for attempt in self._closed))

    @property
    def prompt_tokens(self) -> int:
        """The prompt's estimate."""
        return self._facts.prompt_tokens

    def begin_attempt(self, *, target: Target, price: RateCard, now_s: float, now_us: int) -> OpenAttempt:
        """The next dispatch starts now."""
        if not self._closed:
            self._overhead_s = now_s - self._started_s
        meter = Meter(started_s=now_s, prompt_estimate=self._facts.prompt_tokens)
        return OpenAttempt(number=len(self._closed) + 1, target=target, price=price, meter=meter, started_us=now_us)

    def if_it_died_now(self, attempt: OpenAttempt) -> Receipt:
        """The receipt to book if this process ends before the next record: interrupted, estimated, flagged."""
        usage = Usage(prompt=self._facts.prompt_tokens, output=attempt.covered_tokens)
        guess = Measurement(
            usage=usage,
            usage_source=UsageSource.GATEWAY_ESTIMATE,
            ttft_s=None,
            tpot_s=None,
            duration_s=0.0,
            content_events=0,
            flags=(USAGE_ESTIMATED,),
        )
        died = self._as_attempt(attempt, guess, outcome=Outcome.INTERRUPTED, failure=None)
        return self._as_receipt(
            outcome=Outcome.INTERRUPTED, status=STATUS_CALLER_LEFT, attempts=(*self._closed, died), duration_s=0.0
        )

    def close_attempt(
        self,
        attempt: OpenAttempt,
        *,
        outcome: Outcome,
        now_s: float,
        failure: TargetFailure | None = None,
    ) -> Attempt:
        """The dispatch ended. A failure without any sign of work costs nothing; everything else costs what it used."""
        worked = failure is None or failure.may_have_worked
        measured = attempt.meter.read(at_s=now_s, worked=worked)
        closed = self._as_attempt(attempt, measured, outcome=outcome, failure=failure)
        self._closed.append(closed)
        return closed

    def receipt(self, *, outcome: Outcome, status: int, now_s: float) -> Receipt:
        """The final receipt."""
        return self._as_receipt(
            outcome=outcome, status=status, attempts=tuple(self._closed), duration_s=now_s - self._started_s
        )

    def _as_receipt(
        self, *, outcome: Outcome, status: int, attempts: tuple[Attempt, ...], duration_s: float
    ) -> Receipt:
        return Receipt(
            request_id=self._facts.request_id,
            at_us=self._at_us,
            facts=self._facts,
            caller_label=self._caller_label,
            policy_digest=self.policy_digest,
            decision=self._decision,
            outcome=outcome,
            status=status,
            attempts=attempts,
            duration_s=duration_s,
            overhead_s=self._overhead_s,
            shadow_of=self._shadow_of,
            holds=self.holds,
        )

    def _as_attempt(
        self, attempt: OpenAttempt, measured: Measurement, *, outcome: Outcome, failure: TargetFailure | None
    ) -> Attempt:
        target, price, usage = attempt.target, attempt.price, measured.usage
        applied = price if price.terms is None else price.sheet(prompt_tokens=usage.prompt, tier=usage.tier)
        return Attempt(
            attempt_id=f"{self._facts.request_id}/{attempt.number}",
            number=attempt.number,
            target=target.name,
            hosting=target.hosting,
            kind=target.kind,
            upstream_model=target.model,
            outcome=outcome,
            fault=None if failure is None else failure.kind.value,
            fault_message=None if failure is None else str(failure),
            status=attempt.status if failure is None else failure.status,
            provider_request_id=attempt.provider_request_id or (failure.provider_request_id if failure else None),
            started_us=attempt.started_us,
            usage=measured.usage,
            usage_source=measured.usage_source,
            content_events=measured.content_events,
            ttft_s=measured.ttft_s,
            tpot_s=measured.tpot_s,
            duration_s=measured.duration_s,
            rate_card_digest=price.digest,
            price_prompt=applied.prompt,
            price_cached_prompt=applied.cached_prompt,
            price_output=applied.output,
            charge=attempt.cost_of(measured.usage),
            flags=(*measured.flags, *price_flags(usage=usage, price=price)),
        )
