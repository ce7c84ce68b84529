"""The surface over a house of fakes: as an ASGI application by itself, and under the gateway's own protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from app.api.cold import ColdRooms, Readiness, cold_app
from app.api.hot import HotRoutes
from app.domain.errors import BreakevenError
from app.domain.keys import PEPPER_BYTES, Pepper, Peppers, key_id_of, write_key
from app.flows.repeats import Repeats
from app.live.admission import Admission
from app.live.keys import KnownKeys
from app.ports import KeyRecord
from app.system import RandomIds
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.flows.house import House
from tests.makers import a_caller
from tests.served_line import ServedLine

KEY_ID = key_id_of(bytes(5))
KEY = write_key(KEY_ID, bytes(32))
HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


class Surface:
    """The application over a house of fakes, and the bugs it reported."""

    def __init__(
        self,
        house: House,
        *,
        readiness: Readiness | None = None,
        body_limit_bytes: int = 1000,
        body_within_s: float = 60,
        requests_most: int = 1000,
        repeats: Repeats | None = None,
    ) -> None:
        self._provider = house.provider
        self.admission = Admission(most=requests_most)
        pepper = Pepper(bytes(PEPPER_BYTES), version=1)
        keys = KnownKeys(Peppers({1: pepper}))
        keys.replace_all(
            [
                KeyRecord(
                    caller=a_caller(key_id=KEY_ID),
                    name="test",
                    digest=pepper.digest(KEY.encode()),
                    pepper_version=1,
                    created_at_s=0,
                )
            ]
        )
        self.ledger = MemoryLedgerBook()
        self.bugs: list[BaseException] = []
        self.refused: list[BreakevenError] = []
        rooms = ColdRooms(
            gateway=house.gateway,
            keys=keys,
            ledger=self.ledger,
            clock=house.gateway.clock,
            ids=RandomIds(),
            readiness=lambda: readiness or Readiness(refusing={}, warnings={}),
            report_bug=lambda request_id, bug: self.bugs.append(bug),
        )
        self.app = HotRoutes(
            rest=cold_app(rooms),
            gateway=house.gateway,
            keys=keys,
            ids=RandomIds(),
            admission=self.admission,
            body_limit_bytes=body_limit_bytes,
            body_within_s=body_within_s,
            report_bug=lambda request_id, bug: self.bugs.append(bug),
            refused=self.refused.append,
            repeats=repeats,
        )

    async def ask(
        self, method: str, path: str, *parts: bytes, key: str = KEY, leaves: bool = False, headers: Sequence[Any] = ()
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request, whose body comes in these parts. `leaves`: the caller then goes."""
        received = [{"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]]
        received.append({"type": "http.request", "body": parts[-1] if parts else b"", "more_body": False})
        sent: list[dict[str, Any]] = []
        calls = len(self._provider.calls)

        async def receive() -> dict[str, Any]:
            if received:
                return received.pop(0)
            await (self._until_asked(calls) if leaves else asyncio.sleep(60))
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "root_path": "", "scheme": "http", "http_version": "1.1",
            "headers": [(b"authorization", f"Bearer {key}".encode()), *headers],
        }  # fmt: skip
        await self.app(scope, receive, send)
        if not sent:
            return 0, {}, b""
        named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], named, b"".join(message.get("body", b"") for message in sent[1:])

    async def _until_asked(self, calls_before: int) -> None:
        async with asyncio.timeout(20):
            while len(self._provider.calls) == calls_before:
                await asyncio.sleep(0.001)


class ServedSurface(Surface):
    """The same, each request on a connection of its own."""

    async def ask(
        self, method: str, path: str, *parts: bytes, key: str = KEY, leaves: bool = False, headers: Sequence[Any] = ()
    ) -> tuple[int, dict[str, str], bytes]:
        lines = [(b"authorization", f"Bearer {key}".encode()), *headers]
        chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part]
        if method == "POST" and not any(name == b"content-length" for name, _ in lines):
            lines.append((b"transfer-encoding", b"chunked"))
            chunks.append(b"0\r\n\r\n")
        head = b"".join(b"%b: %b\r\n" % line for line in lines)
        line, calls = ServedLine(self.app), len(self._provider.calls)
        line.send(f"{method} {path} HTTP/1.1\r\n".encode() + head + b"\r\n")
        for chunk in chunks:
            line.send(chunk)
            await asyncio.sleep(0)
        if leaves:
            await self._until_asked(calls)
            line.hang_up()
        answers = await line.until(1)
        if not line.is_closing():
            line.hang_up()
        await line.over()
        if not answers:
            return 0, {}, b""
        return answers[0].status, answers[0].headers, answers[0].body
