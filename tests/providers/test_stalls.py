"""A gateway that got no time itself: what lay in its sockets in time was in time, however late it is read.

The target is a thread, so that it goes on while the loop stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from app.domain.routing.policy import Timeouts
from app.providers.credentials import NamedCredentials
from app.providers.exchange import HttpAnswer, HttpFault, HttpFaultKind
from app.providers.http import PooledClient
from app.providers.openai_native import OpenAiProvider
from tests.makers import a_target
from tests.ports.http_suite import post, read_all
from tests.providers.test_openai_native import a_call
from tests.upstream import chunk, part, stream_head

HEAD = stream_head().raw
END = b"0\r\n\r\n"
SHORT_S = 0.3


class Apart:
    """A target for one connection, in a thread of its own. It answers in the pieces given, each once it is told to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peer: socket.socket | None = None
        self.heard = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def says(self, raw: bytes) -> None:
        assert self._peer is not None
        self._peer.sendall(raw)

    def close(self) -> None:
        for each in (self._listener, self._peer):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)  # whoever waits in it is woken
        self._thread.join()
        for each in (self._listener, self._peer):
            if each is not None:
                each.close()

    def _serve(self) -> None:
        try:
            self._peer, _ = self._listener.accept()
        except OSError:
            return
        if self._peer.recv(65_536):
            self.heard.set()


@pytest.fixture
def target() -> Iterator[Apart]:
    target = Apart()
    yield target
    target.close()


@pytest.fixture
async def client() -> AsyncIterator[PooledClient]:
    client = PooledClient()
    yield client
    await client.close()


def stand_still(for_s: float) -> None:
    """The loop does nothing for so long."""
    time.sleep(for_s)


async def until_heard(target: Apart) -> None:
    assert await asyncio.to_thread(target.heard.wait, 20)


async def reading_soon(client: PooledClient, target: Apart) -> tuple[HttpAnswer, asyncio.Task[bytes]]:
    """An answer of which only the head has come, and who waits for more of it for a short time."""
    asking = asyncio.create_task(post(client, target.url))
    await until_heard(target)
    target.says(HEAD)
    answer = await asking
    answer.expect_by(asyncio.get_running_loop().time() + SHORT_S)
    reading = asyncio.create_task(answer.read())
    await asyncio.sleep(0)
    return answer, reading


async def test_a_part_that_lay_there_before_its_moment_passed_is_in_time(client: PooledClient, target: Apart) -> None:
    answer, reading = await reading_soon(client, target)
    target.says(part(b"two").raw)
    stand_still(2 * SHORT_S)
    assert await reading == b"two"
    target.says(END)
    assert await read_all(answer) == b""
    answer.close()


async def test_a_target_that_said_nothing_while_the_loop_stood_still_is_late(
    client: PooledClient, target: Apart
) -> None:
    answer, reading = await reading_soon(client, target)
    stand_still(2 * SHORT_S)
    with pytest.raises(HttpFault) as caught:
        await reading
    assert caught.value.kind is HttpFaultKind.LATE
    answer.close()


async def test_a_connection_that_was_taken_on_meanwhile_is_one(client: PooledClient, target: Apart) -> None:
    asking = asyncio.create_task(post(client, target.url, connect_s=SHORT_S))
    await asyncio.sleep(0)
    stand_still(2 * SHORT_S)
    await until_heard(target)
    target.says(HEAD + END)
    answer = await asking
    assert answer.status == 200
    answer.close()


async def test_a_first_token_that_lay_there_in_time_is_in_time(client: PooledClient, target: Apart) -> None:
    timeouts = Timeouts(connect_s=20, first_token_s=3.0, idle_s=20, total_s=60)
    call = a_call(a_target(url=target.url, model="real/name", credential=None), timeouts=timeouts)
    opening = asyncio.create_task(OpenAiProvider(client, NamedCredentials({})).open(call))
    await until_heard(target)
    target.says(HEAD + part(chunk("one")).raw)
    stand_still(timeouts.first_token_s + SHORT_S)
    answer = await opening
    assert answer.status == 200
    await answer.close()
