"""Callers who hang up at 99 % of the text pay each time, and never less than what was made for them."""

from __future__ import annotations

import asyncio
import json
import os

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.usage import UsageSource
from tests.gateway_process import GatewayProcess
from tests.upstream import PROMPT_TOKENS, Hang, Heard, ScriptedUpstream, broken_stream, whole

#: In the suite; `HANG_UPS=1000` for the long run by hand.
HANG_UPS = int(os.environ.get("HANG_UPS", "100"))
AT_ONCE = 20
WORDS = [f" w{number:02}" for number in range(99)]
MOST_TOKENS = 120
ASK = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": MOST_TOKENS}


async def _hang_up(gateway: GatewayProcess, upstream: ScriptedUpstream, *, stream: bool, until: bytes) -> None:
    """Ask over a bare socket, and close it when `until` has come; of a whole answer, when the target works on it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = json.dumps({**ASK, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    before = len(upstream.heard)
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    if stream:
        seen = b""
        while until not in seen:
            received = await reader.read(65536)
            assert received, "the gateway ended a stream that its target had not"
            seen += received
    else:
        await upstream.heard_one(before + 1)
    writer.close()
    await writer.wait_closed()


async def _hung_up(gateway: GatewayProcess, upstream: ScriptedUpstream, *, stream: bool) -> list[tuple[Receipt, Heard]]:
    """That many callers, some at once; each one's receipt beside what its target heard."""
    gate = asyncio.Semaphore(AT_ONCE if stream else 1)

    async def one() -> None:
        async with gate:
            await _hang_up(gateway, upstream, stream=stream, until=WORDS[-1].encode())

    await asyncio.gather(*[one() for _ in range(HANG_UPS)])
    receipts = await gateway.receipts(HANG_UPS, within_s=60.0)
    async with asyncio.timeout(60.0):
        await asyncio.gather(*[heard.left.wait() for heard in upstream.heard])
    by_attempt = {heard.attempt_id: heard for heard in upstream.heard}
    assert len(receipts) == len(by_attempt) == HANG_UPS
    return [(receipt, by_attempt[receipt.attempts[0].attempt_id]) for receipt in receipts]


def _said(pairs: list[tuple[Receipt, Heard]], *, stream: bool) -> str:
    """What was paid, beside the oracle's bill; shown by `pytest -s`."""
    charges = [receipt.charge for receipt, _ in pairs]
    billed = sum(heard.bill.output for _, heard in pairs if heard.bill is not None)
    return (
        f"{len(pairs)} hang-ups, stream={stream}: the oracle bills {billed} output and {PROMPT_TOKENS * len(pairs)} "
        f"prompt tokens; booked {sum(receipt.attempts[0].usage.output for receipt, _ in pairs)} and "
        f"{sum(receipt.attempts[0].usage.prompt for receipt, _ in pairs)}, {sum(charges)} nanodollars, "
        f"{min(charges)} to {max(charges)} each"
    )


async def test_who_hangs_up_at_99_percent_of_a_stream_pays_for_it_each_time(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.always(broken_stream(WORDS, Hang()))
    pairs = await _hung_up(gateway, upstream, stream=True)
    print(_said(pairs, stream=True))
    for receipt, heard in pairs:
        (attempt,) = receipt.attempts
        assert receipt.outcome is Outcome.ABANDONED
        assert heard.bill is not None
        assert heard.bill.output == len(WORDS) <= attempt.usage.output <= MOST_TOKENS
        assert attempt.usage.prompt > 0
        assert receipt.charge >= len(WORDS) * 10_000
        assert (attempt.usage_source, attempt.flags) == (UsageSource.GATEWAY_ESTIMATE, ("usage_estimated",))


async def test_who_leaves_a_whole_answer_unseen_pays_for_all_that_it_could_have_been(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.always(whole(first_s=60))
    pairs = await _hung_up(gateway, upstream, stream=False)
    print(_said(pairs, stream=False))
    for receipt, _ in pairs:
        (attempt,) = receipt.attempts
        assert receipt.outcome is Outcome.ABANDONED
        assert (attempt.usage.output, attempt.usage_source) == (MOST_TOKENS, UsageSource.HOLD)
        assert attempt.flags == ("usage_estimated",)
        assert receipt.charge > MOST_TOKENS * 10_000
