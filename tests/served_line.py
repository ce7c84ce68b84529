"""A connection to an application under the gateway's own protocol, without a socket: bytes in, answers out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.server import ServerState

from app.bootstrap.protocol import GatewayProtocol
from app.bootstrap.serving import App


@dataclass(slots=True)
class Answered:
    """One answer as its caller reads it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False


class ServedLine:
    """The caller's end, and the transport between. What the caller sends while reading is paused waits."""

    def __init__(
        self, app: App, *, keep_alive_s: float = 75, last_words_s: float = 0.0, state: ServerState | None = None
    ) -> None:
        config = uvicorn.Config(
            app, http=GatewayProtocol, ws="none", lifespan="off", loop="none", access_log=False, log_config=None,
            proxy_headers=False, server_header=False, date_header=False, timeout_keep_alive=cast(int, keep_alive_s),
        )  # fmt: skip
        config.load()
        self.state = state or ServerState()
        self.written = b""
        #: Bytes of each write.
        self.writes: list[int] = []
        self.reads = True
        self._closing = False
        #: The caller is gone, and the protocol has not been told.
        self._is_leaving = False
        self._waiting: list[bytes] = []
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.protocol = GatewayProtocol(config=config, server_state=self.state, app_state={})
        self.protocol.last_words_s = last_words_s
        self.is_half_closed = False
        self.protocol.connection_made(cast(asyncio.Transport, self))

    def send(self, raw: bytes) -> None:
        """The caller says this."""
        if not self.reads:
            self._waiting.append(raw)
        elif not self._closing:
            self.protocol.data_received(raw)

    def hang_up(self) -> None:
        """The caller is gone. What is written to it before that is known goes nowhere."""
        self._is_leaving = not self._closing
        self.close()

    async def until(self, count: int, *, within_s: float = 20) -> list[Answered]:
        """What was answered, once there are so many whole answers or the line is closed."""
        async with asyncio.timeout(within_s):
            while len(answers := self.answers()) < count or not answers[count - 1].whole:
                if self._closing:
                    return self.answers()
                self._changed.clear()
                await self._changed.wait()
        return answers

    async def over(self) -> None:
        """Every request has had its end."""
        async with asyncio.timeout(20):
            while self.state.tasks:
                await asyncio.wait(set(self.state.tasks))
                await asyncio.sleep(0)

    def answers(self) -> list[Answered]:
        """All of what was written so far, interim answers left out."""
        reader = _Reader()
        parser = httptools.HttpResponseParser(reader)
        reader.parser = parser
        parser.feed_data(self.written)
        return [answer for answer in reader.answers if answer.status >= 200]

    # ── the transport ────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, raw: bytes) -> None:
        if self._is_leaving:
            return
        assert not self._closing, "nobody is there any more"
        self.written += raw
        self.writes.append(len(raw))
        self._changed.set()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._changed.set()
            self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        self._is_leaving = False
        self.protocol.connection_lost(None)

    def abort(self) -> None:
        self.close()

    def write_eof(self) -> None:
        self.is_half_closed = True

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: object = None) -> Any:
        return ("127.0.0.1", 40000) if name in {"peername", "sockname"} else default

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True
        waiting, self._waiting = self._waiting, []
        for raw in waiting:
            self._loop.call_soon(self.send, raw)


class _Reader:
    parser: httptools.HttpResponseParser

    def __init__(self) -> None:
        self.answers: list[Answered] = []

    def on_message_begin(self) -> None:
        self.answers.append(Answered())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answers[-1].headers[name.decode()] = value.decode()

    def on_headers_complete(self) -> None:
        self.answers[-1].status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.answers[-1].body += body

    def on_message_complete(self) -> None:
        self.answers[-1].whole = True
