"""A cheap load: keep-alive connections that ask again as soon as they are answered, bounded in number."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from typing import Self

PROMPT = "word " * 240


@dataclass(frozen=True, kw_only=True)
class Load:
    """`requests` in all, over `connections` at once."""

    port: int
    key: str
    requests: int
    connections: int
    stream: bool = False

    def of(self, **changes: object) -> Self:
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Done:
    answered: int
    seconds: float
    p50_ms: float

    @property
    def per_s(self) -> float:
        return self.answered / self.seconds


async def run_load(load: Load) -> Done:
    """Send it all; raises if any answer is not a whole 200."""
    begun = time.perf_counter()
    each, rest = divmod(load.requests, load.connections)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_connection(load, each + (1 if place < rest else 0))) for place in range(load.connections)
        ]
    seconds = time.perf_counter() - begun
    times = sorted(ms for task in tasks for ms in task.result())
    return Done(answered=len(times), seconds=seconds, p50_ms=times[len(times) // 2])


async def _connection(load: Load, count: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
    said = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 128}
    if load.stream:
        said["stream"] = True
    body = json.dumps(said, separators=(",", ":")).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %b\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % (load.key.encode(), len(body))
    ) + body
    times = []
    for _ in range(count):
        asked = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head + await reader.read(500)
        await (_chunks(reader) if b"chunked" in head else _length(reader, head))
        times.append((time.perf_counter() - asked) * 1000)
    writer.close()
    return times


async def _length(reader: asyncio.StreamReader, head: bytes) -> None:
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)


async def _chunks(reader: asyncio.StreamReader) -> None:
    last = b""
    while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
        last = (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    assert last.endswith(b"data: [DONE]\n\n"), last
