"""`app.storage.spool_tail`: what was shipped a moment ago is sent again where another server leads, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.storage.spool import Spool, SpoolLimits
from app.storage.spool_segment import Segment
from app.storage.spool_tail import Tail
from tests.storage.small_disk import small_disk
from tests.storage.spool_pieces import (
    HandClock,
    checkpointed,
    crashed,
    everything,
    files,
    intended,
    opened,
    settled,
)

LIMITS = SpoolLimits(segment=16_384, reserve=0, tail_s=60)
NUMBERS = range(40)


async def keep(spool: Spool, *numbers: int) -> None:
    for number in numbers:
        spool.intend(intended(number))
        await spool.settle(settled(number))


def spool_at(directory: Path, *, clock: HandClock | None = None, limits: SpoolLimits = LIMITS) -> Any:
    return opened(directory, clock=clock or HandClock(), limits=limits)


def once(receipts: list[Receipt]) -> set[str]:
    ids = [receipt.request_id for receipt in receipts]
    assert len(ids) == len(set(ids))
    return set(ids)


ALL = {settled(number).request_id for number in NUMBERS}


async def test_what_one_server_has_is_sent_to_another_that_leads_and_only_once(tmp_path: Path) -> None:
    async with spool_at(tmp_path) as spool:
        assert not spool.server_is("one/1")
        await keep(spool, *NUMBERS)
        assert once(await everything(spool, most=7)) == ALL
        assert len(files(tmp_path / "tail", "*.seg")) > 3, "segments that are done with, and not the one in use"
        assert not spool.server_is("one/1")
        assert await everything(spool) == []
        assert spool.server_is("one/2")
        assert not spool.server_is("one/2"), "it is told once"
        assert once(await everything(spool, most=7)) == ALL
        assert not spool.server_is("one/2")
        assert await everything(spool) == []


async def test_what_comes_meanwhile_is_shipped_after_it(tmp_path: Path) -> None:
    async with spool_at(tmp_path) as spool:
        spool.server_is("one/1")
        await keep(spool, *NUMBERS)
        await everything(spool)
        spool.server_is("one/2")
        await keep(spool, 98, 99)
        sent = [receipt.request_id for receipt in await everything(spool, most=5)]
        assert set(sent[:40]) == ALL
        assert set(sent[-2:]) == {settled(98).request_id, settled(99).request_id}
        assert spool.depth == 0


async def test_segments_go_once_the_server_that_has_them_has_led_for_long_enough(tmp_path: Path) -> None:
    clock = HandClock()
    async with spool_at(tmp_path, clock=clock) as spool:
        spool.server_is("one/1")
        await keep(spool, *NUMBERS)
        await everything(spool)
        kept = len(files(tmp_path / "tail", "*.seg"))
        clock.now_s += 59
        spool.server_is("one/1")
        assert len(files(tmp_path / "tail", "*.seg")) == kept
        clock.now_s += 3600  # nobody answered for an hour, and then another did
        assert spool.server_is("one/2")
        assert len(await everything(spool)) == len(ALL)
        spool.server_is("one/2")
        assert files(tmp_path / "tail", "*.seg") == []


@pytest.mark.parametrize("limits", [SpoolLimits(segment=16_384, reserve=0), LIMITS])
async def test_without_a_tail_nothing_is_kept_and_nothing_is_sent_again(tmp_path: Path, limits: SpoolLimits) -> None:
    is_kept = limits.tail_s > 0
    async with spool_at(tmp_path, limits=limits) as spool:
        spool.server_is("one/1")
        await keep(spool, *NUMBERS)
        await everything(spool)
        assert bool(files(tmp_path, "tail/*/*.seg")) == is_kept
        assert spool.server_is("one/2") == is_kept


async def test_a_stop_leaves_the_tail_to_whoever_lives_then(tmp_path: Path) -> None:
    async with spool_at(tmp_path) as gone:
        gone.server_is("one/1")
        await keep(gone, *NUMBERS)
        await everything(gone)
    assert files(tmp_path / "homes", "*") == []
    async with spool_at(tmp_path) as heir:
        assert not heir.server_is("one/1")
        assert heir.server_is("one/2")
        assert once(await everything(heir)) == ALL
    clock = HandClock(HandClock().now_s + 61)
    async with spool_at(tmp_path, clock=clock) as later:
        assert not later.server_is("one/2")
        later.server_is("one/2")
        assert files(tmp_path / "tail", "*.seg") == []
        assert gone.home not in {path.name for path in (tmp_path / "tail").iterdir()}


async def test_what_a_killed_process_had_shipped_is_sent_to_the_server_that_took_over(tmp_path: Path) -> None:
    async with spool_at(tmp_path / "live") as spool:
        spool.server_is("one/1")
        await keep(spool, *NUMBERS)
        await everything(spool)
        await keep(spool, 98)
        left = crashed(tmp_path / "live", tmp_path / "left")
    async with spool_at(left) as heir:
        assert not heir.server_is("one/2"), "its home is still being booked"
        assert [receipt.request_id for receipt in await everything(heir)] == [settled(98).request_id]
        for home in heir.booked_homes():
            heir.forget_home(home)
        assert heir.server_is("one/2")
        assert once(await everything(heir)) == {*ALL, settled(98).request_id}
        assert not heir.server_is("one/2")


async def test_what_was_interrupted_is_sent_again_as_it_was_booked(tmp_path: Path) -> None:
    async with spool_at(tmp_path / "live") as spool:
        spool.server_is("one/1")
        await keep(spool, 1)
        for number in (2, 3, 4):
            spool.intend(intended(number))
        spool.checkpoint(request_id=settled(3).request_id, output_tokens=33, charge=Nanodollars(333))
        left = crashed(tmp_path / "live", tmp_path / "left")
    clock = HandClock()
    async with spool_at(left, clock=clock) as heir:
        heir.server_is("one/1")
        booked = await everything(heir, most=2)
        assert booked == [settled(1), intended(2), checkpointed(3, output_tokens=33, charge=333), intended(4)]
        assert await everything(heir) == []
        for home in heir.booked_homes():
            heir.forget_home(home)
        assert heir.server_is("one/2")
        assert await everything(heir, most=2) == booked
        clock.now_s += 61
        heir.server_is("one/2")
        assert files(left / "tail", "*.seg") == []


async def test_who_dies_while_it_books_the_interrupted_leaves_them_all_to_its_heir(tmp_path: Path) -> None:
    async with spool_at(tmp_path / "live") as spool:
        spool.server_is("one/1")
        for number in (2, 3):
            spool.intend(intended(number))
        left = crashed(tmp_path / "live", tmp_path / "left")
    async with spool_at(left) as heir:
        shipment = await heir.next_shipment(most=1)
        assert shipment is not None
        heir.shipped(shipment)
        once_more = crashed(left, tmp_path / "once more")
    async with spool_at(once_more) as heir:
        assert await everything(heir) == [intended(2), intended(3)]
        for home in heir.booked_homes():
            heir.forget_home(home)
        assert heir.server_is("one/2")
        assert {receipt.request_id for receipt in await everything(heir)} == {intended(n).request_id for n in (2, 3)}


async def test_who_dies_while_it_sends_again_leaves_that_to_its_heir(tmp_path: Path) -> None:
    async with spool_at(tmp_path / "live") as spool:
        spool.server_is("one/1")
        await keep(spool, *NUMBERS)
        await everything(spool)
        spool.server_is("one/2")
        shipment = await spool.next_shipment(most=10)
        assert shipment is not None
        spool.shipped(shipment)
        left = crashed(tmp_path / "live", tmp_path / "left")
    async with spool_at(left) as heir:
        heir.server_is("one/2")
        await everything(heir)
        for home in heir.booked_homes():
            heir.forget_home(home)
        assert heir.server_is("one/2")
        assert once(await everything(heir)) == ALL


async def test_a_shipment_that_is_not_confirmed_comes_again(tmp_path: Path) -> None:
    async with spool_at(tmp_path) as spool:
        spool.server_is("one/1")
        await keep(spool, *NUMBERS)
        await everything(spool)
        spool.server_is("one/2")
        first, again = [await spool.next_shipment(most=10) for _ in range(2)]
        assert first is not None
        assert again is not None
        assert first.receipts == again.receipts
        spool.shipped(first)
        spool.shipped(again)
        assert len(once(await everything(spool))) == len(ALL) - len(first.receipts)


async def test_a_segment_that_is_gone_or_damaged_is_passed_over(tmp_path: Path) -> None:
    async with spool_at(tmp_path) as spool:
        spool.server_is("one/1")
        await keep(spool, *NUMBERS)
        await everything(spool)
        kept = files(tmp_path / "tail", "*.seg")
        kept[1].write_bytes(kept[1].read_bytes()[:200] + bytes(300))
        spool.server_is("one/2")
        kept[0].unlink()
        assert 0 < len(once(await everything(spool))) < len(ALL)
        assert spool.depth == 0


async def test_the_tail_has_a_bound_and_the_oldest_goes_first(tmp_path: Path) -> None:
    limits = SpoolLimits(cap=200_000, segment=16_384, reserve=0, tail_s=60)
    async with spool_at(tmp_path, limits=limits) as spool:
        spool.server_is("one/1")
        for number in range(100):
            await keep(spool, number)
            await everything(spool)
        kept = files(tmp_path / "tail", "*.seg")
        assert 0 < sum(path.stat().st_size for path in kept) <= 50_000
        assert spool.server_is("one/2")
        sent = once(await everything(spool))
        assert settled(99).request_id in sent
        assert settled(0).request_id not in sent


async def test_a_full_disk_gets_the_room_of_the_tail_before_anything_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=1024) as disk:
        async with spool_at(disk, limits=SpoolLimits(segment=65_536, reserve=0, tail_s=60)) as spool:
            spool.server_is("one/1")
            number = 0
            for number in range(600):
                await keep(spool, number)
                await everything(spool)
            assert spool.trouble is None
            assert number == 599


def test_a_tail_without_a_disk_is_shorter_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "tail").write_text("in the way")
    segment = Segment.begin(tmp_path / "00000001.seg")
    segment.append(b"x")
    tail = Tail(tmp_path, "home", kept_s=60, most_bytes=1000)
    tail.put_by(segment, at_s=0)
    assert not segment.path.exists()
    assert tail.server_is("one/1", at_s=0, live=[]) is None
    assert not tail.give_room()
