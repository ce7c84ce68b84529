"""What the client does beyond its port: whom it trusts, how long it keeps connections, how it finds addresses.

The exchanges themselves are in `tests/ports/http_suite.py`; they pass through `app.providers.http_connection`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import pytest

from app.providers.exchange import UNREAD_MOST_BYTES, HttpClient, HttpFault, HttpFaultKind
from app.providers.http import PooledClient, http_client
from app.providers.http_connection import Connection
from tests.certificates import ROOTS_FILE, serving, show
from tests.ports.http_suite import post, read_all
from tests.providers.cancelling import cancelled_as_it_comes
from tests.upstream import LAST_PART, Finish, Hang, Pause, ScriptedUpstream, Send, head, part, stream_head, whole


@pytest.fixture
async def client() -> AsyncIterator[PooledClient]:
    client = PooledClient(roots_file=ROOTS_FILE, keep_idle_s=0.3, keep_idle_tls_s=30)
    yield client
    await client.close()


async def fault_of(client: HttpClient, url: str, *, connect_s: float = 5.0) -> HttpFaultKind:
    with pytest.raises(HttpFault) as caught:
        await post(client, url, connect_s=connect_s)
    return caught.value.kind


# ── F-42: trust ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("certificate", ["expired", "othername", "selfsigned"])
async def test_a_certificate_that_proves_nothing_ends_the_matter(client: PooledClient, certificate: str) -> None:
    async with ScriptedUpstream(tls=serving(certificate)) as upstream:
        assert await fault_of(client, upstream.url) is HttpFaultKind.UNTRUSTED
        assert upstream.heard == []


async def test_an_authority_must_be_trusted_by_name() -> None:
    async with ScriptedUpstream(tls=serving("good")) as upstream:
        client = http_client()
        assert await fault_of(client, upstream.url) is HttpFaultKind.UNTRUSTED
        await client.close()
        assert upstream.heard == []


async def test_an_old_version_of_tls_is_refused(client: PooledClient) -> None:
    old = serving("good")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with ScriptedUpstream(tls=old) as upstream:
        assert await fault_of(client, upstream.url) in {HttpFaultKind.UNTRUSTED, HttpFaultKind.REFUSED}
        assert upstream.heard == []


async def test_a_certificate_that_is_replaced_counts_from_the_next_connection(client: PooledClient) -> None:
    """For better and for worse: what is under way goes on."""
    shown = serving("good")
    async with ScriptedUpstream(tls=shown) as upstream:
        upstream.will([stream_head(), part(b"one"), Pause(seconds=0.3), part(b"two"), LAST_PART])
        running = await post(client, upstream.url)
        show(shown, "expired")
        assert await fault_of(client, upstream.url) is HttpFaultKind.UNTRUSTED
        assert await read_all(running) == b"onetwo"
        running.close()
        show(shown, "good")
        renewed = [await post(client, upstream.url) for _ in range(2)]
        assert [answer.status for answer in renewed] == [200, 200]
        for answer in renewed:
            answer.close()


async def test_a_server_that_speaks_no_tls_is_not_trusted(client: PooledClient, upstream: ScriptedUpstream) -> None:
    url = upstream.url.replace("http://", "https://")
    assert await fault_of(client, url, connect_s=1) in {HttpFaultKind.UNTRUSTED, HttpFaultKind.CONNECT_TIMEOUT}
    assert upstream.heard == []


async def test_a_handshake_that_stalls_is_given_up_with_the_connection(client: PooledClient) -> None:
    ended = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        ended.set()
        writer.close()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    assert await fault_of(client, url, connect_s=0.3) is HttpFaultKind.CONNECT_TIMEOUT
    await asyncio.wait_for(ended.wait(), 5)
    server.close()
    await server.wait_closed()


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_idle_connection_is_closed_before_its_server_would(
    client: PooledClient, upstream: ScriptedUpstream
) -> None:
    answer = await post(client, upstream.url)
    await read_all(answer)
    answer.close()
    assert len(upstream.open_connections) == 1
    async with asyncio.timeout(5):
        while upstream.open_connections:
            await asyncio.sleep(0.05)


async def test_a_connection_under_tls_is_kept_longer(client: PooledClient) -> None:
    async with ScriptedUpstream(tls=serving("good")) as upstream:
        for _ in range(2):
            answer = await post(client, upstream.url)
            await read_all(answer)
            answer.close()
            await asyncio.sleep(0.7)
        assert upstream.connections == 1


async def test_connections_to_different_places_are_not_mixed(client: PooledClient, upstream: ScriptedUpstream) -> None:
    async with ScriptedUpstream() as other:
        for each in (upstream, other, upstream, other):
            answer = await post(client, each.url)
            await read_all(answer)
            answer.close()
        assert [len(upstream.heard), len(other.heard)] == [2, 2]
        assert [upstream.connections, other.connections] == [1, 1]


async def test_a_name_with_several_addresses_is_tried_at_more_than_one(
    client: PooledClient, upstream: ScriptedUpstream
) -> None:
    """Where `localhost` is `::1` first, nobody listens there."""
    answer = await post(client, upstream.url.replace("127.0.0.1", "localhost"))
    assert answer.status == 200
    answer.close()


async def test_a_connection_that_ends_as_soon_as_it_is_made_is_a_fault_and_no_crash(client: PooledClient) -> None:
    async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(leave, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    for _ in range(20):
        assert await fault_of(client, url) in {HttpFaultKind.REFUSED, HttpFaultKind.CUT}
    server.close()
    await server.wait_closed()


async def test_small_writes_leave_at_once(upstream: ScriptedUpstream) -> None:
    """TCP_NODELAY is set on the socket, by whichever event loop."""
    loop = asyncio.get_running_loop()
    port = int(upstream.url.removesuffix("/v1").rpartition(":")[2])
    transport, _ = await loop.create_connection(
        lambda: Connection(loop=loop, at_rest=lambda _: None, gone=lambda _: None), "127.0.0.1", port
    )
    assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    transport.abort()


async def test_what_came_before_a_cut_is_given_before_it(client: PooledClient, upstream: ScriptedUpstream) -> None:
    upstream.will([stream_head(), part(b"one"), part(b"two"), Finish()])
    answer = await post(client, upstream.url)
    await asyncio.sleep(0.1)
    assert await answer.read() == b"onetwo"
    with pytest.raises(HttpFault):
        await answer.read()
    answer.close()


@pytest.mark.parametrize(("status", "told"), [(200, b"made"), (500, b"")])
async def test_who_is_cancelled_in_the_very_turn_in_which_an_answer_comes_is_told_what_came(
    client: PooledClient, upstream: ScriptedUpstream, status: int, told: bytes
) -> None:
    """A cancelled task does not get what it waited for, though it is there."""
    said = head(status, headers=(("content-length", "9"),))
    upstream.always([Send(raw=said.raw + b"made"), Hang()])
    unread = bytearray()
    destination = client.destination(f"{upstream.url}/things", headers={})
    posting = destination.post(b"{}", headers={}, connect_s=2, unread=unread)
    await cancelled_as_it_comes(client, b"made", posting)
    assert unread == told


async def test_an_answer_to_half_a_request_does_not_keep_its_connection(
    client: PooledClient, upstream: ScriptedUpstream
) -> None:
    """A server may refuse before it has read all; what is unsent would garble the next request."""
    refused = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await refused.wait()
        writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1024)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    answer = await post(client, url, b"x" * 64 * 1024 * 1024)
    assert (answer.status, await read_all(answer)) == (413, b"no")
    answer.close()
    again = asyncio.get_running_loop().create_task(post(client, url))
    assert (await again).status == 413
    again.result().close()
    refused.set()
    server.close()
    await server.wait_closed()


async def test_trailers_without_end_are_given_up(client: PooledClient, upstream: ScriptedUpstream) -> None:
    trailers = b"0\r\n" + b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(200))
    upstream.will([stream_head(), part(b"all"), Pause(seconds=0.02), Send(raw=trailers), Hang()])
    answer = await post(client, upstream.url)
    assert await answer.read() == b"all"
    with pytest.raises(HttpFault):
        await answer.read()
    answer.close()


async def test_nothing_of_an_answer_is_kept_after_it(client: PooledClient, upstream: ScriptedUpstream) -> None:
    upstream.will(whole(b"x" * UNREAD_MOST_BYTES, headers=(("x-first", "1"),)), whole(b"second"))
    first = await post(client, upstream.url)
    await read_all(first)
    first.close()
    second = await post(client, upstream.url)
    assert await read_all(second) == b"second"
    assert second.header("x-first") is None
    assert first.header("x-first") == "1"
    with pytest.raises(HttpFault):
        await first.read()
    second.close()
