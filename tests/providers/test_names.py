"""F-41: whatever a resolver does, the loop goes on, and only who asked for that name waits."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import pytest

from app.providers.exchange import HttpFault, HttpFaultKind
from app.providers.http import PooledClient
from app.providers.names import LOOKUPS_MOST, NO_SUCH_NAME_S, Address, Names, system_look_up
from tests.certificates import ROOTS_FILE, serving
from tests.ports.http_suite import post, read_all
from tests.upstream import ScriptedUpstream, whole

AT_HOME: Address = (int(socket.AF_INET), "127.0.0.1")


class Resolver:
    """A resolver as told: addresses, or what it raises. A name that is held gets no answer until it is let go."""

    def __init__(self, **said: Sequence[Address] | Exception) -> None:
        self.said = said
        self.asked: list[str] = []
        self._held: dict[str, threading.Event] = {}

    def __call__(self, host: str) -> Sequence[Address]:
        self.asked.append(host)
        if host in self._held:
            self._held[host].wait(60)
        said = self.said[host]
        if isinstance(said, Exception):
            raise said
        return said

    @contextmanager
    def held(self, *hosts: str) -> Iterator[None]:
        self._held = {host: threading.Event() for host in hosts}
        try:
            yield
        finally:
            for event in self._held.values():
                event.set()


def _refused(errno: int) -> socket.gaierror:
    return socket.gaierror(errno, "as told")


@pytest.fixture
def resolver() -> Resolver:
    return Resolver(
        home=[AT_HOME],
        nowhere=_refused(socket.EAI_NONAME),
        broken=_refused(socket.EAI_AGAIN),
        failed=_refused(socket.EAI_FAIL),
        empty=[],
    )


@pytest.fixture
async def client(resolver: Resolver) -> AsyncIterator[PooledClient]:
    client = PooledClient(roots_file=ROOTS_FILE, look_up=resolver)
    yield client
    await client.close()


def _at(name: str, upstream: ScriptedUpstream) -> str:
    return upstream.url.replace("127.0.0.1", name)


async def _fault(client: PooledClient, url: str, *, connect_s: float = 20.0) -> HttpFaultKind:
    with pytest.raises(HttpFault) as caught:
        await post(client, url, connect_s=connect_s)
    return caught.value.kind


@pytest.mark.parametrize("name", ["nowhere", "broken", "failed", "empty"])
async def test_a_name_without_an_address_is_one_fault_whatever_the_reason(
    client: PooledClient, upstream: ScriptedUpstream, name: str
) -> None:
    assert await _fault(client, _at(name, upstream)) is HttpFaultKind.UNRESOLVED
    assert upstream.heard == []


async def test_a_resolver_that_hangs_is_given_up_at_the_connect_time_and_keeps_nobody_else(
    client: PooledClient, upstream: ScriptedUpstream, resolver: Resolver
) -> None:
    hung = [f"hung{number}" for number in range(40)]  # more than any pool of threads has
    resolver.said |= {name: [AT_HOME] for name in hung}
    with resolver.held(*hung):
        began_s = time.monotonic()
        waiting = [asyncio.ensure_future(_fault(client, _at(name, upstream), connect_s=1.0)) for name in hung]
        async with asyncio.timeout(5):
            while len(resolver.asked) < len(hung):
                await asyncio.sleep(0.01)
        answer = await post(client, _at("home", upstream))
        assert await read_all(answer)
        answer.close()
        assert {await each for each in waiting} == {HttpFaultKind.CONNECT_TIMEOUT}
        assert 1.0 <= time.monotonic() - began_s < 15
    assert len(upstream.heard) == 1


async def test_many_who_want_one_name_ask_once_and_who_leaves_takes_nothing_from_the_others(
    client: PooledClient, upstream: ScriptedUpstream, resolver: Resolver
) -> None:
    upstream.always(whole(b"{}"))
    with resolver.held("home"):
        waiting = [asyncio.ensure_future(post(client, _at("home", upstream))) for _ in range(30)]
        await asyncio.sleep(0.05)
        for each in waiting[:10]:
            each.cancel()
        await asyncio.sleep(0.05)
    answers = await asyncio.gather(*waiting[10:])
    assert [answer.status for answer in answers] == [200] * 20
    for answer in answers:
        answer.close()
    assert resolver.asked == ["home"]
    assert all(each.cancelled() for each in waiting[:10])


async def test_an_address_that_changed_is_followed_by_the_next_connection(
    client: PooledClient, upstream: ScriptedUpstream, resolver: Resolver
) -> None:
    port = int(upstream.url.removesuffix("/v1").rpartition(":")[2])
    moved = await asyncio.start_server(_moved, "127.0.0.2", port)
    upstream.always(whole(b"{}", headers=(("connection", "close"),)))
    seen = []
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
        resolver.said["home"] = [(int(socket.AF_INET), address)]
        answer = await post(client, _at("home", upstream))
        seen.append(answer.status)
        answer.close()
    assert seen == [200, 418, 200]
    moved.close()
    await moved.wait_closed()


async def _moved(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 418 Elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


async def test_the_name_is_what_a_certificate_must_be_for(resolver: Resolver, client: PooledClient) -> None:
    resolver.said["localhost"] = [AT_HOME]
    async with ScriptedUpstream(tls=serving("good")) as upstream:
        answer = await post(client, _at("localhost", upstream))
        assert answer.status == 200
        answer.close()
        assert await _fault(client, _at("home", upstream)) is HttpFaultKind.UNTRUSTED


async def test_an_address_is_asked_of_nobody() -> None:
    resolver = Resolver()
    names = Names(look_up=resolver)
    assert await names.addresses("10.1.2.3") == [(socket.AF_INET, "10.1.2.3")]
    assert await names.addresses("::1") == [(socket.AF_INET6, "::1")]
    assert resolver.asked == []


async def test_a_name_that_does_not_exist_is_not_asked_for_again_at_once_and_one_that_was_not_answered_is(
    resolver: Resolver,
) -> None:
    names = Names(look_up=resolver)
    for name, asked in (("nowhere", 1), ("empty", 1), ("broken", 3)):
        resolver.asked.clear()
        for _ in range(3):
            with pytest.raises(OSError, match=r"."):
                await names.addresses(name)
        assert resolver.asked == [name] * asked
    resolver.said["nowhere"] = [AT_HOME]
    await asyncio.sleep(NO_SUCH_NAME_S)
    assert await names.addresses("nowhere") == [AT_HOME]


async def test_names_that_are_asked_for_at_once_are_bounded(resolver: Resolver) -> None:
    names = Names(look_up=resolver)
    hung = [f"hung{number}" for number in range(LOOKUPS_MOST)]
    resolver.said |= {name: [AT_HOME] for name in hung}
    with resolver.held(*hung):
        waiting = [asyncio.ensure_future(names.addresses(name)) for name in hung]
        await asyncio.sleep(0.01)
        with pytest.raises(socket.gaierror):
            await names.addresses("home")
    assert await asyncio.gather(*waiting) == [[AT_HOME]] * LOOKUPS_MOST
    assert await names.addresses("home") == [AT_HOME]


async def test_a_host_is_asked_for_again_after_no_thread_could_be_started(resolver: Resolver) -> None:
    names = Names(look_up=resolver)
    with no_more_threads(), pytest.raises(OSError, match="no thread"):
        await names.addresses("home")
    assert resolver.asked == []
    async with asyncio.timeout(30):
        assert await names.addresses("home") == [AT_HOME]


async def test_a_look_up_that_fails_as_none_should_is_a_fault_of_that_question_alone(resolver: Resolver) -> None:
    names = Names(look_up=resolver)
    resolver.said["home"] = MemoryError("as told")
    async with asyncio.timeout(30):
        with pytest.raises(OSError, match="MemoryError: as told"):
            await names.addresses("home")
        resolver.said["home"] = [AT_HOME]
        assert await names.addresses("home") == [AT_HOME]


@contextmanager
def no_more_threads() -> Iterator[None]:
    """No process of this system can map the stack of another thread: it says so as one that has run out does."""
    usual = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(usual)


def test_an_answer_that_comes_when_nobody_is_there_any_more_harms_nothing() -> None:
    resolver = Resolver(late=[AT_HOME])

    async def leave() -> None:
        waiting = asyncio.ensure_future(Names(look_up=resolver).addresses("late"))
        await asyncio.sleep(0.05)
        waiting.cancel()

    with resolver.held("late"):
        asyncio.run(leave())
    for thread in threading.enumerate():
        if thread.name == "names":
            thread.join(10)
    assert not [thread for thread in threading.enumerate() if thread.name == "names"]


def test_the_systems_own_answer_has_the_address_of_this_machine() -> None:
    assert {address for _, address in system_look_up("localhost")} & {"127.0.0.1", "::1"}
    with pytest.raises((OSError, UnicodeError)):
        system_look_up("no-such-host.invalid")
