"""Bytes pass while the meter listens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.domain.errors import TargetFailure
from app.flows.dispatch import Errand, Visit, dispatch
from app.flows.draft import CHECKPOINT_TOKENS
from app.flows.gateway import Gateway


async def relay(visit: Visit, write: Callable[[bytes], Awaitable[None]], gateway: Gateway) -> bytes:
    """Pass a stream on, event by event, and return its end: bytes that wait until the receipt is durable.

    Raises TargetFailure when the stream breaks; what was relayed stays relayed.
    """
    assert visit.answer is not None, "only an opened visit is relayed"
    meter = visit.attempt.meter
    now_s = gateway.clock.monotonic_s
    async for piece in visit.answer.pieces():
        visit.attempt.hears(piece, at_s=now_s())
        if meter.estimated_output() >= visit.attempt.covered_tokens:
            _cover_more(visit, gateway)
        if piece.last:
            return piece.raw
        if piece.raw:
            await write(piece.raw)
    return b""


async def first_whole(errand: Errand) -> tuple[Visit, bytes]:
    """The attempt whose answer came in one piece, and that body. One that turns out cut, late or no answer is a failure
    of that attempt alone: its caller has seen nothing, so the next candidate may answer, as before any first byte.

    Raises what `dispatch` raises when nobody is left.
    """
    failures: list[TargetFailure] = []
    while True:
        visit = await dispatch(errand, failures)
        try:
            async with visit:
                return visit, await fetch(visit)
        except TargetFailure as fault:
            failures.append(fault)


async def fetch(visit: Visit) -> bytes:
    """The whole body of an answer that is not streamed. Raises TargetFailure."""
    assert visit.answer is not None, "only an opened visit is read"
    body, usage = await visit.answer.body()
    visit.attempt.hears_whole(body, usage)
    return body


def _cover_more(visit: Visit, gateway: Gateway) -> None:
    attempt = visit.attempt
    attempt.covered_tokens = attempt.meter.estimated_output() + CHECKPOINT_TOKENS
    usage = attempt.meter.usage_if(output=attempt.covered_tokens)
    gateway.journal.checkpoint(
        request_id=visit.request_id, output_tokens=attempt.covered_tokens, charge=attempt.cost_of(usage)
    )
