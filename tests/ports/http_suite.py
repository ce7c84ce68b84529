"""What every HTTP client behind `app.providers.exchange` does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import pytest

from app.providers.exchange import (
    HEAD_MOST_BYTES,
    LINGER_S,
    UNREAD_MOST_BYTES,
    HttpAnswer,
    HttpClient,
    HttpFault,
    HttpFaultKind,
)
from tests.upstream import (
    LAST_PART,
    Finish,
    Hang,
    Heard,
    Pause,
    Reset,
    ScriptedUpstream,
    Send,
    Step,
    Until,
    full_queue,
    head,
    part,
    refusal,
    stood_at,
    stream,
    stream_head,
    unreachable_url,
    whole,
)

#: The kernel's own buffers between two sockets; more than this on the way means that nobody holds the sender back.
KERNEL_MOST_BYTES = 16 * 1024 * 1024


async def post(
    client: HttpClient, url: str, body: bytes = b"{}", *, connect_s: float = 20.0, request_id: str = "r1"
) -> HttpAnswer:
    destination = client.destination(f"{url}/things", headers={"accept": "application/json"})
    return await destination.post(body, headers={"x-request-id": request_id}, connect_s=connect_s)


async def read_all(answer: HttpAnswer) -> bytes:
    received = b""
    while more := await answer.read():
        received += more
    return received


async def all_is_read() -> None:
    """What had come before on any socket of this loop has been read when it returns."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"?")
    await reader.read()
    writer.close()
    server.close()
    await server.wait_closed()


async def closed(upstream: ScriptedUpstream) -> None:
    """No connection to it is open, and the client knows."""
    async with asyncio.timeout(20):
        while upstream.open_connections:
            await asyncio.sleep(0.005)
    await all_is_read()


