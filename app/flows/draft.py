"""A receipt in the making: what is known so far of one request, and how it would be booked if it ended now."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.domain.errors import FaultKind, TargetFailure
from app.domain.ledger.hold import Hold
from app.domain.ledger.receipt import (
    HEDGE_LOST,
    PASSED_OVER,
    Attempt,
    Receipt,
    flagged,
    hedged_flag,
    waited_flag,
)
from app.domain.metering.measurement import Measurement, Outcome
from app.domain.metering.meter import USAGE_ESTIMATED, Meter
from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge, price_flags
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.facts import Endpoint, RequestFacts
from app.domain.routing.plan import Plan, Refusal
from app.domain.target import Target
from app.domain.usage import Usage, UsageLimits, UsageSource
from app.flows.limits import Admitted
from app.ports import Piece

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
    #: The estimate of its prompt.
    prompt_tokens: int
    started_us: int
    provider_request_id: str | None = None
    status: int | None = None
    #: Output tokens that the spool already covers.
    covered_tokens: int = CHECKPOINT_TOKENS
    limits: UsageLimits | None = None
    #: Every choice of the answer has its finish reason.
    finished: bool = False

    def hears(self, piece: Piece, *, at_s: float) -> None:
        """The meter is told what a piece of a stream says."""
        if piece.content_events:
            self.meter.saw_content(events=piece.content_events, content_bytes=piece.content_bytes, at_s=at_s)
        self.finished = self.finished or piece.finished
        if piece.usage is not None:
            self.meter.saw_usage(piece.usage, is_final=self.finished)

    def hears_whole(self, body: bytes, usage: Usage | None, *, text_bytes: int = 0) -> None:
        """The meter is told what came of an answer that is not streamed. `text_bytes`: of them known to be text."""
        if usage is not None:
            self.meter.saw_usage(usage)
        else:
            self.meter.saw_whole(body_bytes=len(body), text_bytes=text_bytes)

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
        self.started_s = started_s
        self._overhead_s = 0.0
        self._closed: list[Attempt] = []
        #: How many attempts have begun; two may be open at once.
        self.begun = 0
        #: Attempts that were broken off because another began to answer first: 1 at the most.
        self.hedges_lost = 0
        #: What is held of budgets for it; grows with further attempts.
        self.holds: tuple[Hold, ...] = ()
        #: What befell it before any attempt.
        self.flags: tuple[str, ...] = ()
        #: How long it was in the gateway's queue so far.
        self.waited_s = 0.0
        #: What its limits let in; None: it has none.
        self.admitted: Admitted | None = None

    @property
    def request_id(self) -> str:
        return self._facts.request_id

    @property
    def stream(self) -> bool:
        """The answer comes event by event."""
        return self._facts.stream

    @property
    def spent(self) -> Nanodollars:
        """What the attempts that ended cost."""
        return Nanodollars(sum(attempt.charge for attempt in self._closed))

    @property
    def output_tokens(self) -> int:
        """What the attempts that ended put out, by what was counted or passed."""
        return sum(attempt.usage.output for attempt in self._closed)

    def begin_attempt(
        self,
        *,
        target: Target,
        price: RateCard,
        now_s: float,
        now_us: int,
        output_tokens_cap: int | None = None,
        more_prompt_tokens: int = 0,
    ) -> OpenAttempt:
        """The next dispatch starts now. `output_tokens_cap`: sent with it where the caller names none.
        `more_prompt_tokens`: its prompt is so much longer than the caller's."""
        self.begun += 1
        if self.begun == 1:
            self._overhead_s = now_s - self.started_s - self.waited_s
        limits = _limits(self._facts, target, output_tokens_cap)
        prompt_tokens = self._facts.prompt_tokens + more_prompt_tokens
        return OpenAttempt(
            number=self.begun,
            target=target,
            price=price,
            meter=Meter(started_s=now_s, prompt_estimate=prompt_tokens, limits=limits),
            prompt_tokens=prompt_tokens,
            started_us=now_us,
            limits=limits,
        )

    def waited(self, *, target: str, waited_s: float, in_vain: str = "") -> None:
        """It was in the queue of this target so long, and got a place unless told why not."""
        self.waited_s += waited_s
        self.flags = (*self.flags, waited_flag(target=target, waited_s=waited_s, in_vain=in_vain))

    def passed_over(self, target: str, *, why: str) -> None:
        """This target of the plan was not asked."""
        self.flags = (*self.flags, flagged(PASSED_OVER, f"{target} was passed over: {why}"))

    def hedged(self, hedge: OpenAttempt, *, beside: OpenAttempt, after_s: float) -> None:
        """The second attempt began while the first was open."""
        self.flags = (*self.flags, hedged_flag(first=beside.target.name, second=hedge.target.name, after_s=after_s))

    def unhedged(self) -> None:
        """The attempt that began last was never sent: as if it had not begun."""
        self.begun -= 1
        self.flags = self.flags[:-1]

    def if_it_died_now(self, attempt: OpenAttempt, *, beside: OpenAttempt | None = None) -> Receipt:
        """The receipt to book if this process ends before the next record: interrupted, estimated, flagged. The last of
        its attempts is `attempt`, which checkpoints are of; `beside` is open too."""
        died = self._as_died(attempt)
        return self._as_receipt(
            outcome=Outcome.INTERRUPTED,
            status=STATUS_CALLER_LEFT,
            attempts=(*self._closed, died) if beside is None else (*self._closed, self._as_died(beside), died),
            duration_s=0.0,
        )

    def _as_died(self, attempt: OpenAttempt) -> Attempt:
        guess = Measurement(
            usage=Usage(prompt=attempt.prompt_tokens, output=attempt.covered_tokens),
            usage_source=UsageSource.GATEWAY_ESTIMATE,
            ttft_s=None,
            tpot_s=None,
            duration_s=0.0,
            content_events=0,
            flags=(USAGE_ESTIMATED,),
        )
        return self._as_attempt(attempt, guess, outcome=Outcome.INTERRUPTED, failure=None)

    def close_attempt(
        self,
        attempt: OpenAttempt,
        *,
        outcome: Outcome,
        now_s: float,
        failure: TargetFailure | None = None,
        lost: bool = False,
    ) -> Attempt:
        """The dispatch ended. A failure without any sign of work costs nothing; everything else costs what it used.
        `lost`: another attempt beside it began to answer first."""
        worked = failure is None or failure.may_have_worked
        unseen = None
        if outcome is not Outcome.COMPLETE and (failure is None or failure.kind is FaultKind.TOTAL_TIMEOUT):
            unseen = self._unseen(attempt)
        measured = attempt.meter.read(at_s=now_s, worked=worked, unseen=unseen)
        closed = self._as_attempt(attempt, measured, outcome=outcome, failure=failure)
        # The second failed while the first is open: the answer, if one comes, is not the last attempt's.
        is_first_open = attempt.number > len(self._closed) + 1
        if lost or is_first_open:
            self.hedges_lost += lost
            closed = replace(closed, flags=(*closed.flags, HEDGE_LOST))
        self._closed.append(closed)
        if attempt.number < len(self._closed):
            self._closed.sort(key=lambda each: each.number)
        return closed

    def receipt(self, *, outcome: Outcome, status: int, now_s: float) -> Receipt:
        """The final receipt."""
        return self._as_receipt(
            outcome=outcome, status=status, attempts=tuple(self._closed), duration_s=now_s - self.started_s
        )

    def _unseen(self, attempt: OpenAttempt) -> tuple[int, UsageSource] | None:
        """What to assume of an answer in one piece that was left before it had come: all that it could have been, as
        far as a cap or a hold says that; otherwise what the spool covers. Of a stream all that came was seen."""
        if self._facts.stream:
            return None
        most = None if attempt.limits is None else attempt.limits.output_most
        if most is not None and (self.holds or self._facts.output_tokens_most is not None):
            return most, UsageSource.HOLD
        return attempt.covered_tokens, UsageSource.CHECKPOINT

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
            flags=self.flags,
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


def _limits(facts: RequestFacts, target: Target, output_tokens_cap: int | None) -> UsageLimits | None:
    """The most that an attempt can use; a completion may hold many prompts, which facts do not count."""
    if facts.endpoint is not Endpoint.CHAT:
        return None
    context, cap = target.context_tokens, facts.output_tokens_most
    if cap is None:
        cap = output_tokens_cap
    if cap is None or (context is not None and context < cap):
        cap = context
    if cap is None and context is None:
        return None
    return UsageLimits(prompt_most=context, output_most=None if cap is None else cap * facts.n)
