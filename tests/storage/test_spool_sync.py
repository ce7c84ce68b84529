"""`app.storage.spool_sync`: one sync for all who wait, none for what is covered, and never a second after a failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from app.storage.spool_segment import Segment
from app.storage.spool_sync import PACE_S, GroupSync, Pending, sync_directory, sync_file
from tests.storage.spool_pieces import Disk


class Owner:
    """Remembers what a `GroupSync` tells its owner."""

    def __init__(self) -> None:
        self.successes = 0
        self.failed: list[tuple[list[Segment], list[bytes]]] = []

    def succeeded(self) -> None:
        self.successes += 1

    def failed_to(self, failures: Mapping[Segment, OSError], stranded: Sequence[Pending]) -> None:
        self.failed.append((list(failures), [pending.record for pending in stranded]))
        for pending in stranded:
            if pending.waiter is not None:
                pending.waiter.set_exception(next(iter(failures.values())))


@contextlib.asynccontextmanager
async def a_group_sync(disk: Disk, owner: Owner) -> AsyncIterator[GroupSync]:
    group_sync = GroupSync(sync=disk, on_success=owner.succeeded, on_failure=owner.failed_to)
    try:
        yield group_sync
    finally:
        disk.may_go_on.set()
        await group_sync.close()


async def durable(group_sync: GroupSync, segment: Segment, record: bytes = b"record") -> None:
    segment.append(record)
    waiter = asyncio.get_running_loop().create_future()
    group_sync.want(Pending(segment, record, waiter))
    await waiter


async def test_fifty_who_settle_in_one_turn_share_one_sync(tmp_path: Path) -> None:
    disk, segment = Disk(), Segment.begin(tmp_path / "1.seg")
    async with a_group_sync(disk, Owner()) as group_sync:
        await asyncio.gather(*(durable(group_sync, segment) for _ in range(50)))
    assert len(disk.synced) == 1
    assert disk.sizes == [segment.end]


async def test_all_who_come_during_a_sync_share_the_next_and_none_is_released_by_one_begun_before(
    tmp_path: Path,
) -> None:
    disk, segment = Disk(), Segment.begin(tmp_path / "1.seg")
    async with a_group_sync(disk, Owner()) as group_sync, asyncio.TaskGroup() as tasks:
        disk.may_go_on.clear()
        tasks.create_task(durable(group_sync, segment))
        while not disk.synced:
            await asyncio.sleep(0.001)
        late = [tasks.create_task(durable(group_sync, segment)) for _ in range(20)]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in late)
        disk.may_go_on.set()
        await asyncio.gather(*late)
        assert len(disk.synced) == 2
        assert disk.sizes[1] == segment.end


async def test_a_busy_spool_waits_for_more_before_it_syncs_again_and_an_idle_one_does_not(tmp_path: Path) -> None:
    disk, segment = Disk(), Segment.begin(tmp_path / "1.seg")
    now_s = asyncio.get_running_loop().time
    async with a_group_sync(disk, Owner()) as group_sync:
        for together in (1, 2):
            began_s = now_s()
            await asyncio.gather(*(durable(group_sync, segment) for _ in range(together)))
        alone_s = now_s()
        waits = [durable(group_sync, segment) for _ in range(20)]
        await asyncio.gather(*waits)
        assert now_s() - began_s >= PACE_S
        assert alone_s >= began_s
    assert len(disk.synced) == 3


async def test_a_group_over_two_segments_syncs_each_of_them_once(tmp_path: Path) -> None:
    disk, segments = Disk(), [Segment.begin(tmp_path / f"{number}.seg") for number in (1, 2)]
    async with a_group_sync(disk, Owner()) as group_sync:
        await asyncio.gather(*(durable(group_sync, segments[number % 2]) for number in range(10)))
    assert sorted(disk.synced) == sorted(segment.fileno() for segment in segments)


async def test_the_loop_goes_on_while_the_disk_is_slow(tmp_path: Path) -> None:
    disk, segment = Disk(), Segment.begin(tmp_path / "1.seg")
    async with a_group_sync(disk, Owner()) as group_sync, asyncio.TaskGroup() as tasks:
        disk.may_go_on.clear()
        waiting = tasks.create_task(durable(group_sync, segment))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        disk.may_go_on.set()


async def test_a_waiter_who_gave_up_holds_up_nobody(tmp_path: Path) -> None:
    disk, segment = Disk(), Segment.begin(tmp_path / "1.seg")
    async with a_group_sync(disk, Owner()) as group_sync, asyncio.TaskGroup() as tasks:
        disk.may_go_on.clear()
        gone, staying = (tasks.create_task(durable(group_sync, segment)) for _ in range(2))
        while not disk.synced:
            await asyncio.sleep(0.001)
        gone.cancel()
        disk.may_go_on.set()
        await staying
    assert gone.cancelled()
    assert segment.unsynced == 0


async def test_after_a_failure_the_owner_gets_what_is_not_durable_and_the_segment_is_not_synced_again(
    tmp_path: Path,
) -> None:
    disk, owner = Disk(), Owner()
    bad, good = (Segment.begin(tmp_path / f"{number}.seg") for number in (1, 2))
    async with a_group_sync(disk, owner) as group_sync:
        disk.failing = {bad.fileno()}
        disk.may_go_on.clear()
        early = [asyncio.ensure_future(durable(group_sync, segment, b"early")) for segment in (bad, good)]
        while not disk.synced:
            await asyncio.sleep(0.001)
        late = asyncio.ensure_future(durable(group_sync, bad, b"late"))
        await asyncio.sleep(0.01)
        disk.may_go_on.set()
        answers = await asyncio.gather(*early, late, return_exceptions=True)
    assert [isinstance(answer, OSError) for answer in answers] == [True, False, True]
    assert owner.failed == [([bad], [b"early", b"late"])]
    assert disk.synced.count(bad.fileno()) == 1
    assert bad.unsynced == good.unsynced == 0


async def test_closing_waits_for_what_is_pending(tmp_path: Path) -> None:
    disk, owner, segment = Disk(), Owner(), Segment.begin(tmp_path / "1.seg")
    async with a_group_sync(disk, owner) as group_sync:
        segment.append(b"later")
        group_sync.want(Pending(segment, b"later", None))
    assert owner.successes == 1
    assert segment.unsynced == 0


def test_what_is_no_file_is_not_made_durable_in_silence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (tmp_path / "file").open("rb") as file:
        sync_file(file.fileno())
        fd = file.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync_file(fd)
    sync_directory(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "not there")
