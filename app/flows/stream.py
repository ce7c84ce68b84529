"""A stream reaches its caller, and breaks perhaps: what is done then is the route's `recovery`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from app.domain.errors import BreakevenError, FaultKind, TargetFailure
from app.domain.recovering import Recourse, after_break
from app.domain.routing.policy import Recovery
from app.domain.telling import Telling
from app.flows.dispatch import Errand, Visit, dispatch
from app.flows.relay import relay
from app.ports import Opening, Reply

#: Bytes of one stream that are held back until it is whole. A longer one begins when it has grown so long.
HELD_BACK_MOST_BYTES: Final = 2 * 1024 * 1024

Open = Callable[[Visit], Opening]


async def stream(errand: Errand, reply: Reply, opening: Open) -> tuple[Visit, bytes]:
    """The attempt that answered to the end, and the bytes that wait until the receipt is durable: the end of the
    stream, or all of it where it was held back (then the reply has not begun).

    Raises TargetFailure when it breaks and cannot be recovered; what the caller has got then, it keeps.
    """
    match errand.route.recovery:
        case Recovery.ERROR:
            return await _as_it_comes(errand, reply, opening)
        case Recovery.BUFFER:
            return await _when_it_is_whole(errand, reply, opening)
        case Recovery.RESTART | Recovery.CONTINUE:
            return await _told_by_several(errand, reply, opening)


async def _as_it_comes(errand: Errand, reply: Reply, opening: Open) -> tuple[Visit, bytes]:
    async with await dispatch(errand, []) as visit:
        await reply.begin(opening(visit))
        return visit, await relay(visit, reply.write, errand.gateway)


async def _when_it_is_whole(errand: Errand, reply: Reply, opening: Open) -> tuple[Visit, bytes]:
    """As long as nothing was sent, the next candidate may answer."""
    failures: list[TargetFailure] = []
    while True:
        visit = await dispatch(errand, failures)
        kept = _HeldBack(reply, opening(visit))
        try:
            async with visit:
                end = await relay(visit, kept.write, errand.gateway)
        except TargetFailure as fault:
            if reply.begun:
                raise
            failures.append(fault)
        else:
            return visit, kept.rest() + end


async def _told_by_several(errand: Errand, reply: Reply, opening: Open) -> tuple[Visit, bytes]:
    """What the caller was told by one target, another reproduces or goes on with."""
    failures: list[TargetFailure] = []
    telling = Telling()
    now = replace(errand, telling=telling)
    while True:
        visit = await _next_visit(now, failures)
        try:
            async with visit:
                if not reply.begun:
                    await reply.begin(opening(visit))
                return visit, await relay(visit, reply.write, errand.gateway)
        except TargetFailure as fault:
            failures.append(fault)
            recourse = after_break(
                fault,
                recovery=errand.route.recovery,
                telling=telling,
                facts=errand.asked.facts,
                fields=errand.asked.fields,
                order=errand.order,
                targets=errand.snapshot.policy.targets,
            )
            if recourse is None:
                raise
            now = _after(now, recourse, telling)


async def _next_visit(now: Errand, failures: list[TargetFailure]) -> Visit:
    """Once a stream has broken, its caller is told of that, and not of whoever could not answer after it."""
    broke = failures[-1] if failures else None
    try:
        return await dispatch(now, failures)
    except BreakevenError as fault:
        is_own = isinstance(fault, TargetFailure) and fault.kind is FaultKind.NOT_REPRODUCED
        if broke is None or fault is broke or is_own:
            raise
        raise broke from fault


def _after(errand: Errand, recourse: Recourse, telling: Telling) -> Errand:
    if recourse.prefix:
        telling.go_on()
        return replace(errand, order=recourse.order, prefix=recourse.prefix, prefix_tokens=errand.draft.output_tokens)
    telling.begin_anew()
    return replace(errand, order=recourse.order)


class _HeldBack:
    """What came of a stream, until it is whole or too much."""

    __slots__ = ("_kept", "_opening", "_reply", "_size_bytes")

    def __init__(self, reply: Reply, opening: Opening) -> None:
        self._reply = reply
        self._opening = opening
        self._kept: list[bytes] = []
        self._size_bytes = 0

    async def write(self, raw: bytes) -> None:
        """Keep it, or pass it on behind all that was kept."""
        if self._size_bytes > HELD_BACK_MOST_BYTES:
            await self._reply.write(raw)
            return
        self._kept.append(raw)
        self._size_bytes += len(raw)
        if self._size_bytes > HELD_BACK_MOST_BYTES:
            await self._reply.begin(self._opening)
            await self._reply.write(self.rest())

    def rest(self) -> bytes:
        """What is kept, and no longer is."""
        kept, self._kept = b"".join(self._kept), []
        return kept
