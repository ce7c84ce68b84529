"""A request waits for a place at a full target, where its rule says so.

It holds its money meanwhile and has sent nothing. Its turn comes by `live/queues`; it goes without one when it may
wait no longer, when the target falls out of service (a pause that the target asked for is waited out, if it is over in
time), when the queue needs its place for another team, or when its caller leaves. Whoever's turn comes is sent in the
very turn of the loop in which it wakes.
"""

from __future__ import annotations

import asyncio
from typing import Final

from app.domain.errors import NoPlace
from app.domain.routing.facts import RequestFacts
from app.domain.routing.filters import has_a_place_in_its_queue
from app.domain.routing.plan import Refusal
from app.domain.routing.policy import Policy, Route
from app.domain.routing.scorers import likely_output_tokens
from app.domain.routing.snapshot import UNSEEN
from app.domain.target import Target
from app.flows.draft import ReceiptDraft
from app.flows.gateway import Gateway
from app.flows.leash import Leash
from app.live.queues import Ticket, Turned

#: What callers are told, as the code of their error.
_CODES: Final = {
    Turned.FULL: "queue_full",
    Turned.TIMEOUT: "queue_timeout",
    Turned.RESTS: "no_target",
    Turned.STOPS: "overloaded",
}


async def place_at(
    target: Target, *, facts: RequestFacts, route: Route, draft: ReceiptDraft, leash: Leash, gateway: Gateway
) -> NoPlace | None:
    """None: there is a place at the target, for whoever sends without waiting for anything before. Otherwise why there
    is none; what was waited stands in the draft.

    Cancelled, it is out of the queue, and a place that was reserved for it is the next one's.
    """
    queues, now_s = gateway.queues, gateway.clock.monotonic_s()
    seen = gateway.fleet.view(at_s=now_s).get(target.name, UNSEEN)
    if queues.has_room(target, seen, prompt_tokens=facts.prompt_tokens):
        return None
    within_s = _may_wait_s(facts, route, draft=draft, leash=leash, at_s=now_s)
    wait_s = queues.wait_s(target, seen, team=facts.caller.team)
    if within_s <= 0 or (wait_s is not None and wait_s > within_s):
        predicted = "" if wait_s is None else f"a place is predicted after {wait_s:.1f} s, and "
        why = f"{predicted}this request may wait {max(0.0, within_s):.1f} s"
        return _refused(target, Turned.TIMEOUT, why, wait_s=wait_s, draft=draft, gateway=gateway)
    turn = asyncio.Event()
    ticket = Ticket(
        target,
        team=facts.caller.team,
        prompt_tokens=facts.prompt_tokens,
        until_s=now_s + within_s,
        wake=turn.set,
    )
    if not queues.enter(ticket, target, cost=_tokens(facts, route)):
        assert ticket.turned is not None, "a ticket that is refused says why"
        return _refused(target, ticket.turned, ticket.why, wait_s=wait_s, draft=draft, gateway=gateway)
    gateway.ticker.watch(lambda: look(gateway))
    await _turn_of(ticket, turn, within_s=within_s, draft=draft, gateway=gateway)
    assert ticket.turned is not None, "nobody wakes before its waiting has ended"
    if ticket.turned is Turned.SENT:
        return None
    return _no_place(target, ticket.turned, ticket.why, wait_s=wait_s)


def code_of_refusal(refusal: Refusal, *, facts: RequestFacts, policy: Policy) -> str | None:
    """What the caller of a request is told that was decided to be refused, where a queue kept it out of a target: as
    one that came a moment before and lost its place there. None: no queue did."""
    kept_out = [one for one in refusal.candidates if one.filter == "queue"]
    if not kept_out:
        return None
    full = any(has_a_place_in_its_queue(facts, policy.targets[one.target], one.seen) for one in kept_out)
    return _CODES[Turned.FULL if full else Turned.TIMEOUT]


def look(gateway: Gateway) -> bool:
    """Whoever may be sent now gets its turn; True while anybody waits still."""
    queues, targets = gateway.queues, gateway.policy.current.targets
    if queues.waiting:
        fleet, at_s = gateway.fleet, gateway.clock.monotonic_s()
        queues.look(fleet.view(at_s=at_s), targets, at_s=at_s, pauses=fleet.pauses(at_s=at_s))
    if not queues.waiting:
        queues.forget_others(targets)
    return queues.waiting > 0


async def _turn_of(
    ticket: Ticket, turn: asyncio.Event, *, within_s: float, draft: ReceiptDraft, gateway: Gateway
) -> None:
    begun_s = gateway.clock.monotonic_s()
    queues, why = gateway.queues, f"no place came free within {within_s:.1f} s"
    late = asyncio.get_running_loop().call_later(within_s, lambda: queues.give_up(ticket, why))
    is_awake = False
    try:
        await turn.wait()
        is_awake = True
    finally:
        late.cancel()
        queues.leave(ticket)
        waited_s = gateway.clock.monotonic_s() - begun_s
        ended = ticket.turned if is_awake and ticket.turned is not None else Turned.LEFT
        in_vain = "it was broken off" if ended is Turned.LEFT else ticket.why
        draft.waited(target=ticket.target, waited_s=waited_s, in_vain=in_vain)
        gateway.readings.waited(target=ticket.target, waited_s=waited_s, ended=ended.value)
        if not is_awake:
            look(gateway)


def _may_wait_s(facts: RequestFacts, route: Route, *, draft: ReceiptDraft, leash: Leash, at_s: float) -> float:
    """How much longer this request may wait for places, whatever it waited before."""
    within_s = min(route.timeouts.in_queue_s - draft.waited_s, leash.left_s)
    if facts.deadline_s is None:
        return within_s
    return min(within_s, draft.started_s + facts.deadline_s - at_s)


def _tokens(facts: RequestFacts, route: Route) -> int:
    """What serving it is taken to cost: its prompt and what is likely to be put out."""
    return max(1, facts.prompt_tokens + facts.n * likely_output_tokens(facts=facts, route=route))


def _refused(
    target: Target, turned: Turned, why: str, *, wait_s: float | None, draft: ReceiptDraft, gateway: Gateway
) -> NoPlace:
    draft.passed_over(target.name, why=why)
    gateway.readings.waited(target=target.name, waited_s=0.0, ended=turned.value)
    return _no_place(target, turned, why, wait_s=wait_s)


def _no_place(target: Target, turned: Turned, why: str, *, wait_s: float | None) -> NoPlace:
    return NoPlace(
        f"{target.name} is full, and the request got no place there: {why}; try again later",
        target=target.name,
        code=_CODES[turned],
        retry_after_s=wait_s,
    )
