"""The caller who hangs up: pays for what was made, and the target's work is cancelled."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.telemetry import names
from tests.gateway_process import POLL_S, GatewayProcess
from tests.upstream import Hang, Heard, ScriptedUpstream, broken_stream, refusal, stream, stream_head, whole

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASK: dict[str, object] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
PROMPT: dict[str, object] = {"model": "chat", "prompt": "hello"}
#: The cancellation must have reached the target after so long; less than the pause of 9 s that is left early.
SOON_S = 8.0


Reached = Callable[[], Awaitable[object]]


async def _hang_up_after(
    gateway: GatewayProcess, *, stream: bool, until: bytes | Reached, ask: dict[str, object] = ASK, route: str = CHAT
) -> str | None:
    """Ask over a bare socket, read until `until` has come (a wait for something else: nothing is read), and close. The
    request's id."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = json.dumps({**ask, "stream": stream}).encode()
    head = f"POST {route} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    request_id = None
    if isinstance(until, bytes):
        seen = b""
        while until not in seen:
            received = await reader.read(4096)
            assert received, f"the gateway ended its answer: {seen!r}"
            seen += received
        request_id = seen.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()
    else:
        await until()
    writer.close()
    return request_id


async def _rests(gateway: GatewayProcess) -> None:
    """Until the gateway has taken from its target that it asks for a pause."""
    said = f'{names.RESTING.name}{{target="home"}} 1\n'.encode()
    async with asyncio.timeout(SOON_S):
        while said not in b"".join(await gateway.metrics()):
            await asyncio.sleep(POLL_S)


async def _left(heard: Heard) -> None:
    async with asyncio.timeout(SOON_S):
        await heard.left.wait()


async def _only_receipt(gateway: GatewayProcess) -> Receipt:
    (receipt,) = await gateway.receipts(1)
    return receipt


async def test_a_caller_who_hangs_up_mid_stream_pays_for_what_was_made(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.will(stream(words=[f" w{n}" for n in range(500)], pause_s=0.02))
    request_id = await _hang_up_after(gateway, stream=True, until=b"w9")
    await _left(upstream.heard[0])
    receipt = await _only_receipt(gateway)
    assert receipt.request_id == request_id
    assert receipt.outcome is Outcome.ABANDONED
    assert receipt.status == 499
    assert receipt.attempts[0].usage.output >= 10
    assert receipt.charge >= 10 * 10_000
    assert upstream.heard[0].output_tokens < 500


async def test_a_caller_who_hangs_up_before_the_first_token_still_has_a_row(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.will([stream_head(), Hang()])
    await _hang_up_after(gateway, stream=True, until=upstream.heard_one)
    await _left(upstream.heard[0])
    receipt = await _only_receipt(gateway)
    assert receipt.outcome is Outcome.ABANDONED
    assert receipt.attempts[0].usage.prompt > 0
    assert receipt.charge > 0


async def test_a_caller_who_leaves_an_answer_that_is_not_streamed_cancels_it(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.will([Hang()])
    await _hang_up_after(gateway, stream=False, until=upstream.heard_one)
    await _left(upstream.heard[0])
    receipt = await _only_receipt(gateway)
    assert receipt.outcome is Outcome.ABANDONED
    assert receipt.charge > 0


async def test_on_every_route_and_in_a_retry_pause_leaving_is_noticed_at_once(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    slow = []
    for number, (route, ask, streamed) in enumerate(
        [(CHAT, ASK, True), (CHAT, ASK, False), (COMPLETIONS, PROMPT, True), (COMPLETIONS, PROMPT, False)]
    ):
        upstream.will([stream_head(), Hang()] if streamed else [Hang()])
        dispatched = partial(upstream.heard_one, number + 1)
        await _hang_up_after(gateway, stream=streamed, until=dispatched, ask=ask, route=route)
        left_s = time.monotonic()
        await _left(upstream.heard[number])
        slow.append(time.monotonic() - left_s)
    upstream.will(refusal(429, headers=(("retry-after", "9"),)))
    await _hang_up_after(gateway, stream=False, until=partial(_rests, gateway))
    left_s = time.monotonic()
    receipts = await gateway.receipts(5, within_s=SOON_S)
    slow.append(time.monotonic() - left_s - 0.5)
    print("noticed after " + ", ".join(f"{seconds:.2f}" for seconds in slow) + " s")
    assert {receipt.outcome for receipt in receipts} == {Outcome.ABANDONED}
    assert len(upstream.heard) == 5, "nobody was asked again"
    assert receipts[0].charge == 0


async def test_a_caller_who_leaves_counts_against_nobodys_health(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.always(broken_stream(["a"] * 3, Hang()))
    for _ in range(8):
        await _hang_up_after(gateway, stream=True, until=b"data:")
    upstream.always(whole())
    async with gateway.session() as session, session.post("/v1/chat/completions", json=ASK) as answer:
        assert answer.status == 200
