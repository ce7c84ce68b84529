"""`app.providers.webhook`: what a receiver of alerts may do, and what is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.ports.alerts import NotTaken
from app.providers.http import PooledClient
from app.providers.webhook import Webhook
from tests.upstream import (
    Finish,
    Hang,
    Pause,
    Reset,
    ScriptedUpstream,
    Send,
    Step,
    full_queue,
    head,
    refusal,
    unreachable_url,
    whole,
)


@pytest.fixture
async def client() -> AsyncIterator[PooledClient]:
    client = PooledClient()
    yield client
    await client.close()


async def why_not(client: PooledClient, url: str, *, within_s: float = 10.0) -> str:
    with pytest.raises(NotTaken) as caught:
        await Webhook(client, url, within_s=within_s).send(b"{}", headers={})
    assert "127.0.0.1" not in str(caught.value), "an address may hold a secret"
    return str(caught.value)


@pytest.mark.parametrize("answer", [whole(b"ok"), refusal(202, b""), [head(204)]])
async def test_any_answer_of_2xx_takes_it(client: PooledClient, upstream: ScriptedUpstream, answer: list[Step]) -> None:
    upstream.will(answer)
    await Webhook(client, f"{upstream.url}/hook?team=a").send(b'{"a":1}', headers={"breakeven-alert": "7"})
    (heard,) = upstream.heard
    assert (heard.method, heard.path, heard.body) == ("POST", "/v1/hook?team=a", b'{"a":1}')
    assert heard.headers["breakeven-alert"] == "7"
    assert heard.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503])
async def test_any_other_status_does_not(client: PooledClient, upstream: ScriptedUpstream, status: int) -> None:
    upstream.will(refusal(status))
    assert await why_not(client, upstream.url) == f"answered {status}"


async def test_a_redirect_is_not_followed_and_says_what_to_set(
    client: PooledClient, upstream: ScriptedUpstream
) -> None:
    async with ScriptedUpstream() as elsewhere:
        upstream.will(refusal(307, b"", headers=[("location", elsewhere.url)]))
        said = await why_not(client, upstream.url)
        assert elsewhere.heard == []
    assert "answered 307, a redirect, which is not followed" in said


@pytest.mark.parametrize(
    "answer",
    [[Hang()], [Send(raw=b"HTTP/1.1 200 "), Hang()], [Send(raw=b"HTTP/1.1 100 Continue\r\n\r\n"), Hang()]],
    ids=["silent", "half-a-head", "only-an-interim-answer"],
)
async def test_who_does_not_answer_in_time_has_not_taken_it(
    client: PooledClient, upstream: ScriptedUpstream, answer: list[Step]
) -> None:
    upstream.will(answer)
    assert await why_not(client, upstream.url, within_s=0.2) == "no answer within 0.2 s"
    (heard,) = upstream.heard
    async with asyncio.timeout(10):
        await heard.left.wait()


async def test_a_slow_answer_in_time_is_one(client: PooledClient, upstream: ScriptedUpstream) -> None:
    upstream.will(whole(b"ok", first_s=0.3))
    await Webhook(client, upstream.url).send(b"{}", headers={})


async def test_a_body_that_never_ends_is_not_waited_for(client: PooledClient, upstream: ScriptedUpstream) -> None:
    upstream.will([head(headers=[("content-length", "1000000")]), Send(raw=b"x" * 1000), Hang()])
    await Webhook(client, upstream.url, within_s=10).send(b"{}", headers={})


async def test_a_port_where_nobody_listens_and_one_that_lets_nobody_in(client: PooledClient) -> None:
    assert "refused" in await why_not(client, unreachable_url())
    with full_queue() as url:
        assert await why_not(client, url, within_s=0.3) in (
            "no answer within 0.3 s",
            "no connection in time (connect_timeout)",
        )


@pytest.mark.parametrize("ending", [Reset(), Finish()])
async def test_a_connection_that_breaks_is_no_answer(
    client: PooledClient, upstream: ScriptedUpstream, ending: Step
) -> None:
    upstream.will([Pause(seconds=0.01), ending])
    assert "cut" in await why_not(client, upstream.url)


@pytest.mark.parametrize("url", ["http://name that is none/x", "gopher://example.org", "http://example.invalid/x"])
async def test_an_address_that_leads_nowhere_is_no_crash(client: PooledClient, url: str) -> None:
    assert await why_not(client, url)
