"""`app.storage.spool`: from the intent to the shipment, over restarts, several processes and a full house."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.errors import LedgerUnavailable, SetupError
from app.domain.money import Nanodollars
from app.storage.receipt_json import decode
from app.storage.spool import Spool, SpoolLimits
from tests.storage.small_disk import fill, small_disk
from tests.storage.spool_pieces import (
    Disk,
    HandClock,
    checkpointed,
    crashed,
    everything,
    files,
    intended,
    opened,
    request_id,
    settled,
)

SMALL = SpoolLimits(segment=16_384, reserve=0)


async def keep(spool: Spool, number: int) -> None:
    spool.intend(intended(number))
    await spool.settle(settled(number))


async def test_fifty_who_settle_at_once_share_a_few_syncs(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path, sync=disk) as spool:
        await asyncio.gather(*(keep(spool, number) for number in range(50)))
        assert len(disk.synced) == 1
        assert spool.depth == 50


async def test_the_receipt_of_an_intent_reads_the_same_whether_its_head_was_written_before_or_not(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as spool:
        intent = intended(1)
        receipt = replace(settled(1), facts=intent.facts, decision=intent.decision)
        spool.intend(intent)
        await spool.settle(receipt)
        await spool.settle(settled(2))
        assert await everything(spool) == [receipt, settled(2)]


async def test_with_durability_os_nothing_is_synced_and_everything_survives_the_process(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "a", sync=disk, durability="os") as spool:
        await keep(spool, 1)
        spool.intend(intended(2))
        async with opened(crashed(tmp_path / "a", tmp_path / "b")) as next_one:
            assert await everything(next_one) == [settled(1), intended(2)]
    assert disk.synced == []


async def test_settle_returns_only_after_a_sync_that_covers_its_record(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path, sync=disk) as spool:
        for number in range(5):
            await keep(spool, number)
            (segment,) = files(tmp_path, "*.seg")
            assert disk.sizes[-1] == segment.stat().st_size


async def test_a_caller_who_gives_up_waiting_is_kept_all_the_same(tmp_path: Path) -> None:
    disk = Disk()
    disk.may_go_on.clear()
    async with opened(tmp_path, sync=disk) as spool:
        spool.intend(intended(1))
        settling = asyncio.ensure_future(spool.settle(settled(1)))
        await asyncio.sleep(0.01)
        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling
        disk.may_go_on.set()
        assert await everything(spool) == [settled(1)]


async def test_a_shipped_spool_is_empty_and_leaves_only_its_quarantine_behind(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        for number in range(3):
            await keep(spool, number)
        assert await everything(spool, most=2) == [settled(0), settled(1), settled(2)]
        assert spool.depth == 0
        assert await spool.next_shipment(most=5) is None
    assert files(tmp_path / "homes", "*") == []


async def test_what_was_not_shipped_is_shipped_by_the_next_process_and_what_was_is_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        for number in range(4):
            await keep(spool, number)
        first = await spool.next_shipment(most=2)
        assert first is not None
        spool.shipped(first)
    async with opened(tmp_path) as spool:
        assert spool.depth == 2
        assert await everything(spool) == [settled(2), settled(3)]


async def test_receipts_over_many_segments_leave_in_order_and_their_segments_go(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=SMALL) as spool:
        for number in range(60):
            await keep(spool, number)
        assert len(files(tmp_path, "*.seg")) > 5
        assert await everything(spool, most=7) == [settled(number) for number in range(60)]
        assert len(files(tmp_path, "*.seg")) == 1


async def test_a_request_that_outlives_its_segment_is_interrupted_by_a_crash_and_only_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "a", limits=SMALL) as spool:
        spool.intend(intended(1000))
        spool.checkpoint(request_id=request_id(1000), output_tokens=128, charge=Nanodollars(77))
        for number in range(60):
            await keep(spool, number)
        await everything(spool)
        assert len(files(tmp_path / "a", "*.seg")) == 1
        async with opened(crashed(tmp_path / "a", tmp_path / "b")) as next_one:
            assert await everything(next_one) == [checkpointed(1000, output_tokens=128, charge=77)]
        await spool.settle(settled(1000))
        assert await everything(spool) == [settled(1000)]


async def test_a_crash_between_segments_never_books_a_settled_request_as_interrupted(tmp_path: Path) -> None:
    async with opened(tmp_path / "live", limits=SMALL) as spool:
        for number in range(30):
            spool.intend(intended(number))
        for number in range(30):
            await spool.settle(settled(number))
            if number % 5 == 4:
                left = crashed(tmp_path / "live", tmp_path / str(number))
                async with opened(left) as next_one:
                    shipped = await everything(next_one)
                assert shipped[: number + 1] == [settled(one) for one in range(number + 1)]
                assert sorted(one.request_id for one in shipped[number + 1 :]) == [
                    request_id(one) for one in range(number + 1, 30)
                ]


async def test_checkpoints_of_requests_that_are_not_open_are_left_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        spool.checkpoint(request_id=request_id(1), output_tokens=1, charge=Nanodollars(1))
        await keep(spool, 1)
        size = files(tmp_path, "*.seg")[0].stat().st_size
        spool.checkpoint(request_id=request_id(1), output_tokens=1, charge=Nanodollars(1))
        assert files(tmp_path, "*.seg")[0].stat().st_size == size


async def test_two_spools_in_one_directory_do_not_touch_each_others_records(tmp_path: Path) -> None:
    async with opened(tmp_path) as first, opened(tmp_path) as second:
        await keep(first, 1)
        await keep(second, 2)
        assert await second.adopt() == 0
        assert await everything(first) == [settled(1)]
        assert await everything(second) == [settled(2)]


async def test_a_booked_home_is_told_to_the_next_process_if_this_one_dies_before_it_was_forgotten(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as gone:
        await keep(gone, 1)
    for _ in range(2):
        async with opened(tmp_path) as heir:
            await everything(heir)
            assert gone.home in heir.booked_homes()
    async with opened(tmp_path) as heir:
        for name in heir.booked_homes():
            heir.forget_home(name)
        assert heir.booked_homes() == []
    assert files(tmp_path / "homes", "*") == []


async def test_a_neighbour_that_dies_is_adopted_within_a_few_seconds_by_whoever_ships(tmp_path: Path) -> None:
    clock = HandClock()
    notices: list[str] = []
    async with opened(tmp_path, clock=clock, notice=notices.append) as survivor:
        async with opened(tmp_path) as neighbour:
            await keep(neighbour, 1)
            neighbour.intend(intended(2))
        assert await survivor.next_shipment(most=5) is None
        clock.now_s += 11
        await survivor.wait_for_more()
        assert survivor.depth == 2
        assert await everything(survivor) == [settled(1), intended(2)]
        (gone,) = survivor.booked_homes()
        survivor.forget_home(gone)
    assert "2 receipts to ship, 1 of them interrupted" in notices[0]
    assert files(tmp_path / "homes", "*") == []


async def test_two_who_adopt_at_once_share_the_orphans_without_a_double(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for home in range(12):
            spool = await stack.enter_async_context(opened(tmp_path))
            await keep(spool, home)
    later, elsewhere = HandClock(2e9), tmp_path / "elsewhere"
    async with opened(elsewhere, clock=later) as first, opened(elsewhere, clock=later) as second:
        shutil.copytree(tmp_path / "homes", elsewhere / "homes", dirs_exist_ok=True)
        counts = await asyncio.gather(first.adopt(), second.adopt(), first.adopt(), second.adopt())
        shipped = [*await everything(first), *await everything(second)]
    assert sum(counts) == 12
    assert sorted(one.request_id for one in shipped) == [request_id(number) for number in range(12)]


async def test_an_adoption_that_is_cancelled_leaves_the_orphans_to_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await keep(spool, 1)
        left = crashed(tmp_path, tmp_path / "left")
        later, new = HandClock(2e9), tmp_path / "new"
        async with opened(new, clock=later) as other, opened(new, clock=later) as third:
            shutil.copytree(left / "homes", new / "homes", dirs_exist_ok=True)
            adopting = asyncio.ensure_future(other.adopt())
            await asyncio.sleep(0)
            adopting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await adopting
            async with asyncio.timeout(30):
                while await third.adopt() == 0:
                    await asyncio.sleep(0.01)
            assert await everything(third) == [settled(1)]
        await everything(spool)


async def test_a_shipment_that_is_not_confirmed_is_given_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await keep(spool, 1)
        await keep(spool, 2)
        first, again = await spool.next_shipment(most=9), await spool.next_shipment(most=9)
        assert first is not None
        assert again is not None
        assert first.receipts == again.receipts
        spool.shipped(first)
        spool.shipped(again)
        await keep(spool, 3)
        assert spool.depth == 1
        assert await everything(spool) == [settled(3)]


async def test_waiting_for_more_ends_with_the_next_receipt(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        waiting = asyncio.ensure_future(spool.wait_for_more())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        spool.settle_later(settled(1))
        async with asyncio.timeout(5):
            await waiting
            await spool.wait_for_more()


async def test_a_refused_receipt_is_in_quarantine_for_every_process_that_comes(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        spool.quarantine(b'{"bad":1}', reason="refused by a constraint")
        assert spool.quarantined == 1
    async with opened(tmp_path) as spool:
        assert spool.quarantined == 1


async def test_a_bit_that_flips_in_a_live_segment_costs_one_receipt_and_is_reported(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        for number in range(3):
            await keep(spool, number)
        (segment,) = files(tmp_path, "*.seg")
        content = bytearray(segment.read_bytes())
        content[content.index(settled(1).request_id.encode(), len(content) // 2) + 300] ^= 1
        segment.write_bytes(content)
        assert await everything(spool) == [settled(0), settled(2)]
        assert spool.quarantined == 1
        assert spool.depth == 0


async def test_settle_later_never_raises_and_its_receipt_becomes_durable_too(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "spool", sync=disk) as spool:
        spool.intend(intended(1))
        spool.settle_later(settled(1))
        async with asyncio.timeout(30):
            while not disk.synced:
                await asyncio.sleep(0.001)
        assert spool.depth == 1
    notices: list[str] = []
    async with opened(tmp_path / "other", notice=notices.append) as spool:
        pass
    spool.settle_later(settled(2))
    assert len(notices) == 1
    assert request_id(2) in notices[0]


async def test_over_its_cap_the_spool_refuses_work_until_something_is_shipped(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=SpoolLimits(cap=200_000, segment=16_384, reserve=0)) as spool:
        number = 0
        while spool.trouble is None:
            await keep(spool, number)
            number += 1
        with pytest.raises(LedgerUnavailable, match="bring Postgres back"):
            spool.intend(intended(number))
        assert sum(path.stat().st_size for path in files(tmp_path, "*.seg")) <= 200_000
        assert len(await everything(spool)) == number
        await keep(spool, number)


async def test_on_a_full_disk_damaged_bytes_are_not_dropped_but_wait(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=1024) as disk:
        async with opened(disk, limits=SpoolLimits(reserve=0)) as spool:
            await keep(spool, 1)
            await keep(spool, 2)
            (segment,) = files(disk, "*.seg")
            with segment.open("r+b") as file:
                file.seek(200)
                file.write(b"\x00")
            filler = fill(disk)
            with pytest.raises(LedgerUnavailable):
                await spool.next_shipment(most=5)
            with pytest.raises(LedgerUnavailable):
                spool.quarantine(b"x" * 20_000, reason="refused")
            filler.unlink()
            assert await everything(spool) == [settled(1), settled(2)]
            assert spool.quarantined == 1


@pytest.mark.parametrize("make", [lambda path: path.write_text("a file"), lambda path: path.symlink_to("/dev/full")])
async def test_a_directory_that_cannot_be_used_is_a_setup_error_that_names_it(tmp_path: Path, make: object) -> None:
    place = tmp_path / "spool"
    make(place)  # type: ignore[operator]
    with pytest.raises(SetupError, match=f"the spool in {place} cannot be used"):
        async with opened(place):
            pass


async def test_a_disk_too_full_to_begin_is_a_setup_error_and_leaves_no_home(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=64) as disk:
        async with opened(disk, limits=SpoolLimits(reserve=0)):
            pass
        fill(disk)
        with pytest.raises(SetupError, match="No space left"):
            async with opened(disk, limits=SpoolLimits(reserve=0)):
                pass
        assert files(disk / "homes", "*.seg") == []


async def test_only_the_owner_of_the_process_may_read_the_spool(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        await keep(spool, 1)
        spool.quarantine(b"{}", reason="refused")
        for path in files(tmp_path / "spool", "*"):
            assert path.stat().st_mode & 0o077 == 0, path


async def test_a_long_life_leaves_no_descriptor_and_no_thread_behind(tmp_path: Path) -> None:
    async def life() -> None:
        async with opened(tmp_path, limits=SMALL) as spool:
            for number in range(100):
                await keep(spool, number)
            await everything(spool)

    await life()
    before = _descriptors()
    for _ in range(3):
        await life()
    gc.collect()
    assert _descriptors() <= before


def _descriptors() -> int:
    here = Path("/proc/self/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
    return len(list(here.iterdir()))


async def test_what_is_shipped_decodes_to_what_was_settled(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await keep(spool, 1)
        shipment = await spool.next_shipment(most=1)
        assert shipment is not None
        assert [decode(receipt) for receipt in shipment.receipts] == [settled(1)]


def test_a_spool_of_a_million_bytes_of_noise_is_survived(tmp_path: Path) -> None:
    home = tmp_path / "homes" / "noise"
    home.mkdir(parents=True)
    subprocess.run(["dd", "if=/dev/urandom", f"of={home / '00000001.seg'}", "bs=1M", "count=1"], check=True)

    async def look() -> int:
        async with opened(tmp_path) as spool:
            assert await everything(spool) == []
            return spool.quarantined

    assert asyncio.run(look()) == 1
