"""What holds for every answer of the console, whoever made it: the Host is one of ours, and browsers are told to be
careful with it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.console.problems import problem

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})

_HOST: Final = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{1,5})?")
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """ASGI middleware. `hosts` are the names this console is called by; None: any, for a console behind a proxy that
    checks them itself. Without the check a foreign page whose name is made to resolve to this machine could read it."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] | None, content_policy: str) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._headers = (*_HEADERS, (b"content-security-policy", content_policy.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        if self._is_ours(scope["headers"]):
            await self._app(scope, receive, careful)
        else:
            refusal = problem(
                400, "this console is not called by that name: set BREAKEVEN_CONSOLE_HOST to it", code="wrong_host"
            )
            await refusal(scope, receive, careful)

    def _is_ours(self, headers: list[tuple[bytes, bytes]]) -> bool:
        named: list[Any] = [_HOST.fullmatch(value) for name, value in headers if name == b"host"]
        if len(named) != 1 or named[0] is None:
            return False
        return self._hosts is None or named[0][1].decode().lower() in self._hosts
