"""A gateway of its own for each journey: real processes, a real Postgres, scripted targets on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.gateway_process import GatewayProcess, write_policy
from tests.socket_queues import SocketQueues
from tests.upstream import ScriptedUpstream, upstream

__all__ = ["upstream"]

Open = Callable[..., Awaitable[GatewayProcess]]


@pytest.fixture
async def second() -> AsyncIterator[ScriptedUpstream]:
    """Another target."""
    async with ScriptedUpstream() as running:
        yield running


@pytest.fixture
async def looking() -> AsyncIterator[ScriptedUpstream]:
    """A target that looks how much of its answers the gateway's process has read."""
    with SocketQueues() as queues:
        async with ScriptedUpstream(queues=queues) as running:
            yield running


@pytest.fixture
async def open_gateway(tmp_path: Path, books_url: str) -> AsyncIterator[Open]:
    """Start a gateway in front of these targets, name → URL."""
    opened: list[GatewayProcess] = []

    async def open_one(
        targets: dict[str, str], *, workers: int = 1, environment: dict[str, str] | None = None, **policy: str
    ) -> GatewayProcess:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        policies = write_policy(tmp_path / "policies", targets=targets, **policy)
        gateway = GatewayProcess(data=data, policies=policies, database_url=books_url, workers=workers)
        gateway.environment = environment or {}
        opened.append(gateway)
        await gateway.start()
        return gateway

    yield open_one
    for gateway in opened:
        gateway.stop()


@pytest.fixture
async def gateway(open_gateway: Open, upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway in front of one scripted target."""
    return await open_gateway({"home": upstream.url})
