"""One request and the way back to its caller, as the hot routes see them; which server carries the bytes is its own
matter. Over ASGI it is `AsgiExchange`; a server with a shorter way has an `Exchange` of its own."""

from __future__ import annotations

import asyncio
from typing import Protocol

from starlette.types import Receive, Scope, Send

from app.api.reply import AsgiReply, HttpReply
from app.domain.errors import CallerLeft

#: A server that can say cheaply when the caller has left puts a function under this name into the scope's extensions:
#: it takes what to call then, or None.
DEPARTURE = "breakeven.departure"


class Exchange(Protocol):
    """A POST to one of the hot routes. Its head has been read; its body comes in parts."""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case, as they came."""
        ...

    @property
    def reply(self) -> HttpReply: ...

    def at_hand(self) -> bytes | None:
        """The whole body, where it has come and none of it was taken; None: it has to be waited for."""
        ...

    async def part(self) -> tuple[bytes, bool]:
        """The next bytes of the body, perhaps none, and whether more follow. Raises CallerLeft."""
        ...

    def listen(self) -> None:
        """From now on the reply is told when the caller leaves; at once if it has."""
        ...

    def stop_listening(self) -> None: ...


class AsgiExchange:
    """An exchange over any ASGI server."""

    __slots__ = ("_receive", "_scope", "_watcher", "headers", "reply")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.reply = AsgiReply(send)
        self._scope = scope
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None

    def at_hand(self) -> bytes | None:
        """ASGI tells only whoever waits."""
        return None

    async def part(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft("the caller left before its body was read")
        return message.get("body", b""), bool(message.get("more_body"))

    def listen(self) -> None:
        departure = self._scope.get("extensions", {}).get(DEPARTURE)
        if departure is not None:
            departure(self.reply.caller_left)
        else:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def stop_listening(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        elif (departure := self._scope.get("extensions", {}).get(DEPARTURE)) is not None:
            departure(None)

    async def _watch(self) -> None:
        """Where the server gives no `DEPARTURE`: returns when the caller has hung up."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.reply.caller_left()
