"""A directory of policy files, a history in memory, and whoever keeps the policy, on a clock that runs ahead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.documents.compile import compile_policy, digest_of
from app.flows.policy_reload import Compile, PolicyKeeper, PolicyRooms
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot, PolicyStatus, Refused
from app.live.shelf_watch import LOOK_EVERY_S
from app.ports import Revision
from app.storage.shelf import PolicyShelf
from tests.documents.good import GOOD
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.policy_history import MemoryPolicyHistory

OTHER = GOOD.replace("attempts: 3", "attempts: 2")
BROKEN = GOOD.replace("use: [gpu-a]", "use: [gpu-b]")


def digest(text: str) -> str:
    return digest_of({"policy.yaml": text})


@dataclass(slots=True)
class Told:
    """What the watcher heard, in order."""

    heard: list[tuple[str, str | None]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    by: list[str] = field(default_factory=list)

    def policy_in_force(self, status: PolicyStatus, *, before: str | None, by: str) -> None:
        self.heard.append(("in force", status.digest))
        self.by.append(by)

    def policy_refused(self, refused: Refused, *, stays: str) -> None:
        self.heard.append(("refused", refused.digest))
        self.refused.append(refused)

    def policy_forgotten(self, digest: str, *, because: str) -> None:
        self.heard.append(("forgotten", digest))


class QuickClock:
    """Its time passes only by pausing."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.looks = 0

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_us(self) -> int:
        return int(self.now_s * 1_000_000)

    async def pause(self, seconds: float) -> None:
        self.now_s += seconds
        self.looks += seconds == LOOK_EVERY_S
        await asyncio.sleep(0.001)


@dataclass(slots=True)
class House:
    """A directory, a history, and whoever keeps the policy."""

    directory: Path
    history: MemoryPolicyHistory = field(default_factory=MemoryPolicyHistory)
    ledger: MemoryLedgerBook = field(default_factory=MemoryLedgerBook)
    clock: QuickClock = field(default_factory=QuickClock)
    told: Told = field(default_factory=Told)
    fleet: Fleet = field(default_factory=lambda: Fleet(has_credential=lambda reference: True))
    compile: Compile = compile_policy
    shelf_of: Callable[[Path], PolicyShelf] = PolicyShelf

    def write(self, text: str) -> None:
        """Rename and replace, as editors do."""
        part = self.directory / ".part"
        part.write_text(text)
        part.replace(self.directory / "policy.yaml")

    def keeper(self) -> PolicyKeeper:
        return PolicyKeeper(
            PolicyRooms(
                shelf=self.shelf_of(self.directory),
                history=self.history,
                ledger=self.ledger,
                clock=self.clock,
                watcher=self.told,
                compile=self.compile,
            )
        )

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[PolicySlot]:
        keeper = self.keeper()
        slot = await keeper.open()
        self.fleet.follow(slot.current)
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(keeper.keep(self.fleet, pause=self.clock.pause))
            yield slot
            keeping.cancel()

    async def remember(self, text: str, *, in_force_at_s: float | None = None, seen_at_s: float = 1.0) -> str:
        await self.history.remember(
            Revision(
                digest=digest(text),
                files={"policy.yaml": text},
                author="ada",
                seen_at_s=seen_at_s,
                in_force_at_s=in_force_at_s,
            )
        )
        return digest(text)

    async def revision(self, text: str) -> Revision:
        """Once it is remembered."""
        await until(lambda: digest(text) in self.history._revisions)
        found = await self.history.find(digest(text))
        assert found is not None
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path / "policies")
    made.directory.mkdir()
    made.write(GOOD)
    return made


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not reached():
            await asyncio.sleep(0.002)


def refused(slot: PolicySlot, *, pinned: bool = False) -> Refused:
    """What the status says was refused."""
    found = slot.status.pin_refused if pinned else slot.status.refused
    assert found is not None
    return found


async def looks_more(house: House, seconds: float = 4.0) -> None:
    """Long enough, by the house's clock, that every change would have been seen."""
    end = house.clock.now_s + 2 * seconds
    await until(lambda: house.clock.now_s >= end)
