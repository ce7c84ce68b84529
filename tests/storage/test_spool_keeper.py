"""`app.storage.spool_keeper`: nothing is said to be kept that is not, and new work waits until the disk is well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.domain.errors import LedgerUnavailable
from app.storage.spool_format import Kind, Whole, first_record_at, framed, scan
from app.storage.spool_home import make_home
from app.storage.spool_keeper import Keeper, SpoolLimits
from app.storage.spool_sync import Sync
from tests.storage.small_disk import fill, small_disk
from tests.storage.spool_pieces import Disk

LIMITS = SpoolLimits(reserve=1 << 16)


@contextlib.asynccontextmanager
async def a_keeper(
    spool: Path, *, sync: Sync | None, limits: SpoolLimits = LIMITS, notice: Callable[[str], None] = print
) -> AsyncIterator[Keeper]:
    home = make_home(spool, at_us=1)
    keeper = Keeper(spool, home, limits=limits, sync=sync, notice=notice, mend_again_s=0.02)
    try:
        yield keeper
    finally:
        await keeper.close()


def intend(keeper: Keeper, request_id: str) -> None:
    keeper.keep_intent(request_id, framed(Kind.INTENT, request_id, b"the intent"))


def begin_settling(keeper: Keeper, request_id: str, payload: bytes = b"the receipt") -> asyncio.Future[None]:
    durable = asyncio.get_running_loop().create_future()
    keeper.keep_receipt(request_id, framed(Kind.RECEIPT, request_id, payload), durable=durable)
    return durable


async def settled_in_time(keeper: Keeper, what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.005)


def receipts_on_disk(spool: Path) -> list[list[str]]:
    """The requests whose receipts stand in each segment."""
    found: list[list[str]] = []
    for path in sorted(spool.rglob("*.seg")):
        content = path.read_bytes()
        records = [record for record in scan(content, start=first_record_at(content)) if isinstance(record, Whole)]
        found.append([record.request_id(content) for record in records if record.kind == Kind.RECEIPT])
    return found


async def test_without_a_sync_a_written_receipt_is_kept_at_once(tmp_path: Path) -> None:
    async with a_keeper(tmp_path, sync=None) as keeper:
        assert begin_settling(keeper, "r").done()


async def test_receipts_whose_sync_failed_are_durable_elsewhere_before_anybody_is_told(tmp_path: Path) -> None:
    disk = Disk()
    async with a_keeper(tmp_path, sync=disk) as keeper:
        bad = keeper.log.current
        disk.failing = {bad.fileno()}
        intend(keeper, "still open")
        await asyncio.gather(*(begin_settling(keeper, f"r{number}") for number in range(3)))
        assert disk.synced.count(disk.synced[0]) == 1
        assert receipts_on_disk(tmp_path) == [["r0", "r1", "r2"], ["r0", "r1", "r2"]]
        assert keeper.log.open["still open"].segment is not bad
        assert disk.sizes[-1] == keeper.log.current.end


async def test_after_a_failed_sync_new_work_is_refused_until_a_sync_succeeds(tmp_path: Path) -> None:
    disk = Disk()
    notices: list[str] = []
    async with a_keeper(tmp_path, sync=disk, notice=notices.append) as keeper:
        disk.failing = {keeper.log.current.fileno()}
        durable = begin_settling(keeper, "r")
        while keeper.trouble is None:
            await asyncio.sleep(0)
        with pytest.raises(LedgerUnavailable, match="a sync failed"):
            intend(keeper, "new")
        await durable
        await settled_in_time(keeper, lambda: keeper.trouble is None)
        intend(keeper, "new")
    assert len(notices) == 2
    assert "takes new work again" in notices[1]


async def test_when_the_next_segment_fails_too_nobody_is_told_that_their_receipt_was_kept(tmp_path: Path) -> None:
    disk = Disk()
    async with a_keeper(tmp_path, sync=disk) as keeper:
        disk.failing = set(range(1000))
        waiting = [begin_settling(keeper, f"r{number}") for number in range(3)]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [LedgerUnavailable] * 3
        tried = len(disk.synced)
        await settled_in_time(keeper, lambda: len(disk.synced) > tried + 3)
        assert keeper.trouble is not None
        assert len(keeper.log.segments) <= 4
        disk.failing = set()
        await settled_in_time(keeper, lambda: keeper.trouble is None)
        await begin_settling(keeper, "well again")
    assert [requests[-1:] for requests in receipts_on_disk(tmp_path)][-1] == ["well again"]


async def test_receipts_that_come_while_the_disk_is_in_doubt_are_kept_in_the_new_segment(tmp_path: Path) -> None:
    disk = Disk()
    async with a_keeper(tmp_path, sync=disk) as keeper:
        intend(keeper, "dispatched")
        disk.failing = {keeper.log.current.fileno()}
        first = begin_settling(keeper, "r")
        while keeper.trouble is None:
            await asyncio.sleep(0)
        await begin_settling(keeper, "dispatched")
        await first
    assert receipts_on_disk(tmp_path) == [["r"], ["r", "dispatched"]]


async def test_at_the_cap_intents_are_refused_and_dispatched_requests_are_settled(tmp_path: Path) -> None:
    async with a_keeper(tmp_path, sync=None, limits=SpoolLimits(cap=100_000, reserve=0)) as keeper:
        accepted = 0
        while keeper.trouble is None:
            intend(keeper, f"r{accepted}")
            accepted += 1
        with pytest.raises(LedgerUnavailable, match="reached its cap of 100000 bytes: bring Postgres back"):
            intend(keeper, "one more")
        assert accepted > 5
        keeper.keep_checkpoint("r0", framed(Kind.CHECKPOINT, "r0", b"left out"))
        for number in range(accepted):
            begin_settling(keeper, f"r{number}", b"x" * 7000)
        assert keeper.log.size_bytes <= 100_000


async def test_what_other_processes_hold_counts_towards_the_cap(tmp_path: Path) -> None:
    async with a_keeper(tmp_path, sync=None, limits=SpoolLimits(cap=100_000, reserve=0)) as keeper:
        intend(keeper, "before")
        keeper.bytes_beside = 99_000
        assert keeper.trouble is not None
        with pytest.raises(LedgerUnavailable):
            intend(keeper, "after")


async def test_a_full_disk_refuses_new_work_settles_what_was_dispatched_and_is_found_mended(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=1024) as disk:
        async with a_keeper(disk, sync=Disk(), limits=SpoolLimits(reserve=1 << 18)) as keeper:
            for number in range(10):
                intend(keeper, f"r{number}")
            filler = fill(disk)
            await asyncio.gather(*(begin_settling(keeper, f"r{number}", b"x" * 4000) for number in range(10)))
            with pytest.raises(LedgerUnavailable, match="disk is full"):
                intend(keeper, "new")
            await asyncio.sleep(0.1)
            with pytest.raises(LedgerUnavailable, match="free some space"):
                intend(keeper, "new")
            filler.unlink()
            await settled_in_time(keeper, lambda: keeper.trouble is None)
            intend(keeper, "new")
        assert receipts_on_disk(disk) == [[f"r{number}" for number in range(10)]]


async def test_a_full_disk_is_told_once_though_only_new_work_meets_it_and_no_caller_hears_where_it_is(
    tmp_path: Path,
) -> None:
    notices: list[str] = []
    with small_disk(tmp_path / "disk", size_kib=1024) as disk:
        async with a_keeper(disk, sync=None, limits=SpoolLimits(reserve=1 << 18), notice=notices.append) as keeper:
            filler = fill(disk)
            for number in range(40):
                with contextlib.suppress(LedgerUnavailable):  # the segment's last block takes a few
                    keeper.keep_intent(f"r{number}", framed(Kind.INTENT, f"r{number}", b"x" * 4000))
            for _ in range(3):  # whoever looks for room finds none, again and again
                await asyncio.sleep(0.05)
                assert keeper.trouble is not None
                with pytest.raises(LedgerUnavailable, match="free some space") as refused:
                    intend(keeper, "new")
                assert str(disk) in str(refused.value)
                assert str(disk) not in refused.value.told
            assert len(notices) == 1
            filler.unlink()
            await settled_in_time(keeper, lambda: keeper.trouble is None)
            intend(keeper, "new")
    assert len(notices) == 2
    assert "No space left" in notices[0]
    assert "takes new work again" in notices[1]
    assert "No space left" in notices[1]


async def test_a_receipt_without_any_room_is_an_error_and_is_written_once_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=1024) as disk:
        async with a_keeper(disk, sync=Disk(), limits=SpoolLimits(reserve=0)) as keeper:
            intend(keeper, "dispatched")
            filler = fill(disk)
            with pytest.raises(LedgerUnavailable, match="No space left"):
                begin_settling(keeper, "dispatched", b"x" * 9000)
            assert keeper.trouble is not None
            assert receipts_on_disk(disk) == [[]]
            filler.unlink()
            await settled_in_time(keeper, lambda: keeper.trouble is None)
            assert receipts_on_disk(disk) == [["dispatched"]]
            assert keeper.log.current.unsynced == 0 or not keeper.is_open("dispatched")


async def test_a_disk_without_room_for_the_reserve_serves_nobody_and_says_why(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=256) as disk:
        async with a_keeper(disk, sync=None, limits=SpoolLimits(reserve=1 << 20)) as keeper:
            with pytest.raises(LedgerUnavailable, match="no room could be set aside"):
                intend(keeper, "new")


async def test_a_closed_keeper_refuses_everything(tmp_path: Path) -> None:
    async with a_keeper(tmp_path, sync=None) as keeper:
        intend(keeper, "open")
    with pytest.raises(LedgerUnavailable, match="is closed"):
        intend(keeper, "new")
    with pytest.raises(LedgerUnavailable, match="is closed"):
        begin_settling(keeper, "open")
