from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.flows.policy_memory import MOST, PolicyMemory
from app.ports import Revision, RowsRefused
from tests.fakes.policy_history import MemoryPolicyHistory


def a_revision(digest: str, *, in_force_at_s: float | None = None) -> Revision:
    return Revision(digest=digest, files={"a.yaml": "a: 1"}, author="ada", seen_at_s=1.0, in_force_at_s=in_force_at_s)


class Refusing(MemoryPolicyHistory):
    """Does not take one of them."""

    async def remember(self, revision: Revision) -> bool:
        if revision.digest == "refused":
            raise RowsRefused("no")
        return await super().remember(revision)


class Written:
    """A memory at work, without waiting between its tries."""

    def __init__(self, history: MemoryPolicyHistory) -> None:
        self.history = history
        self.tries = 0
        self.forgotten: dict[str, str] = {}
        self.memory = PolicyMemory(history, forgotten=self._forget)

    def _forget(self, digest: str, *, because: str) -> None:
        self.forgotten[digest] = because

    async def pause(self, seconds: float) -> None:
        self.tries += 1
        await asyncio.sleep(0)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self.memory.keep(self.pause))
            async with asyncio.timeout(10):
                while not reached():
                    await asyncio.sleep(0)
            keeping.cancel()

    async def digests(self) -> list[str]:
        return sorted(revision.digest for revision in await self.history.latest(most=1000))


async def test_what_was_added_while_postgres_is_away_is_written_down_when_it_is_back() -> None:
    written = Written(MemoryPolicyHistory())
    written.history.away = True
    written.memory.add(a_revision("aaaa"))
    written.memory.add(a_revision("bbbb"))

    def back_after_three_tries() -> bool:
        written.history.away = written.tries < 3
        return written.tries >= 3

    await written.until(back_after_three_tries)
    await written.until(lambda: "bbbb" in written.history._revisions)
    assert await written.digests() == ["aaaa", "bbbb"]


async def test_one_that_waits_still_learns_that_it_came_in_force() -> None:
    written = Written(MemoryPolicyHistory())
    written.memory.add(a_revision("aaaa"))
    written.memory.add(a_revision("aaaa", in_force_at_s=7.0))
    written.memory.add(a_revision("aaaa"))
    await written.until(lambda: "aaaa" in written.history._revisions)
    found = await written.history.find("aaaa")
    assert found is not None
    assert found.in_force_at_s == 7.0


async def test_one_that_postgres_refuses_is_told_and_does_not_stand_in_the_way() -> None:
    written = Written(Refusing())
    written.memory.add(a_revision("refused"))
    written.memory.add(a_revision("aaaa"))
    await written.until(lambda: "aaaa" in written.history._revisions)
    assert written.forgotten == {"refused": "no"}
    assert await written.digests() == ["aaaa"]


async def test_the_oldest_is_forgotten_aloud_when_too_many_wait() -> None:
    written = Written(MemoryPolicyHistory())
    for number in range(MOST + 1):
        written.memory.add(a_revision(f"{number:04}"))
    assert list(written.forgotten) == ["0000"]
