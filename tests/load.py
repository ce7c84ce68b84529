"""Callers who ask again and again for as long as a block lasts, and what they saw."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp

from tests.gateway_process import POLL_S, GatewayProcess

ASK = {"model": "chat", "max_tokens": 40, "messages": [{"role": "user", "content": "hello"}]}
#: Before a caller who was refused asks again.
REFUSED_PAUSE_S = 0.2
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer: when it was asked for (monotonic), how long it took, and how it ended. `status` 0: it broke."""

    at_s: float
    took_s: float
    status: int
    retry_after: str | None = None
    caller: int = 0


@dataclass(slots=True)
class Load:
    """What the callers of one gateway have seen so far."""

    gateway: GatewayProcess
    seen: list[Seen] = field(default_factory=list)
    is_over: bool = False

    def since(self, at_s: float) -> list[Seen]:
        """Answers that were asked for after this moment."""
        return [each for each in self.seen if each.at_s >= at_s]

    def statuses(self, *, since_s: float = 0.0) -> Counter[int]:
        return Counter(each.status for each in self.since(since_s))

    async def answered(self, count: int, *, since_s: float = 0.0, within_s: float = 30.0) -> None:
        """Wait until so many were answered with 200."""
        async with asyncio.timeout(within_s):
            while self.statuses(since_s=since_s)[200] < count:
                await asyncio.sleep(POLL_S)

    async def call(self, number: int) -> None:
        """One caller, until the load is over; every other one asks for a stream."""
        async with self.gateway.session() as session:
            while not self.is_over:
                one = replace(await asked(session, stream=bool(number % 2)), caller=number)
                self.seen.append(one)
                if one.status != 200:
                    await asyncio.sleep(REFUSED_PAUSE_S)


async def asked(session: aiohttp.ClientSession, *, stream: bool) -> Seen:
    """Ask once and read to the end; a stream without its end is broken."""
    at_s = time.monotonic()
    status, retry_after = 0, None
    try:
        async with (
            asyncio.timeout(PATIENCE_S),
            session.post("/v1/chat/completions", json={**ASK, "stream": stream}) as reply,
        ):
            body = await reply.read()
            if reply.status != 200 or not stream or body.endswith(b"data: [DONE]\n\n"):
                status, retry_after = reply.status, reply.headers.get("retry-after")
    except (aiohttp.ClientError, TimeoutError):
        status = 0
    return Seen(at_s=at_s, took_s=time.monotonic() - at_s, status=status, retry_after=retry_after)


@asynccontextmanager
async def under_load(gateway: GatewayProcess, *, callers: int = 8) -> AsyncIterator[Load]:
    """For the length of the block so many callers ask, every other one for a stream."""
    load = Load(gateway)
    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(load.call(number))
        try:
            yield load
        finally:
            load.is_over = True
