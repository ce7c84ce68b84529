"""`app.storage.spool` and its fake both are what `app.ports.Journal` and `app.ports.Outbox` say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.storage.spool import SpoolLimits
from app.storage.spool_home import make_home
from tests.fakes.journal import MemoryJournal
from tests.ports.journal_suite import JournalAndOutbox, JournalAtHand, JournalSuite
from tests.storage.spool_pieces import HandClock, crashed, opened

CAP_BYTES = 1 << 20


class TestTheSpool(JournalSuite):
    @pytest.fixture
    async def at_hand(self, tmp_path: Path) -> AsyncIterator[JournalAtHand]:
        directory, left = tmp_path / "spool", tmp_path / "left"
        limits = SpoolLimits(cap=CAP_BYTES, segment=1 << 16, reserve=1 << 16)
        async with contextlib.AsyncExitStack() as stack:
            spool = await stack.enter_async_context(opened(directory, limits=limits))

            async def after_a_kill() -> JournalAndOutbox:
                crashed(directory, left)
                return await stack.enter_async_context(opened(left, clock=HandClock(2e9), limits=limits))

            neighbour = make_home(directory, at_us=1)
            stack.callback(neighbour.leave)

            async def fill() -> None:
                with neighbour.segment_path(1).open("wb") as file:
                    file.truncate(CAP_BYTES)
                await spool.adopt()

            async def empty() -> None:
                neighbour.segment_path(1).unlink()
                await spool.adopt()

            yield JournalAtHand(journal=spool, after_a_kill=after_a_kill, fill=fill, empty=empty)


class TestTheJournalInMemory(JournalSuite):
    @pytest.fixture
    async def at_hand(self) -> JournalAtHand:
        journal = MemoryJournal()

        async def after_a_kill() -> JournalAndOutbox:
            return MemoryJournal(journal.disk)

        async def fill() -> None:
            journal.full = True

        async def empty() -> None:
            journal.full = False

        return JournalAtHand(journal=journal, after_a_kill=after_a_kill, fill=fill, empty=empty)
