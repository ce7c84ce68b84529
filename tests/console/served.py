"""A console on a real socket, over books in memory that behave."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import uvicorn

from app.console.app import console_app
from app.console.health import Health, target_states
from app.console.rooms import ConsoleRooms
from app.domain.keys import KeyKind, Pepper, Peppers, write_key
from app.domain.ledger.receipt import Receipt
from app.domain.routing.policy import Policy
from app.domain.target import TargetSeen
from app.live.keys import KnownOperator
from app.live.policy_slot import PolicyStatus
from app.storage.receipt_json import encode
from tests.archive import Cellar
from tests.fakes.adjustment_book import MemoryAdjustmentBook
from tests.fakes.alert_book import MemoryAlertBook
from tests.fakes.budget_book import MemoryBudgetBook
from tests.fakes.key_book import MemoryKeyBook
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.report_book import MemoryReportBook
from tests.fakes.spend_book import MemorySpendBook
from tests.fakes.team_book import MemoryTeamBook
from tests.makers import CARD, NOON, a_policy

PEPPERS = Peppers({1: Pepper(b"p" * 32, version=1)})
OPERATOR_KEY = write_key("operator", b"o" * 32, kind=KeyKind.OPERATOR)
CALLERS_KEY = write_key("abcdefgh", b"s" * 32)


class NoonClock:
    """It is always noon."""

    def monotonic_s(self) -> float:
        return 0.0

    def unix_us(self) -> int:
        return int(NOON.timestamp()) * 1_000_000


@dataclass(slots=True, kw_only=True)
class House:
    """Everything behind a console, for tests to change under it."""

    ledger: MemoryLedgerBook = field(default_factory=MemoryLedgerBook)
    adjustments: MemoryAdjustmentBook = field(init=False)
    keys: MemoryKeyBook = field(default_factory=MemoryKeyBook)
    teams: MemoryTeamBook = field(default_factory=MemoryTeamBook)
    alerts: MemoryAlertBook = field(default_factory=MemoryAlertBook)
    policy: Policy = field(default_factory=a_policy)
    fleet: dict[str, TargetSeen] = field(default_factory=lambda: {"home": TargetSeen(rate_card=CARD)})
    status: PolicyStatus | None = None
    cellar: Cellar = field(default_factory=Cellar)
    spool_depth: int | None = 0
    spool_refusing: int | None = 0
    metrics: bytes = b"# TYPE x counter\nx 1\n"
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self.adjustments = MemoryAdjustmentBook(self.ledger)

    def rooms(self) -> ConsoleRooms:
        return ConsoleRooms(
            operator=KnownOperator(digest=PEPPERS.newest.digest(OPERATOR_KEY.encode()), pepper=PEPPERS.newest),
            clock=NoonClock(),
            ledger=self.ledger,
            adjustments=self.adjustments,
            reports=MemoryReportBook(self.ledger),
            budgets=MemoryBudgetBook(self.ledger),
            spend=MemorySpendBook(self.ledger),
            alerts=self.alerts,
            keys=self.keys,
            teams=self.teams,
            peppers=PEPPERS,
            random_bytes=os.urandom,
            archive=replace(self.cellar.archive(), ledger=self.ledger),
            policy=lambda: self.policy,
            policy_status=lambda: self.status or PolicyStatus(digest=self.policy.digest, since_s=NOON.timestamp()),
            fleet=lambda: self.fleet,
            health=self._health,
            metrics=self._metrics,
        )

    def away(self, gone: bool = True) -> None:
        self.ledger.away = self.keys.away = self.teams.away = self.cellar.history.away = gone
        self.alerts.away = gone

    async def book(self, *receipts: Receipt) -> None:
        assert await self.ledger.book([encode(receipt) for receipt in receipts]) == len(receipts)

    async def _health(self) -> Health:
        return Health(
            postgres_up=not self.ledger.away,
            policy_digest=self.policy.digest,
            policy_warning=None if self.status is None else self.status.warning(),
            targets=target_states(self.policy, self.fleet),
            spool_depth=self.spool_depth,
            spool_quarantined=0,
            spool_refusing=self.spool_refusing,
        )

    async def _metrics(self) -> bytes:
        if self.fault is not None:
            raise self.fault
        return self.metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """A client of a console that runs."""

    port: int
    session: aiohttp.ClientSession
    house: House

    async def ask(
        self,
        method: str,
        path: str,
        *,
        key: str | None = OPERATOR_KEY,
        headers: Mapping[str, str] | None = None,
        **named: Any,
    ) -> Answer:
        sent = {**({} if key is None else {"authorization": f"Bearer {key}"}), **(headers or {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, headers=sent, allow_redirects=False, **named) as got:
            body = await got.read()
            is_json = got.headers.get("content-type", "").startswith("application/json")
            return Answer(status=got.status, headers=got.headers, body=body, json=await got.json() if is_json else None)

    async def get(self, path: str, **named: Any) -> Answer:
        return await self.ask("GET", path, **named)

    async def raw(self, request: bytes) -> bytes:
        """Bytes as no client would send them."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def console(house: House | None = None, **instead: Any) -> AsyncIterator[Console]:
    """Runs until the block ends. `instead` names rooms that are not the house's own."""
    behind = house or House()
    rooms = replace(behind.rooms(), **instead)
    # asyncio sets TCP_NODELAY only on sockets that say they are TCP; without it an answer takes 45 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(console_app(rooms), lifespan="off", log_config=None, ws="none")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # Not `serve`: that takes the test run's signals and looks for its end only ten times a second.
    await server.startup(sockets=[listening])
    try:
        async with aiohttp.ClientSession() as session:
            yield Console(port=listening.getsockname()[1], session=session, house=behind)
    finally:
        await asyncio.sleep(0.01)  # the client's goodbye arrives; a server with connections waits ten times as long
        await server.shutdown(sockets=[listening])
