"""A gateway that stands still for seconds (no processor, a suspended machine) blames nobody who answered meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal

from app.domain.metering.measurement import Outcome
from tests.gateway_process import GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import ScriptedUpstream, stream, whole

CHAT = "/v1/chat/completions"
ASK: dict[str, object] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
PATIENCE_S = 6
#: Every wait that had begun is over by then.
STANDS_STILL_S = 8.0
CALLERS = 3


async def _stand_still(gateway: GatewayProcess) -> None:
    os.killpg(gateway.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STANDS_STILL_S)
    finally:
        os.killpg(gateway.pid, signal.SIGCONT)


async def test_what_targets_said_while_the_gateway_stood_still_was_said_in_time(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """In the middle of a stream, before its first token, before a whole answer."""
    bounds = f"{{connect_s: {PATIENCE_S}, first_token_s: {PATIENCE_S}, idle_s: {PATIENCE_S}, total_s: 60}}"
    gateway = await open_gateway({"home": upstream.url, "other": second.url}, timeouts=bounds)

    async def ask(*, streamed: bool) -> bytes:
        async with gateway.session() as session, session.post(CHAT, json={**ASK, "stream": streamed}) as reply:
            assert reply.status == 200
            return await reply.read()

    asking = []
    for answer, streamed in (
        *[(stream([" a", " b", " c", " d", " e"], pause_s=1.0), True)] * CALLERS,
        *[(stream(first_s=1.0), True)] * CALLERS,
        *[(whole(first_s=1.0), False)] * CALLERS,
    ):
        upstream.will(answer)
        asking.append(asyncio.create_task(ask(streamed=streamed)))
        while len(upstream.heard) < len(asking):
            await asyncio.sleep(0.01)
    await _stand_still(gateway)
    answers = await asyncio.gather(*asking)
    assert [answer.endswith(b"[DONE]\n\n") for answer in answers] == [True] * 2 * CALLERS + [False] * CALLERS
    for receipt in await gateway.receipts(len(asking)):
        assert (receipt.outcome, [attempt.target for attempt in receipt.attempts]) == (Outcome.COMPLETE, ["home"])
    assert second.heard == []
