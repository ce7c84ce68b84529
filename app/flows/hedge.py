"""Two attempts at once: whoever opens first answers, and the other is broken off.

What is held and written down before is `dispatch.py`'s; here is who could be asked at once, and who won. The race
leaves nothing behind: however it ends, both attempts have ended but the one that opened, and no task is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol, TypeVar

from app.domain.errors import TargetFailure
from app.domain.routing.facts import RequestFacts
from app.domain.routing.filters import FILTERS
from app.domain.routing.policy import Policy
from app.domain.routing.snapshot import UNSEEN
from app.flows.gateway import Gateway
from app.ports import UpstreamAnswer


class HedgeLost(Exception):
    """What ends an attempt beside which another opened: neither its target's failure nor its success."""


class Contender(Protocol):
    """An attempt that has begun, as `dispatch.Visit`."""

    answer: UpstreamAnswer | None

    def end(self, fault: BaseException | None) -> None:
        """It ended, by this fault. A second call changes nothing."""
        ...


_C = TypeVar("_C", bound=Contender)


async def race(
    first: _C,
    *,
    after_s: float,
    opening: Callable[[_C], Coroutine[object, object, None]],
    another: Callable[[], _C | None],
    alone: Callable[[_C], None],
    failures: list[TargetFailure],
) -> _C | None:
    """Whoever opened first; None: nobody did, and `failures` has why of each.

    `opening` opens one. Has the first not opened after `after_s`, `another` is called, once, for a second that was
    begun; None: the first goes on by itself. `alone` is told of the one that is left when one of two has ended.

    Raises what `opening` raises beside TargetFailure, and what the others raise. Then, and when it is cancelled, both
    are ended by that, and what had opened is closed.
    """
    begun = [first]
    try:
        return await _first_open(
            begun, after_s=after_s, opening=opening, another=another, alone=alone, failures=failures
        )
    except BaseException as fault:
        # A task group wraps what its body raises; tasks themselves raise nothing here.
        cause = fault.exceptions[0] if isinstance(fault, BaseExceptionGroup) else fault
        for each in begun:
            await _leave(each, cause)
        raise cause from None


def free_now(names: Sequence[str], facts: RequestFacts, policy: Policy, gateway: Gateway) -> str | None:
    """The first of these targets that could be sent this request at once: it passes every filter as it is now, nobody
    has to ask it first what it serves, and it has a place that nobody waits for."""
    fleet = gateway.fleet.view(at_s=gateway.clock.monotonic_s())
    for name in names:
        target, seen = policy.targets[name], fleet.get(name, UNSEEN)
        has_room = gateway.queues.has_room(target, seen, prompt_tokens=facts.prompt_tokens)
        if has_room and not gateway.fleet.is_in_doubt(name) and not any(no(facts, target, seen) for _, no in FILTERS):
            return name
    return None


async def _first_open(
    begun: list[_C],
    *,
    after_s: float,
    opening: Callable[[_C], Coroutine[object, object, None]],
    another: Callable[[], _C | None],
    alone: Callable[[_C], None],
    failures: list[TargetFailure],
) -> _C | None:
    winner: _C | None = None
    async with asyncio.TaskGroup() as group:
        running = {group.create_task(_fault_of(begun[0], opening)): begun[0]}
        await asyncio.wait(running, timeout=after_s)
        if not any(task.done() for task in running) and (second := another()) is not None:
            begun.append(second)
            running[group.create_task(_fault_of(second, opening))] = second
        while running and winner is None:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            task = next(task for task in running if task in done)  # of two at once the first goes first
            contender, fault = running.pop(task), task.result()
            if fault is None:
                winner = contender
            else:
                failures.append(_counted(fault))
                for other, left in running.items():
                    if not other.done():
                        alone(left)
        for task in running:
            task.cancel()
    for task, loser in running.items():
        fault = None if task.cancelled() else task.result()
        if fault is None:
            await _leave(loser, HedgeLost())
        else:  # it failed in the very moment in which the winner opened
            failures.append(_counted(fault))
    if winner is not None and running:
        alone(winner)
    return winner


def _counted(fault: Exception) -> TargetFailure:
    if not isinstance(fault, TargetFailure):
        raise fault
    return fault


async def _fault_of(contender: _C, opening: Callable[[_C], Coroutine[object, object, None]]) -> Exception | None:
    """What it raised, so that a task group does not end the other for it; None: it has opened. One that fails has ended
    at once, whatever befalls the race in the same moment."""
    try:
        await opening(contender)
    except TargetFailure as fault:
        contender.end(fault)
        return fault
    except Exception as fault:
        return fault
    return None


async def _leave(contender: Contender, fault: BaseException) -> None:
    contender.end(fault)
    if contender.answer is not None:
        await contender.answer.close()
