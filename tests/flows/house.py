"""A gateway of fakes for the stories: scripted targets, a journal in memory, a caller that can hang up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.api.problems import status_of
from app.domain.ledger.receipt import Receipt
from app.domain.routing.policy import Policy
from app.flows.gateway import Asked, Gateway
from app.flows.hold import Treasury
from app.flows.limits import LimitGate
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot
from app.live.recent import RecentReceipts
from app.live.wallet import Wallet
from app.ports import Opening
from app.providers.scripted import Script, ScriptedProvider, Sleep
from app.system import SystemClock
from tests.fakes.journal import MemoryJournal
from tests.makers import a_policy, a_target, some_facts


@dataclass(slots=True)
class Told:
    """ports.Readings that remember."""

    receipts: list[Receipt] = field(default_factory=list)
    dispatches: list[str] = field(default_factory=list)
    #: Targets that were waited for, and how it ended.
    waits: list[tuple[str, str]] = field(default_factory=list)

    def dispatched(self, *, target: str) -> None:
        self.dispatches.append(target)

    def waited(self, *, target: str, waited_s: float, ended: str) -> None:
        self.waits.append((target, ended))

    def settled(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)


@dataclass(slots=True)
class Caller:
    """ports.Reply that keeps what it was sent. It hangs up after `leaves_after` pieces."""

    leaves_after: int | None = None
    sent: list[bytes] = field(default_factory=list)
    opening: Opening | None = None
    ended: bool = False
    begun: bool = False
    left: bool = False
    _hung_up: Callable[[], None] | None = None

    def on_leave(self, hung_up: Callable[[], None]) -> None:
        self._hung_up = hung_up
        if self.left:
            hung_up()

    def leave(self) -> None:
        """Hang up now."""
        self.left = True
        if self._hung_up is not None:
            self._hung_up()

    async def whole(self, opening: Opening, body: bytes) -> None:
        self.begun, self.opening, self.ended = True, opening, True
        self.sent.append(body)

    async def begin(self, opening: Opening) -> None:
        self.begun, self.opening = True, opening

    async def write(self, raw: bytes) -> None:
        self.sent.append(raw)
        if self.leaves_after is not None and len(self.sent) == self.leaves_after:
            self.leave()

    async def end(self, raw: bytes = b"") -> None:
        self.sent.append(raw)
        self.ended = True


@dataclass(slots=True)
class House:
    """The rooms of a story, and the fakes behind them."""

    gateway: Gateway
    provider: ScriptedProvider
    journal: MemoryJournal
    told: Told


def a_house(
    scripts: Mapping[str, Sequence[Script]] | None = None, *, policy: Policy | None = None, sleep: Sleep = asyncio.sleep
) -> House:
    """A gateway whose targets, in this order, follow these scripts. Without any: one target that answers."""
    scripts = scripts or {"home": [Script()]}
    policy = policy or a_policy(*(a_target(name) for name in scripts))
    fleet = Fleet(has_credential=lambda reference: True)
    fleet.follow(policy)
    provider = ScriptedProvider(scripts, sleep=sleep)
    journal, told = MemoryJournal(), Told()
    clock, slot = SystemClock(), PolicySlot(policy)
    gateway = Gateway(
        clock=clock,
        limits=LimitGate(clock=clock),
        treasury=Treasury(clock=clock, wallet=Wallet(holder="this-home"), policy=slot),
        policy=slot,
        fleet=fleet,
        journal=journal,
        provider_of=lambda target: provider,
        readings=told,
        recent=RecentReceipts(),
        status_of=status_of,
    )
    return House(gateway=gateway, provider=provider, journal=journal, told=told)


def asked(house: House, **facts: object) -> Asked:
    """A request."""
    clock = house.gateway.clock
    return Asked(
        facts=some_facts(**facts),
        at_us=clock.unix_us(),
        arrived_s=clock.monotonic_s(),
        fields={"model": b'"chat"', "messages": b"[]"},
        usage_wanted=False,
        caller_label="mine",
    )
