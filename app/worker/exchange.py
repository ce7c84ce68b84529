"""One HTTP request and its reply, over plain ASGI; and the knowledge that its caller has left."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from app.worker.refusals import Refusal, too_large
from app.worker.replies import DONE, event

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Several times what the longest context can hold as text; what is merely over the context gets its own refusal.
BODY_BYTES_MOST: Final = 4 * 1024 * 1024
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")
_JSON: Final = (b"content-type", b"application/json")
_STREAM: Final = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))


class CallerLeft(Exception):
    """The caller closed the connection; there is nobody to reply to."""


class Exchange:
    """What a handler has of a request: its body, its id, and ways to reply. Replies once."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        self.begun = False

    async def body(self) -> bytes:
        """Raises Refusal when it is too large, and CallerLeft."""
        chunks, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise CallerLeft
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > BODY_BYTES_MOST:
                raise too_large(BODY_BYTES_MOST)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    async def while_here(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, or stop it when the caller leaves. Raises what the work raises, and CallerLeft."""
        faults: list[Exception] = []
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(_keeping(faults, work))
            watching = tasks.create_task(self._until_gone())
            watching.add_done_callback(lambda _: working.cancel())
            working.add_done_callback(lambda _: watching.cancel())
        if faults:
            raise faults[0]
        if working.cancelled():
            raise CallerLeft

    async def reply(self, body: object, *, status: HTTPStatus = HTTPStatus.OK) -> None:
        await self.reply_raw(msgspec.json.encode(body), _JSON, status=status)

    async def reply_raw(
        self, body: bytes, content_type: tuple[bytes, bytes] | None = None, *, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        headers = [(b"content-length", str(len(body)).encode()), *([content_type] if content_type else [])]
        await self._begin(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def begin_stream(self) -> None:
        await self._begin(HTTPStatus.OK, list(_STREAM))

    async def send(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end_stream(self) -> None:
        await self._send({"type": "http.response.body", "body": DONE})

    async def refuse(self, refusal: Refusal) -> None:
        """As a status if nothing was sent yet, else as the last event of the stream."""
        if not self.begun:
            await self.reply(refusal.body, status=refusal.status)
        else:
            await self.send(event(refusal.body))
            await self.end_stream()

    async def _begin(self, status: HTTPStatus, headers: list[tuple[bytes, bytes]]) -> None:
        self.begun = True
        headers.append((b"x-request-id", self.request_id.encode("latin-1")))
        await self._send({"type": "http.response.start", "status": int(status), "headers": headers})

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _keeping(faults: list[Exception], work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as fault:  # Raised again by the one who waits, outside the task group.
        faults.append(fault)
