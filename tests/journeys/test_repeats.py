"""The same Idempotency-Key again, over two processes: one attempt chain and one charge, whoever is asked."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import openai

from app.domain.metering.measurement import Outcome
from app.domain.pricing.rate_card import RateCard
from tests.books import said
from tests.fault_proxy import FaultProxy
from tests.gateway_process import GatewayProcess, write_policy
from tests.oracle import nothing_is_missing
from tests.upstream import ScriptedUpstream, Until, completion, refusal, stream, whole

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
BUDGETS = "budgets:\n  all-of-it: {usd: 50, every: month}\n"
HELLO = [{"role": "user", "content": "a canary in the prompt"}]
BODY = json.dumps({"model": "chat", "max_tokens": 100, "messages": HELLO}).encode()
CANARY = b"a canary in the answer"
#: A process that is gone is noticed, adopted and booked within this time.
FREE_AGAIN_S = 60.0

Answer = tuple[int, dict[str, str], bytes]


async def ask(gateway: GatewayProcess, said: str | None, *, body: bytes = BODY, key: str | None = None) -> Answer:
    headers = {"content-type": "application/json"} | ({} if said is None else {"idempotency-key": said})
    async with (
        gateway.session(key=key) as session,
        session.post("/v1/chat/completions", data=body, headers=headers) as answer,
    ):
        named = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, named, await answer.read()


@asynccontextmanager
async def two_processes(
    tmp_path: Path, url: str, upstream: ScriptedUpstream, *, door: FaultProxy
) -> AsyncIterator[list[GatewayProcess]]:
    """Two gateways of one installation, each on a port of its own; the second is behind the door."""
    data = tmp_path / "data"
    data.mkdir()
    policies = write_policy(tmp_path / "policies", targets={"home": upstream.url}, extra=BUDGETS)
    first = GatewayProcess(data=data, policies=policies, database_url=url)
    second = GatewayProcess(data=data, policies=policies, database_url=url)
    try:
        await first.start()
        second.key = first.key
        database = url.partition("?")[0].rpartition("/")[2]
        second.environment = {"DATABASE_URL": door.url(database)}
        await second.start()
        yield [first, second]
    finally:
        await asyncio.gather(*(asyncio.to_thread(each.stop) for each in (first, second)))


async def at_once(here: GatewayProcess, there: GatewayProcess, upstream: ScriptedUpstream) -> None:
    others_are_told = asyncio.Event()
    upstream.will([Until(event=others_are_told), *whole(completion(CANARY.decode()))])
    asking = [asyncio.create_task(ask(each, "at-once")) for each in (here, there) * 3]
    async with asyncio.timeout(60):
        while sum(each.done() for each in asking) < len(asking) - 1:
            await asyncio.wait([each for each in asking if not each.done()], return_when=asyncio.FIRST_COMPLETED)
    others_are_told.set()
    answers = await asyncio.gather(*asking)
    ((_, first, body),) = [each for each in answers if each[0] == 200]
    for status, headers, refused in answers:
        if status != 200:
            assert (status, json.loads(refused)["error"]["code"]) == (409, "idempotency_in_progress")
            assert headers["x-breakeven-original-request"] == first["x-request-id"]
    assert CANARY in body
    for each in (here, there):
        status, headers, again = await ask(each, "at-once")
        assert (status, again) == (200, body)
        assert headers["x-request-id"] == first["x-request-id"]
        assert headers["x-breakeven-charge-usd"] == first["x-breakeven-charge-usd"]
        assert headers["x-breakeven-replayed"] == "true"
        status, headers, _ = await ask(each, "at-once", body=BODY + b" ")
        assert (status, headers["x-breakeven-original-request"]) == (422, first["x-request-id"])
    assert len(upstream.heard) == 1


async def after_a_failure(here: GatewayProcess, there: GatewayProcess, upstream: ScriptedUpstream) -> None:
    heard = len(upstream.heard)
    upstream.always(refusal(500))
    status, first, body = await ask(here, "failed")
    dispatched = len(upstream.heard)
    assert status == 502
    assert dispatched > heard
    status, headers, again = await ask(there, "failed")
    assert (status, again, headers["x-request-id"]) == (502, body, first["x-request-id"])
    assert headers["x-should-retry"] == "false"
    assert len(upstream.heard) == dispatched
    upstream.always(stream())


async def by_the_sdk(here: GatewayProcess, upstream: ScriptedUpstream) -> None:
    """It gives up waiting and asks again by itself, with the key it was given: it gets the answer it pays for."""
    heard = len(upstream.heard)
    upstream.will(whole(completion("Hello there"), first_s=2.0))
    async with openai.AsyncOpenAI(base_url=f"{here.url}/v1", api_key=here.key, timeout=1.2, max_retries=5) as client:
        said = await client.chat.completions.create(
            model="chat",
            messages=HELLO,
            extra_headers={"Idempotency-Key": "sdk"},  # type: ignore[arg-type]
        )
    assert said.choices[0].message.content == "Hello there"
    assert len(upstream.heard) == heard + 1


async def of_others(here: GatewayProcess, there: GatewayProcess, upstream: ScriptedUpstream) -> None:
    """Another caller's key is another's; a stream's answer is not kept; both say what happened."""
    other = await here.make_key()
    upstream.will(whole(completion("for another")))
    async with asyncio.timeout(20):
        while (answer := await ask(there, "at-once", key=other))[0] == 401:
            await asyncio.sleep(0.1)
    status, headers, body = answer
    assert (status, "x-breakeven-replayed" in headers) == (200, False)
    assert CANARY not in body
    streamed = json.dumps({"model": "chat", "stream": True, "max_tokens": 100, "messages": HELLO}).encode()
    upstream.will(stream())
    status, first, body = await ask(here, "streamed", body=streamed)
    assert body.endswith(b"data: [DONE]\n\n")
    status, headers, body = await ask(there, "streamed", body=streamed)
    assert (status, json.loads(body)["error"]["code"]) == (409, "idempotency_answer_not_kept")
    assert headers["x-breakeven-original-request"] == first["x-request-id"]


