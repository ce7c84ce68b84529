"""Walk the plan until one target opens. After that there is no way back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from zlib import crc32

from app.domain.budget import Budget
from app.domain.errors import BadRequest, BudgetExceeded, FaultKind, LedgerUnavailable, TargetFailure
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.plan import Plan
from app.domain.routing.policy import Route
from app.domain.routing.snapshot import Snapshot
from app.domain.target import Circuit
from app.domain.trying import next_try
from app.flows.draft import OpenAttempt, ReceiptDraft
from app.flows.funding import attempt_needs
from app.flows.gateway import Asked, Gateway
from app.flows.leash import Leash
from app.live.wallet import grown
from app.ports import Piece, UpstreamAnswer, UpstreamCall


class Visit:
    """One attempt at one target, from the intent in the spool to its line in the receipt. Ends exactly once."""

    __slots__ = ("_draft", "_ended", "_gateway", "_leash", "_unread", "answer", "attempt")

    def __init__(self, attempt: OpenAttempt, *, draft: ReceiptDraft, leash: Leash, gateway: Gateway) -> None:
        self.attempt = attempt
        self.answer: UpstreamAnswer | None = None
        self._draft = draft
        self._leash = leash
        self._gateway = gateway
        self._ended = False
        self._unread: list[Piece] = []
        gateway.fleet.entered(
            attempt.target.name,
            at_s=gateway.clock.monotonic_s(),
            prompt_tokens=draft.prompt_tokens,
            meter=attempt.meter,
            streamed=draft.is_streamed,
        )
        gateway.readings.dispatched(target=attempt.target.name)

    def end(self, fault: BaseException | None) -> None:
        """The attempt ended, well (None) or by this fault. Books it in the draft and leaves the fleet."""
        if self._ended:
            return
        self._ended = True
        outcome, failure = self._meaning(fault)
        now_s = self._gateway.clock.monotonic_s()
        if fault is not None:
            self._hear_the_rest(at_s=now_s)
        closed = self._draft.close_attempt(self.attempt, outcome=outcome, now_s=now_s, failure=failure)
        self._gateway.fleet.left(
            closed.target,
            at_s=now_s,
            answered=outcome is Outcome.COMPLETE,
            failure=failure,
            ttft_s=closed.ttft_s,
            tpot_s=closed.tpot_s,
            usage=closed.usage,
            prompt_tokens=self._draft.prompt_tokens,
            meter=self.attempt.meter,
        )

    async def open(self, asked: Asked, *, route: Route, output_tokens_cap: int | None) -> None:
        """Ask the target; `answer` has begun then. Raises TargetFailure."""
        attempt = self.attempt
        call = UpstreamCall(
            attempt_id=f"{asked.facts.request_id}/{attempt.number}",
            target=attempt.target,
            endpoint=asked.facts.endpoint,
            fields=asked.fields,
            stream=asked.facts.stream,
            usage_wanted=asked.usage_wanted,
            timeouts=route.timeouts,
            output_tokens_cap=output_tokens_cap,
            unread=self._unread,
        )
        self.answer = await self._gateway.provider_of(attempt.target).open(call)
        attempt.status = self.answer.status
        attempt.provider_request_id = self.answer.provider_request_id

    def _hear_the_rest(self, *, at_s: float) -> None:
        """Nobody will read what has come meanwhile, but it was made: whoever leaves pays for it too."""
        for piece in (*self._unread, *(() if self.answer is None else self.answer.unread())):
            if self._draft.stream:
                self.attempt.hears(piece, at_s=at_s)
            else:
                self.attempt.hears_whole(piece.raw, piece.usage)

    def _meaning(self, fault: BaseException | None) -> tuple[Outcome, TargetFailure | None]:
        if fault is None:
            return Outcome.COMPLETE, None
        if isinstance(fault, TargetFailure):
            return Outcome.BROKEN if fault.may_have_worked else Outcome.REFUSED, fault
        if self._leash.pulled:
            return Outcome.ABANDONED, None
        if isinstance(fault, asyncio.CancelledError) and self._leash.expired:
            return Outcome.BROKEN, too_long(self.attempt.target.name)
        return Outcome.INTERRUPTED, None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(fault)
        if self.answer is not None:
            await self.answer.close()


async def dispatch(
    asked: Asked,
    plan: Plan,
    *,
    snapshot: Snapshot,
    route: Route,
    draft: ReceiptDraft,
    leash: Leash,
    gateway: Gateway,
    budgets: tuple[Budget, ...] = (),
    output_tokens_cap: int | None = None,
) -> Visit:
    """The first candidate that opens, within the route's attempts and the process's retry budget. Each attempt has its
    intent in the spool first, and before that what it may cost is held of `budgets`; for the first attempt it is in
    `draft.holds` already, under `output_tokens_cap`.

    Raises the last TargetFailure when none opens or there is no money for another, or at once one that no other target
    could mend.
    """
    failures: list[TargetFailure] = []
    while (name := await _next_target(failures, asked, plan, snapshot, route, leash, gateway)) is not None:
        cap = output_tokens_cap
        if failures and budgets:
            if not await _hold_more(asked, name, budgets, snapshot, draft, gateway):
                break
            needs = attempt_needs(asked, name, budgets=budgets, snapshot=snapshot, spent=draft.spent)
            cap = needs.output_tokens_cap
        visit = _begin(asked, name, snapshot=snapshot, draft=draft, leash=leash, gateway=gateway, cap=cap)
        try:
            await visit.open(asked, route=route, output_tokens_cap=cap)
        except TargetFailure as fault:
            visit.end(fault)
            failures.append(fault)
        except BaseException as fault:
            visit.end(fault)
            raise
        else:
            return visit
    raise failures[-1]


async def _next_target(
    failures: Sequence[TargetFailure],
    asked: Asked,
    plan: Plan,
    snapshot: Snapshot,
    route: Route,
    leash: Leash,
    gateway: Gateway,
) -> str | None:
    """Whom to ask now, after the pause that it needs; None: nobody any more."""
    if not failures:
        return plan.order[0]
    now = next_try(
        plan.order,
        failures,
        attempts_most=route.attempts,
        targets=snapshot.policy.targets,
        resting=_resting(gateway),
        jitter=_jitter(asked.facts.request_id),
        left_s=leash.left_s,
    )
    if now is None or not gateway.retries.take(at_s=gateway.clock.monotonic_s()):
        return None
    if now.pause_s:
        await asyncio.sleep(now.pause_s)
    return None if now.again and now.target in _resting(gateway) else now.target


def _resting(gateway: Gateway) -> set[str]:
    """Targets that may not be asked by now: their circuits are open, or they turned out to serve another model."""
    view = gateway.fleet.view(at_s=gateway.clock.monotonic_s())
    return {name for name, seen in view.items() if seen.circuit is Circuit.OPEN or seen.serves_instead}


def _jitter(request_id: str) -> float:
    """0 to 1, always the same for one request, and spread evenly over many."""
    return crc32(request_id.encode()) / 0xFFFFFFFF


def too_long(target: str) -> TargetFailure:
    """The whole request took longer than the route allows."""
    return TargetFailure(
        f"{target} did not finish within the route's total time; raise timeouts.total_s or ask for fewer tokens",
        kind=FaultKind.TOTAL_TIMEOUT,
        target=target,
    )


def _begin(
    asked: Asked,
    name: str,
    *,
    snapshot: Snapshot,
    draft: ReceiptDraft,
    leash: Leash,
    gateway: Gateway,
    cap: int | None,
) -> Visit:
    price = snapshot.fleet[name].rate_card
    assert price is not None, "the price filter lets no unpriced target into a plan"
    attempt = draft.begin_attempt(
        target=snapshot.policy.targets[name],
        price=price,
        now_s=gateway.clock.monotonic_s(),
        now_us=gateway.clock.unix_us(),
        output_tokens_cap=cap,
    )
    gateway.journal.intend(draft.if_it_died_now(attempt))
    return Visit(attempt, draft=draft, leash=leash, gateway=gateway)


async def _hold_more(
    asked: Asked, name: str, budgets: tuple[Budget, ...], snapshot: Snapshot, draft: ReceiptDraft, gateway: Gateway
) -> bool:
    """What a further attempt may cost more than is held already; False: the money is not there."""
    held = {hold.account: hold.amount for hold in draft.holds}
    try:
        needs = attempt_needs(asked, name, budgets=budgets, snapshot=snapshot, spent=draft.spent).needs
        more = [(budget, Nanodollars(max(need - held.get(budget.account, 0), 0))) for budget, need in needs]
        draft.holds = grown(draft.holds, await gateway.treasury.hold(more, at=snapshot.at))
    except (BudgetExceeded, BadRequest, LedgerUnavailable):
        return False
    return True
