"""The ASGI application itself, without a server: what it sends for what it receives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from app.api.cold import ColdRooms, Readiness, cold_app
from app.api.hot import HotRoutes
from app.api.reply import AsgiReply
from app.domain.errors import BreakevenError, ModelUnknown
from app.domain.keys import PEPPER_BYTES, Pepper, Peppers, key_id_of, write_key
from app.domain.money import Nanodollars
from app.live.keys import KnownKeys
from app.ports import KeyRecord, Opening
from app.providers.scripted import Script
from app.system import RandomIds
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.flows.house import House, a_house
from tests.makers import a_caller

KEY_ID = key_id_of(bytes(5))
KEY = write_key(KEY_ID, bytes(32))
HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


class Surface:
    """The application over a house of fakes, and the bugs it reported."""

    def __init__(self, house: House, *, readiness: Readiness | None = None) -> None:
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
            readiness=lambda: readiness or Readiness(refusing={}, warnings={}),
            report_bug=lambda request_id, bug: self.bugs.append(bug),
        )
        self.app = HotRoutes(
            rest=cold_app(rooms),
            gateway=house.gateway,
            keys=keys,
            ids=RandomIds(),
            body_limit_bytes=1000,
            report_bug=lambda request_id, bug: self.bugs.append(bug),
            refused=self.refused.append,
        )

    async def ask(
        self, method: str, path: str, *parts: bytes, key: str = KEY, leaves: bool = False, headers: Sequence[Any] = ()
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request, whose body comes in these parts. `leaves`: the caller then goes."""
        received = [{"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]]
        received.append({"type": "http.request", "body": parts[-1] if parts else b"", "more_body": False})
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if received:
                return received.pop(0)
            await asyncio.sleep(0.05 if leaves else 60)
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


async def test_a_body_that_comes_in_parts_is_one_body() -> None:
    body = json.dumps(HELLO).encode()
    status, headers, _ = await Surface(a_house()).ask("POST", "/v1/chat/completions", body[:7], body[7:20], body[20:])
    assert status == 200
    assert headers["x-breakeven-charge-usd"]


async def test_a_body_that_grows_over_the_limit_is_refused_though_it_declared_no_length() -> None:
    surface = Surface(a_house())
    status, headers, _ = await surface.ask("POST", "/v1/chat/completions", b"x" * 600, b"x" * 600, b"")
    assert (status, headers["connection"]) == (413, "close")
    status, _, _ = await surface.ask("POST", "/v1/chat/completions", headers=[(b"content-length", b"1001")])
    assert status == 413


async def test_whoever_counts_refusals_is_told_of_every_error_and_of_no_answer() -> None:
    surface = Surface(a_house())
    await surface.ask("POST", "/v1/chat/completions", json.dumps(HELLO).encode())
    assert surface.refused == []
    await surface.ask("POST", "/v1/chat/completions", json.dumps({**HELLO, "model": "nobody"}).encode())
    assert [type(error) for error in surface.refused] == [ModelUnknown]


async def test_a_caller_who_leaves_gets_nothing_more_and_its_work_is_cancelled() -> None:
    house = a_house({"home": [Script(first_s=30)]})
    surface = Surface(house)
    status, _, _ = await surface.ask("POST", "/v1/chat/completions", json.dumps(HELLO).encode(), leaves=True)
    assert status == 0
    assert house.provider.deeds[0].hung_up
    assert not surface.bugs


async def test_a_bug_is_a_500_without_details_and_is_reported() -> None:
    house = a_house({"another": [Script()]})
    house.provider._scripts.clear()  # the scripted target now fails in a way that no table knows
    surface = Surface(house)
    status, headers, body = await surface.ask("POST", "/v1/chat/completions", json.dumps(HELLO).encode())
    assert status == 500
    assert json.loads(body)["error"]["code"] == "internal_error"
    assert headers["x-request-id"]
    assert [type(bug) for bug in surface.bugs] == [KeyError]


async def test_a_failure_after_the_first_byte_is_an_event_and_no_done() -> None:
    from app.domain.errors import FaultKind

    house = a_house({"home": [Script(words=("a", "b", "c"), fault=FaultKind.CUT, fault_after=2)]})
    said = json.dumps({**HELLO, "stream": True}).encode()
    status, _, body = await Surface(house).ask("POST", "/v1/chat/completions", said)
    assert status == 200
    assert json.loads(body.rpartition(b"data: ")[2])["error"]["code"] == "cut"


async def test_a_receipt_is_found_in_memory_and_then_in_the_books() -> None:
    house = a_house()
    surface = Surface(house)
    _, headers, _ = await surface.ask("POST", "/v1/chat/completions", json.dumps(HELLO).encode())
    path = f"/v1/receipts/{headers['x-request-id']}"
    status, _, body = await surface.ask("GET", path)
    assert status == 200
    assert json.loads(body)["outcome"] == "complete"
    surface.ledger.away = True
    assert (await surface.ask("GET", path))[0] == 200
    unknown = "019ab000-0000-7000-8000-000000000009"
    status, _, body = await surface.ask("GET", f"/v1/receipts/{unknown}")
    assert (status, json.loads(body)["error"]["code"]) == (503, "ledger_away")


@pytest.mark.parametrize(
    ("readiness", "status", "said"),
    [
        (Readiness(refusing={}, warnings={}), 200, "ready"),
        (Readiness(refusing={}, warnings={"postgres": "away"}), 200, "degraded"),
        (Readiness(refusing={"spool": "full"}, warnings={"postgres": "away"}), 503, "refusing"),
    ],
)
async def test_readiness_tells_the_truth(readiness: Readiness, status: int, said: str) -> None:
    got, _, body = await Surface(a_house(), readiness=readiness).ask("GET", "/readyz")
    assert (got, json.loads(body)["status"]) == (status, said)
    assert set(json.loads(body)["because"]) == {*readiness.refusing, *readiness.warnings}


async def test_models_are_the_callers_own_and_need_its_key() -> None:
    surface = Surface(a_house())
    _, _, body = await surface.ask("GET", "/v1/models")
    assert [model["id"] for model in json.loads(body)["data"]] == ["chat"]
    assert (await surface.ask("GET", "/v1/models/chat"))[0] == 200
    assert (await surface.ask("GET", "/v1/models/nope"))[0] == 404
    assert (await surface.ask("GET", "/v1/models", key="wrong"))[0] == 401


async def test_a_rules_name_cannot_break_a_header() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    opening = Opening(
        request_id="r", status=200, content_type="text/event-stream", target="t", hosting="managed",
        rule="zuhause\r\nset-cookie: x ☃", policy_digest="d", attempts=1, charge=Nanodollars(1),
    )  # fmt: skip
    reply = AsgiReply(send)
    await reply.begin(opening)
    headers = dict(sent[0]["headers"])
    assert headers[b"x-breakeven-rule"] == b"zuhause??set-cookie: x ?"
    assert headers[b"x-breakeven-charge-usd"] == b"0.000000001"
    assert reply.begun
