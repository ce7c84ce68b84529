"""Walk the plan until one target opens. What becomes of an answer that breaks after that is `stream.py`'s, or for one
that is not streamed `relay.py`'s."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from zlib import crc32

from app.domain.budget import Budget
from app.domain.errors import BadRequest, BudgetExceeded, FaultKind, LedgerUnavailable, NoPlace, TargetFailure
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.filters import serves_the_model
from app.domain.routing.policy import Route
from app.domain.routing.snapshot import UNSEEN, Snapshot
from app.domain.target import Circuit, TargetSeen
from app.domain.telling import Telling
from app.domain.trying import next_try
from app.flows.draft import OpenAttempt, ReceiptDraft
from app.flows.funding import AttemptNeeds, attempt_needs
from app.flows.gateway import Asked, Gateway
from app.flows.hedge import HedgeLost, free_now, race
from app.flows.leash import Leash
from app.flows.queueing import look, place_at
from app.live.wallet import Short, grown
from app.ports import Piece, UpstreamAnswer, UpstreamCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One request on its way to targets: what is asked, of whom, within which bounds."""

    asked: Asked
    #: Names of targets, in the order in which they are asked.
    order: tuple[str, ...]
    snapshot: Snapshot
    route: Route
    draft: ReceiptDraft
    leash: Leash
    gateway: Gateway
    #: Before an attempt, what it may cost is held of these; for the first it is in `draft.holds` already.
    budgets: tuple[Budget, ...] = ()
    #: What has to be sent with the first attempt, where its holds rest on it.
    output_tokens_cap: int | None = None
    #: The rule waits for full targets.
    waits: bool = False
    #: What the caller has been told, where another target may answer anew or go on.
    telling: Telling | None = None
    #: The beginning of the answer, where what follows is asked for, and about how many tokens it has.
    prefix: str = ""
    prefix_tokens: int = 0


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
            prompt_tokens=attempt.prompt_tokens,
            meter=attempt.meter,
            streamed=draft.stream,
        )
        gateway.readings.dispatched(target=attempt.target.name)

    @property
    def request_id(self) -> str:
        return self._draft.request_id

    def end(self, fault: BaseException | None) -> None:
        """The attempt ended, well (None) or by this fault. Books it in the draft and leaves the fleet."""
        if self._ended:
            return
        self._ended = True
        outcome, failure = self._meaning(fault)
        now_s = self._gateway.clock.monotonic_s()
        if fault is not None:
            self._hear_the_rest(at_s=now_s)
        lost = isinstance(fault, HedgeLost)
        closed = self._draft.close_attempt(self.attempt, outcome=outcome, now_s=now_s, failure=failure, lost=lost)
        gateway = self._gateway
        gateway.fleet.left(
            closed.target,
            at_s=now_s,
            answered=outcome is Outcome.COMPLETE,
            failure=failure,
            ttft_s=closed.ttft_s,
            tpot_s=closed.tpot_s,
            usage=closed.usage,
            prompt_tokens=self.attempt.prompt_tokens,
            meter=self.attempt.meter,
        )
        if outcome is Outcome.COMPLETE and self.attempt.target.in_flight_most is not None:
            gateway.queues.answered(closed.target, after_s=closed.duration_s)
        if gateway.queues.waiting:
            look(gateway)

    async def open(self, errand: Errand, *, cap: int | None) -> None:
        """Ask the target; `answer` has begun then. Raises TargetFailure."""
        attempt, asked = self.attempt, errand.asked
        call = UpstreamCall(
            attempt_id=f"{asked.facts.request_id}/{attempt.number}",
            target=attempt.target,
            endpoint=asked.facts.endpoint,
            fields=asked.fields,
            stream=asked.facts.stream,
            usage_wanted=asked.usage_wanted,
            timeouts=errand.route.timeouts,
            output_tokens_cap=_cap_to_send(errand, cap),
            unread=self._unread,
            telling=errand.telling,
            prefix=errand.prefix,
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
                self.attempt.hears_whole(piece.raw, piece.usage, text_bytes=piece.content_bytes)

    def _meaning(self, fault: BaseException | None) -> tuple[Outcome, TargetFailure | None]:
        if fault is None:
            return Outcome.COMPLETE, None
        if isinstance(fault, TargetFailure):
            return Outcome.BROKEN if fault.may_have_worked else Outcome.REFUSED, fault
        if self._leash.pulled or isinstance(fault, HedgeLost):
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


async def dispatch(errand: Errand, failures: list[TargetFailure]) -> Visit:
    """The first candidate that opens, within the route's attempts and the process's retry budget. Each attempt has its
    intent in the spool first, and before that what it may cost is held, and where the rule says so a place waited for.
    Where the route is hedged, the request's first attempt may have a second beside it.

    `failures` are the request's so far, one for each attempt; more are added. Raises the last of them when none opens
    or there is no money for another, or at once one that no other target could mend; NoPlace when nobody was asked.
    """
    full: dict[str, NoPlace] = {}
    while (name := await _next_target(errand, failures, full)) is not None:
        cap = errand.output_tokens_cap
        if (failures or full) and errand.budgets:
            if not await _hold_more(errand, name):
                break
            cap = _needs(errand, name).output_tokens_cap
        is_open = not errand.waits and not errand.gateway.fleet.is_in_doubt(name)
        if not is_open and (kept_out := await _kept_out(errand, name)) is not None:
            full[name] = kept_out
            continue
        visit = _begin(errand, name, cap=cap)
        if errand.route.hedge_after_s is not None and not failures:
            if (opened := await _raced(errand, visit, cap=cap, full=full, failures=failures)) is not None:
                return opened
            continue
        try:
            await visit.open(errand, cap=cap)
            return visit
        except TargetFailure as fault:
            visit.end(fault)
            failures.append(fault)
        except BaseException as fault:
            visit.end(fault)
            raise
    raise failures[-1] if failures else list(full.values())[-1]


async def _raced(
    errand: Errand, first: Visit, *, cap: int | None, full: Container[str], failures: list[TargetFailure]
) -> Visit | None:
    """The first attempt, and where that has not opened in time one more beside it: whoever opens first, or nobody."""
    after_s = errand.route.hedge_after_s
    assert after_s is not None, "only a route that says so is hedged"
    caps = {first.attempt.number: cap}

    def another() -> Visit | None:
        if errand.route.attempts < 2:
            return None
        others = [name for name in errand.order if name != first.attempt.target.name and name not in full]
        name = free_now(others, errand.asked.facts, errand.snapshot.policy, errand.gateway)
        if name is None or not errand.gateway.retries.take(at_s=errand.gateway.clock.monotonic_s()):
            return None
        held, its_cap = _hold_beside(errand, name)
        try:
            second = _begin(errand, name, cap=its_cap, beside=first) if held else None
        except LedgerUnavailable:
            errand.draft.unhedged()
            second = None
        if second is None:
            errand.gateway.retries.put_back(at_s=errand.gateway.clock.monotonic_s())
        else:
            caps[second.attempt.number] = its_cap
        return second

    return await race(
        first,
        after_s=after_s,
        opening=lambda visit: visit.open(errand, cap=caps[visit.attempt.number]),
        another=another,
        alone=lambda visit: errand.gateway.journal.intend(errand.draft.if_it_died_now(visit.attempt)),
        failures=failures,
    )


async def _kept_out(errand: Errand, name: str) -> NoPlace | None:
    """Why nothing is to be sent there now: it serves another model, or no place came free. None: whoever sends at once
    may. A connection may break while a place is waited for, and what listens there then is asked before it is sent to.
    """
    fleet = errand.gateway.fleet
    asked_since_s: float | None = None
    while True:
        doubted_since_s = fleet.in_doubt_since_s(name)
        if doubted_since_s != asked_since_s:
            asked_since_s = doubted_since_s
            if doubted_since_s is not None and (swapped := await _swapped(errand, name)) is not None:
                return swapped
        if not errand.waits:
            return None
        if (no_place := await _place_at(errand, name)) is not None:
            return no_place
        if fleet.in_doubt_since_s(name) in (None, asked_since_s):
            return None


async def _swapped(errand: Errand, name: str) -> NoPlace | None:
    """A connection there broke since it was asked last: why it is not to be asked now. None: it serves what the policy
    means, as far as it can be known."""
    await errand.gateway.make_sure(name)
    seen, target = _seen(errand.gateway).get(name, UNSEEN), errand.snapshot.policy.targets[name]
    why = serves_the_model(errand.asked.facts, target, seen)
    if why is None:
        return None
    errand.draft.passed_over(name, why=why)
    return NoPlace(f"{name} cannot be asked now: {why}", target=name, code="no_target")


async def _place_at(errand: Errand, name: str) -> NoPlace | None:
    return await place_at(
        errand.snapshot.policy.targets[name],
        facts=errand.asked.facts,
        route=errand.route,
        draft=errand.draft,
        leash=errand.leash,
        gateway=errand.gateway,
    )


async def _next_target(errand: Errand, failures: Sequence[TargetFailure], full: Container[str]) -> str | None:
    """Whom to ask now, after the pause that it needs; None: nobody any more. `full` had no place for it."""
    gateway = errand.gateway
    if not failures:
        if not full:
            return errand.order[0]
        resting = _resting(gateway)
        return next((name for name in errand.order if name not in full and name not in resting), None)
    now = next_try(
        [name for name in errand.order if name not in full],
        failures,
        attempts_most=errand.route.attempts - errand.draft.hedges_lost,
        targets=errand.snapshot.policy.targets,
        resting=_resting(gateway),
        jitter=_jitter(errand.asked.facts.request_id),
        left_s=errand.leash.left_s,
    )
    if now is None or not gateway.retries.take(at_s=gateway.clock.monotonic_s()):
        return None
    if now.pause_s:
        await asyncio.sleep(now.pause_s)
    return None if now.again and now.target in _resting(gateway) else now.target


def _resting(gateway: Gateway) -> set[str]:
    """Targets that may not be asked by now: their circuits are open, or they turned out to serve another model."""
    return {name for name, seen in _seen(gateway).items() if seen.circuit is Circuit.OPEN or seen.serves_instead}


def _seen(gateway: Gateway) -> Mapping[str, TargetSeen]:
    return gateway.fleet.view(at_s=gateway.clock.monotonic_s())


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


def _begin(errand: Errand, name: str, *, cap: int | None, beside: Visit | None = None) -> Visit:
    price = errand.snapshot.fleet[name].rate_card
    assert price is not None, "the price filter lets no unpriced target into a plan"
    gateway, draft = errand.gateway, errand.draft
    attempt = draft.begin_attempt(
        target=errand.snapshot.policy.targets[name],
        price=price,
        now_s=gateway.clock.monotonic_s(),
        now_us=gateway.clock.unix_us(),
        output_tokens_cap=cap,
        more_prompt_tokens=errand.prefix_tokens,
    )
    if beside is None:
        gateway.journal.intend(draft.if_it_died_now(attempt))
    else:
        draft.hedged(attempt, beside=beside.attempt, after_s=errand.route.hedge_after_s or 0.0)
        gateway.journal.intend(draft.if_it_died_now(attempt, beside=beside.attempt))
    return Visit(attempt, draft=draft, leash=errand.leash, gateway=gateway)


def _hold_beside(errand: Errand, name: str) -> tuple[bool, int | None]:
    """Has all been held that an attempt beside the first may cost, with what is held for that one? Nothing is waited
    for. And the cap that has to be sent with it."""
    if not errand.budgets:
        return True, errand.output_tokens_cap
    draft = errand.draft
    try:
        needs = _needs(errand, name)
    except BadRequest:
        return False, None
    more = errand.gateway.treasury.hold_now(needs.needs, at=errand.snapshot.at)
    if isinstance(more, Short):
        return False, None
    draft.holds = grown(draft.holds, more)
    return True, needs.output_tokens_cap


def _needs(errand: Errand, name: str) -> AttemptNeeds:
    return attempt_needs(
        errand.asked,
        name,
        budgets=errand.budgets,
        snapshot=errand.snapshot,
        spent=errand.draft.spent,
        more_bytes=len(errand.prefix.encode()),
    )


async def _hold_more(errand: Errand, name: str) -> bool:
    """What a further attempt may cost more than is held already; False: the money is not there."""
    draft = errand.draft
    held = {hold.account: hold.amount for hold in draft.holds}
    try:
        needs = _needs(errand, name).needs
        more = [(budget, Nanodollars(max(need - held.get(budget.account, 0), 0))) for budget, need in needs]
        draft.holds = grown(draft.holds, await errand.gateway.treasury.hold(more, at=errand.snapshot.at))
    except (BudgetExceeded, BadRequest, LedgerUnavailable):
        return False
    return True


def _cap_to_send(errand: Errand, cap: int | None) -> int | None:
    """What follows a beginning may be as long as the whole might have been, less that; one token at least."""
    most = errand.asked.facts.output_tokens_most if cap is None else cap
    if not errand.prefix or most is None:
        return cap
    return max(1, most - errand.prefix_tokens)