async def without_postgres(there: GatewayProcess, door: FaultProxy, upstream: ScriptedUpstream) -> None:
    heard = len(upstream.heard)
    door.shut()
    status, headers, body = await ask(there, "while-away")
    assert (status, json.loads(body)["error"]["code"]) == (503, "ledger_unavailable")
    assert int(headers["retry-after"]) >= 1
    assert len(upstream.heard) == heard
    upstream.will(whole())
    assert (await ask(there, None))[0] == 200
    door.open()
    upstream.will(whole())
    async with asyncio.timeout(30):
        while (answer := await ask(there, "while-away"))[0] in {409, 503}:
            await asyncio.sleep(0.1)
    assert answer[0] == 200
    assert len(upstream.heard) == heard + 2


async def killed_in_the_middle(here: GatewayProcess, there: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.will(whole(first_s=30))
    heard = len(upstream.heard)
    dying = asyncio.get_running_loop().create_task(ask(there, "killed"))
    cut = await upstream.heard_one(heard + 1)
    there.kill()
    assert isinstance((await asyncio.gather(dying, return_exceptions=True))[0], Exception)
    dead_at_s = time.monotonic()
    upstream.will(whole(completion("at last")))
    async with asyncio.timeout(FREE_AGAIN_S):
        while (answer := await ask(here, "killed"))[0] == 409:
            assert json.loads(answer[2])["error"]["code"] == "idempotency_in_progress"
            await asyncio.sleep(0.2)
    print(f"free again {time.monotonic() - dead_at_s:.1f} s after its process was killed")
    status, headers, body = answer
    interrupted = cut.attempt_id.partition("/")[0]
    assert (status, headers["x-breakeven-interrupted-request"]) == (200, interrupted)
    assert (await here.receipt(interrupted)).outcome is Outcome.INTERRUPTED
    assert headers["x-request-id"] != interrupted
    status, headers, again = await ask(here, "killed")
    assert (status, again, headers["x-breakeven-replayed"]) == (200, body, "true")


async def test_a_request_that_comes_again_is_made_once_and_paid_once_whatever_happens(
    tmp_path: Path, books_url: str, upstream: ScriptedUpstream
) -> None:
    async with FaultProxy(books_url) as door, two_processes(tmp_path, books_url, upstream, door=door) as (here, there):
        await at_once(here, there, upstream)
        await after_a_failure(here, there, upstream)
        await by_the_sdk(here, upstream)
        await of_others(here, there, upstream)
        await without_postgres(there, door, upstream)
        await killed_in_the_middle(here, there, upstream)
        kept = await said(books_url, "select coalesce(answer, '') as answer from repeat")
        assert len(kept) >= 6
        assert not any(CANARY in row["answer"] or b"canary" in row["answer"] for row in kept)
        assert await asyncio.to_thread(here.stop) == 0
        await nothing_is_missing(here, upstream.heard, price=PRICE)