class HttpSuite:
    """Inherit, and give a fixture `client`, closed after the test."""

    # ── what is sent and what comes back ─────────────────────────────────────────────────────────────────────────────

    async def test_what_came_and_was_not_read_is_told_without_waiting(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will([stream_head(), part(b"one"), part(b"two"), Hang()])
        answer = await post(client, upstream.url)
        came = b""
        async with asyncio.timeout(20):
            while len(came) < len(b"onetwo"):
                came += answer.unread()
                await asyncio.sleep(0.01)
        assert came == b"onetwo"
        assert answer.unread() == b""
        answer.close()
        assert answer.unread() == b""

    async def test_a_request_arrives_as_it_was_given_and_nothing_is_added(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        answer = await post(client, upstream.url, b'{"a": 1}')
        answer.close()
        heard = upstream.heard[0]
        assert (heard.method, heard.path, heard.body) == ("POST", "/v1/things", b'{"a": 1}')
        host = upstream.url.partition("://")[2].removesuffix("/v1")
        given = {"accept": "application/json", "x-request-id": "r1"}
        assert heard.headers == {"host": host, **given, "content-length": "8"}

    async def test_a_page_is_asked_for_without_a_body_on_a_connection_that_serves_again(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.always(whole(b"page"))
        destination = client.destination(f"{upstream.url}/metrics?a=b", headers={"accept": "*/*"})
        for _ in range(2):
            answer = await destination.get(connect_s=20)
            assert (answer.status, await read_all(answer)) == (200, b"page")
            answer.close()
        heard = upstream.heard[0]
        assert (heard.method, heard.path, heard.body) == ("GET", "/v1/metrics?a=b", b"")
        host = upstream.url.partition("://")[2].removesuffix("/v1")
        assert heard.headers == {"host": host, "accept": "*/*"}
        posted = await post(client, upstream.url)
        await read_all(posted)
        posted.close()
        assert upstream.connections == 1

    async def test_an_answer_comes_with_its_status_headers_and_body(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will(refusal(418, b"teapot", headers=(("X-Request-Id", "abc"), ("x-empty", ""), ("x-last", "1"))))
        answer = await post(client, upstream.url)
        assert answer.status == 418
        assert (answer.header("x-request-id"), answer.header("x-last")) == ("abc", "1")
        assert not answer.header("x-empty")
        assert answer.header("x-nothing") is None
        assert await read_all(answer) == b"teapot"
        assert await answer.read() == b""
        answer.close()

    async def test_a_large_body_goes_and_comes_whole(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        sent = b"x" * (3 * 1024 * 1024)
        upstream.will(whole(sent))
        answer = await post(client, upstream.url, sent)
        assert await read_all(answer) == sent
        assert upstream.heard[0].body == sent
        answer.close()

    async def test_parts_of_a_stream_come_when_they_were_sent(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        was_read = asyncio.Event()
        upstream.will([stream_head(), part(b"one"), Until(event=was_read), part(b"two"), Hang()])
        async with asyncio.timeout(20):
            answer = await post(client, upstream.url)
            assert await answer.read() == b"one"
            was_read.set()
            assert await answer.read() == b"two"
        answer.close()

    async def test_a_body_without_length_ends_with_its_connection(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will([head(headers=(("content-type", "text/plain"),)), Send(raw=b"all of it"), Finish()])
        answer = await post(client, upstream.url)
        assert await read_all(answer) == b"all of it"
        answer.close()

    async def test_interim_answers_are_passed_over(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        hints = Send(raw=b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        upstream.will([hints, *whole(b"final")])
        answer = await post(client, upstream.url)
        assert (answer.status, await read_all(answer)) == (200, b"final")
        assert answer.header("link") is None
        answer.close()

    async def test_a_compressed_body_is_left_as_it_came(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        upstream.will(whole(b"\x1f\x8b not really", headers=(("content-encoding", "gzip"),)))
        answer = await post(client, upstream.url)
        assert answer.header("content-encoding") == "gzip"
        assert await read_all(answer) == b"\x1f\x8b not really"
        answer.close()

    async def test_a_redirect_is_an_answer_and_is_not_followed(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will(refusal(307, b"", headers=(("location", f"{upstream.url}/elsewhere"),)))
        answer = await post(client, upstream.url)
        assert answer.status == 307
        answer.close()
        assert len(upstream.heard) == 1

    async def test_cookies_are_not_kept(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        upstream.will(whole(b"{}", headers=(("set-cookie", "a=1"),)))
        for _ in range(2):
            answer = await post(client, upstream.url)
            await read_all(answer)
            answer.close()
        assert "cookie" not in upstream.heard[1].headers

    async def test_a_proxy_of_the_environment_is_not_used(
        self, client: HttpClient, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, unreachable_url().removesuffix("/v1"))
        answer = await post(client, upstream.url)
        assert answer.status == 200
        answer.close()

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_a_connection_serves_one_request_after_another(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        for _ in range(3):
            answer = await post(client, upstream.url)
            await read_all(answer)
            answer.close()
        assert upstream.connections == 1

    async def test_requests_at_once_have_connections_of_their_own_without_limit(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.always(whole(b"{}", first_s=0.2))
        answers = await asyncio.gather(*[post(client, upstream.url) for _ in range(150)])
        assert upstream.connections == 150
        for answer in answers:
            answer.close()

    async def test_a_connection_is_kept_when_its_answer_is_finished_before_its_very_end(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        loop, may_end = asyncio.get_running_loop(), asyncio.Event()
        upstream.will([stream_head(), part(b"said"), Until(event=may_end), part(b"more"), LAST_PART])
        answer = await post(client, upstream.url)
        assert await answer.read() == b"said"
        finished_s = loop.time()
        answer.finish()
        may_end.set()
        async with asyncio.timeout(20):
            while not upstream.heard[0].answered and not upstream.heard[0].left.is_set():
                await asyncio.sleep(0.005)
        await all_is_read()
        ended_too_late = loop.time() - finished_s > 0.9 * LINGER_S
        again = await post(client, upstream.url)
        again.close()
        assert ended_too_late or upstream.connections == 1
        assert ended_too_late or upstream.heard[0].hung_up_at_s is None

    async def test_a_finished_answer_that_never_ends_loses_its_connection(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will([stream_head(), part(b"said"), Hang()])
        answer = await post(client, upstream.url)
        assert await answer.read() == b"said"
        answer.finish()
        await self._hung_up(upstream.heard[0])

    async def test_a_connection_that_its_server_closed_is_not_used_again(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        may_end = asyncio.Event()
        upstream.will([*whole(b"{}"), Until(event=may_end), Finish()])
        answer = await post(client, upstream.url)
        await read_all(answer)
        answer.close()
        may_end.set()
        await closed(upstream)
        again = await post(client, upstream.url)
        assert await read_all(again)
        again.close()
        assert upstream.connections == 2

    async def test_connection_close_is_obeyed(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        upstream.will(whole(b"{}", headers=(("connection", "close"),)))
        for _ in range(2):
            answer = await post(client, upstream.url)
            await read_all(answer)
            answer.close()
        assert upstream.connections == 2

    async def test_an_answer_that_nobody_asked_for_is_given_to_nobody(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will([*whole(b"first"), *whole(b"unasked")])
        answer = await post(client, upstream.url)
        assert await read_all(answer) == b"first"
        answer.close()
        await closed(upstream)
        upstream.will(whole(b"second"))
        again = await post(client, upstream.url)
        assert await read_all(again) == b"second"
        again.close()

    async def test_small_writes_are_not_held_back(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        """With Nagle's algorithm on, a second small write waits for the first one's acknowledgement: 40 ms."""
        upstream.always(whole(b"{}"))
        took_s: list[float] = []
        for _ in range(100):
            began = time.monotonic()
            answer = await post(client, upstream.url)
            await read_all(answer)
            answer.close()
            took_s.append(time.monotonic() - began)
        assert sorted(took_s)[25] < 0.03, "all but the first few would take longer"

    # ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────

    async def test_a_closed_port_refuses(self, client: HttpClient) -> None:
        assert await self._fault(post(client, unreachable_url())) is HttpFaultKind.REFUSED

    async def test_a_name_that_does_not_resolve_says_so(self, client: HttpClient) -> None:
        fault = await self._fault(post(client, "http://no-such-host.invalid:80/v1", connect_s=20))
        assert fault is HttpFaultKind.UNRESOLVED

    async def test_a_connection_that_hangs_is_given_up_in_time(self, client: HttpClient) -> None:
        with full_queue() as url:
            began = time.monotonic()
            assert await self._fault(post(client, url, connect_s=0.2)) is HttpFaultKind.CONNECT_TIMEOUT
            assert time.monotonic() - began < 20

    @pytest.mark.parametrize(
        "url", ["ftp://a/b", "http://", "http://user:word@127.0.0.1/v1", "http://[::1/v1", "nowhere"]
    )
    async def test_a_url_that_cannot_be_used_opens_nothing(self, client: HttpClient, url: str) -> None:
        with pytest.raises(HttpFault) as caught:
            client.destination(url, headers={})
        assert caught.value.kind is HttpFaultKind.UNRESOLVED

    async def test_a_header_cannot_smuggle_another(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        with pytest.raises(HttpFault):
            client.destination(upstream.url, headers={"authorization": "Bearer a\r\nx-evil: 1"})
        with pytest.raises(HttpFault):
            await post(client, upstream.url, request_id="a\r\nx-evil: 1")
        assert upstream.heard == []

    @pytest.mark.parametrize(
        "garbage", [b"SSH-2.0-OpenSSH_9\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00\x01\x02\x03\r\n\r\n"]
    )
    async def test_what_is_not_http_is_malformed(
        self, client: HttpClient, upstream: ScriptedUpstream, garbage: bytes
    ) -> None:
        upstream.will([Send(raw=garbage), Hang()])
        assert await self._fault(post(client, upstream.url)) is HttpFaultKind.MALFORMED

    async def test_a_head_without_end_is_malformed(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        endless = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(4 * HEAD_MOST_BYTES // 1000))
        upstream.will([Send(raw=b"HTTP/1.1 200 OK\r\n" + endless), Hang()])
        assert await self._fault(post(client, upstream.url)) is HttpFaultKind.MALFORMED

    @pytest.mark.parametrize("ending", [Finish(), Reset()])
    async def test_a_connection_that_ends_before_the_head_is_cut(
        self, client: HttpClient, upstream: ScriptedUpstream, ending: Step
    ) -> None:
        upstream.will([ending])
        assert await self._fault(post(client, upstream.url)) is HttpFaultKind.CUT

    @pytest.mark.parametrize("ending", [Finish(), Reset(), Send(raw=b"no chunk size\r\n")])
    async def test_a_body_that_ends_too_early_is_cut(
        self, client: HttpClient, upstream: ScriptedUpstream, ending: Step
    ) -> None:
        upstream.will([stream_head(), part(b"half"), Pause(seconds=0.05), ending])
        answer = await post(client, upstream.url)
        assert await answer.read() == b"half"
        assert await self._fault(answer.read()) is HttpFaultKind.CUT
        answer.close()

    async def test_a_body_shorter_than_its_length_is_cut(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        upstream.will([*whole(b"short", length=100), Finish()])
        answer = await post(client, upstream.url)
        assert await self._fault(read_all(answer)) is HttpFaultKind.CUT
        answer.close()

    async def test_a_read_is_late_at_the_moment_given_and_not_before(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will([stream_head(), part(b"one"), Pause(seconds=0.2), part(b"two"), Hang()])
        answer = await post(client, upstream.url)
        loop = asyncio.get_running_loop()
        assert await answer.read() == b"one"
        answer.expect_by(loop.time() + 20)
        assert await answer.read() == b"two"
        began = loop.time()
        answer.expect_by(began + 0.2)
        assert await self._fault(answer.read()) is HttpFaultKind.LATE
        assert 0.15 < loop.time() - began < 20
        await self._hung_up(upstream.heard[0])
        answer.close()

    async def test_a_moment_that_passes_while_nobody_reads_harms_nothing(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        passed = asyncio.Event()
        upstream.will([stream_head(), part(b"one"), Until(event=passed), part(b"two"), LAST_PART])
        answer = await post(client, upstream.url)
        loop = asyncio.get_running_loop()
        assert await answer.read() == b"one"
        answer.expect_by(loop.time() + 0.1)
        await asyncio.sleep(0.2)
        answer.expect_by(loop.time() + 20)
        passed.set()
        assert await read_all(answer) == b"two"
        answer.close()

    # ── whoever leaves, leaves nothing behind ────────────────────────────────────────────────────────────────────────

    async def test_cancelling_a_post_breaks_its_connection_at_once(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will([Hang()])
        asking = asyncio.get_running_loop().create_task(post(client, upstream.url))
        heard = await upstream.heard_one()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await self._hung_up(heard)

    async def test_cancelling_a_read_and_closing_breaks_the_connection_at_once(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will([stream_head(), part(b"one"), Hang()])
        answer = await post(client, upstream.url)
        assert await answer.read() == b"one"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.read(), 0.05)
        answer.close()
        await self._hung_up(upstream.heard[0])

    async def test_closing_in_the_middle_breaks_the_connection_at_once_and_twice_is_once(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will(stream(pause_s=0.2))
        answer = await post(client, upstream.url)
        await answer.read()
        answer.close()
        answer.close()
        answer.finish()
        await self._hung_up(upstream.heard[0])
        again = await post(client, upstream.url)
        assert again.status == 200
        again.close()

    async def test_closing_the_client_breaks_what_is_in_use(
        self, client: HttpClient, upstream: ScriptedUpstream
    ) -> None:
        upstream.will([stream_head(), part(b"one"), Hang()])
        answer = await post(client, upstream.url)
        await client.close()
        await self._hung_up(upstream.heard[0])
        answer.close()

    async def test_a_slow_reader_makes_the_sender_wait(self, client: HttpClient, upstream: ScriptedUpstream) -> None:
        piece = b"x" * 65536
        many = 1024
        assert many * len(piece) > 2 * KERNEL_MOST_BYTES
        upstream.will([stream_head(), *[part(piece) for _ in range(many)], LAST_PART])
        answer = await post(client, upstream.url)
        first = await answer.read()
        assert await stood_at(upstream.heard[0]) < KERNEL_MOST_BYTES
        largest, total = 0, len(first)
        while received := await answer.read():
            largest, total = max(largest, len(received)), total + len(received)
        assert total == many * len(piece)
        assert largest <= 8 * UNREAD_MOST_BYTES
        answer.close()

    async def _fault(self, doing: Awaitable[object]) -> HttpFaultKind:
        with pytest.raises(HttpFault) as caught:
            await doing
        assert "127.0.0.1" not in str(caught.value)
        return caught.value.kind

    async def _hung_up(self, heard: Heard) -> None:
        await asyncio.wait_for(heard.left.wait(), 10)
