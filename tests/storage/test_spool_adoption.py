"""`app.storage.spool_adoption`: what a dead process left is replayed to its last whole record, and never doubled."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.ledger.receipt import HEDGE_LOST, Receipt
from app.domain.metering.measurement import Outcome
from app.domain.usage import UsageSource
from app.storage.receipt_json import decode, encode
from app.storage.spool_adoption import Orphan, as_interrupted
from app.storage.spool_format import SEGMENT_HEADER, Kind, framed
from app.storage.spool_home import Home, make_home, take_orphans
from app.storage.spool_quarantine import Quarantine
from app.storage.spool_segment import Segment
from tests.makers import a_receipt
from tests.storage.spool_pieces import checkpointed, intended, request_id, settled


def intent(number: int) -> bytes:
    return framed(Kind.INTENT, request_id(number), encode(intended(number)))


def receipt(number: int) -> bytes:
    return framed(Kind.RECEIPT, request_id(number), encode(settled(number)))


def checkpoint(number: int, output_tokens: int, charge: int) -> bytes:
    payload = b'{"output_tokens":%d,"charge":%d}' % (output_tokens, charge)
    return framed(Kind.CHECKPOINT, request_id(number), payload)


def left_behind(spool: Path, *segments: bytes) -> Home:
    """A home of a process that is gone, with these segments in it."""
    home = make_home(spool, at_us=1)
    for number, records in enumerate(segments, start=1):
        home.segment_path(number).write_bytes(SEGMENT_HEADER + records)
    return home


def adopted(spool: Path, *segments: bytes) -> Orphan:
    return Orphan(left_behind(spool, *segments), Quarantine(spool))


async def shipped(orphan: Orphan, *, most: int = 100) -> list[Receipt]:
    found: list[Receipt] = []
    while (part := await orphan.next_part(most=most)) is not None:
        found += [decode(one) for one in part.receipts]
        orphan.shipped(part)
    return found


async def test_receipts_come_as_they_are_and_before_what_was_interrupted(tmp_path: Path) -> None:
    orphan = adopted(tmp_path, intent(1) + intent(2) + receipt(2) + intent(3), receipt(3))
    assert (orphan.remaining, orphan.interrupted) == (3, 1)
    assert await shipped(orphan, most=1) == [settled(2), settled(3), intended(1)]
    assert orphan.remaining == 0


async def test_an_interrupted_request_is_charged_by_its_last_checkpoint(tmp_path: Path) -> None:
    orphan = adopted(tmp_path, intent(1) + checkpoint(1, 70, 5000) + checkpoint(1, 128, 9000))
    assert await shipped(orphan) == [checkpointed(1, output_tokens=128, charge=9000)]


async def test_a_checkpoint_counts_for_the_attempt_it_follows_and_not_for_a_later_one(tmp_path: Path) -> None:
    orphan = adopted(tmp_path, intent(1) + checkpoint(1, 70, 5000) + intent(1))
    assert await shipped(orphan) == [intended(1)]


async def test_a_receipt_in_a_later_segment_closes_an_intent_in_an_earlier_one(tmp_path: Path) -> None:
    orphan = adopted(tmp_path, intent(1), checkpoint(1, 70, 5000), receipt(1))
    assert await shipped(orphan) == [settled(1)]


async def test_a_torn_tail_is_cut_and_is_no_case_for_the_quarantine(tmp_path: Path) -> None:
    orphan = adopted(tmp_path, receipt(1) + receipt(2)[:-1])
    assert await shipped(orphan) == [settled(1)]
    assert (orphan.torn, orphan.damaged, Quarantine(tmp_path).count) == (1, 0, 0)


async def test_a_damaged_receipt_goes_to_quarantine_and_its_intent_is_booked_instead(tmp_path: Path) -> None:
    bad = bytearray(receipt(1))
    bad[100] ^= 4
    orphan = adopted(tmp_path, intent(1) + bytes(bad) + receipt(2))
    assert await shipped(orphan) == [settled(2), intended(1)]
    assert orphan.damaged == 1
    (kept,) = Quarantine(tmp_path).path.iterdir()
    assert kept.read_bytes() == bytes(bad)


async def test_replaying_twice_puts_the_same_damage_aside_once_and_gives_the_same_receipts(tmp_path: Path) -> None:
    home = left_behind(tmp_path, b"\xfe\xff noise" + intent(1) + receipt(2) + b"noise" + receipt(3))
    first = Orphan(home, Quarantine(tmp_path))
    before = await shipped(first)
    for path in home.path.glob("*.shipped"):
        path.unlink()
    again = Orphan(home, Quarantine(tmp_path))
    assert await shipped(again) == before == [settled(2), settled(3), intended(1)]
    assert Quarantine(tmp_path).count == 2


async def test_an_adopter_that_dies_half_way_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    home = left_behind(tmp_path, receipt(1) + receipt(2) + intent(3))
    first = Orphan(home, Quarantine(tmp_path))
    part = await first.next_part(most=1)
    assert part is not None
    first.shipped(part)
    home.leave()
    (taken,) = take_orphans(tmp_path, known=()).homes
    second = Orphan(taken, Quarantine(tmp_path))
    assert second.remaining == 2
    assert await shipped(second) == [settled(2), intended(3)]


async def test_until_a_part_is_shipped_it_is_given_again_and_a_stale_part_changes_nothing(tmp_path: Path) -> None:
    orphan = adopted(tmp_path, receipt(1) + receipt(2) + intent(3) + intent(4))
    one, both = await orphan.next_part(most=1), await orphan.next_part(most=2)
    assert one is not None
    assert both is not None
    orphan.shipped(both)
    orphan.shipped(one)
    assert orphan.remaining == 2
    made = await orphan.next_part(most=1)
    assert made == await orphan.next_part(most=1)
    assert made is not None
    orphan.shipped(made)
    orphan.shipped(made)
    assert await shipped(orphan) == [intended(4)]


async def test_a_damaged_segment_header_costs_nothing_but_its_own_bytes(tmp_path: Path) -> None:
    home = left_behind(tmp_path, receipt(1) + receipt(2))
    path = home.segment_path(1)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    orphan = Orphan(home, Quarantine(tmp_path))
    assert await shipped(orphan) == [settled(1), settled(2)]
    assert Quarantine(tmp_path).count == 1


async def test_damage_over_the_header_and_the_first_record_is_one_case(tmp_path: Path) -> None:
    home = left_behind(tmp_path, receipt(1) + receipt(2))
    path = home.segment_path(1)
    path.write_bytes(bytes(40) + path.read_bytes()[40:])
    assert await shipped(Orphan(home, Quarantine(tmp_path))) == [settled(2)]
    assert Quarantine(tmp_path).count == 1


async def test_receipts_behind_megabytes_of_checkpoints_are_reached(tmp_path: Path) -> None:
    many = checkpoint(1, 70, 5000) * 40_000
    assert len(many) > 3 << 20
    orphan = adopted(tmp_path, intent(1) + many + receipt(1) + many + receipt(2))
    assert await shipped(orphan) == [settled(1), settled(2)]


async def test_an_intent_that_another_version_wrote_is_put_aside_with_its_reason(tmp_path: Path) -> None:
    foreign = framed(Kind.INTENT, request_id(1), b'{"version":99}')
    orphan = adopted(tmp_path, foreign + intent(2))
    assert await shipped(orphan) == [intended(2)]
    ((reason, text),) = Quarantine(tmp_path).rejected()
    assert "intent of a dead process" in reason
    assert text == '{"version":99}'


async def test_a_checkpoint_that_another_version_wrote_leaves_the_intents_own_estimate(tmp_path: Path) -> None:
    foreign = framed(Kind.CHECKPOINT, request_id(1), b'{"tokens":"many"}')
    assert await shipped(adopted(tmp_path, intent(1) + foreign)) == [intended(1)]


async def test_a_segment_that_cannot_be_read_is_put_aside_whole_and_the_others_are_replayed(tmp_path: Path) -> None:
    home = left_behind(tmp_path, receipt(1), receipt(2))
    home.segment_path(1).unlink()
    home.segment_path(1).mkdir()
    orphan = Orphan(home, Quarantine(tmp_path))
    assert await shipped(orphan) == [settled(2)]
    assert Quarantine(tmp_path).count == 1


async def test_a_segment_that_becomes_unreadable_after_its_replay_does_not_stop_the_rest(tmp_path: Path) -> None:
    home = left_behind(tmp_path, receipt(1), intent(3) + receipt(2))
    orphan = Orphan(home, Quarantine(tmp_path))
    home.segment_path(1).unlink()
    home.segment_path(1).mkdir()
    assert await shipped(orphan) == [settled(2), intended(3)]
    assert orphan.remaining == 0


async def test_a_segment_that_vanished_after_its_replay_does_not_stop_the_rest(tmp_path: Path) -> None:
    home = left_behind(tmp_path, receipt(1), receipt(2), intent(3))
    orphan = Orphan(home, Quarantine(tmp_path))
    home.segment_path(1).unlink()
    home.segment_path(3).unlink()
    assert await shipped(orphan) == [settled(2)]
    assert Quarantine(tmp_path).count == 2


async def test_a_process_out_of_descriptors_puts_nothing_healthy_aside(tmp_path: Path) -> None:
    home = left_behind(tmp_path, receipt(1), intent(2))
    quarantine = Quarantine(tmp_path)
    orphan = Orphan(home, quarantine)
    with no_descriptors_left():
        with pytest.raises(OSError, match="Too many open files"):
            await orphan.next_part(most=5)
        with pytest.raises(OSError, match="Too many open files"):
            Orphan(home, quarantine)
    part = await orphan.next_part(most=5)
    assert part is not None
    orphan.shipped(part)
    with no_descriptors_left(), pytest.raises(OSError, match="Too many open files"):
        await orphan.next_part(most=5)
    assert await shipped(orphan) == [intended(2)]
    assert quarantine.count == 0


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    taken: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_removed_orphan_leaves_no_trace(tmp_path: Path) -> None:
    orphan = adopted(tmp_path, receipt(1), intent(2))
    await shipped(orphan)
    orphan.part_with_segments(Segment.delete)
    assert orphan.home.segment_paths() == []
    orphan.home.remove()
    assert not orphan.home.path.exists()


def test_a_request_that_died_before_its_first_dispatch_is_interrupted_without_any_attempt() -> None:
    nothing_yet = replace(a_receipt(outcome=Outcome.COMPLETE), attempts=())
    made = decode(as_interrupted(encode(nothing_yet), checkpoint=b'{"output_tokens":1,"charge":1}'))
    assert made == replace(nothing_yet, outcome=Outcome.INTERRUPTED)


def test_what_died_is_called_interrupted_whatever_its_intent_said_and_earlier_attempts_stay_as_they_were() -> None:
    first = replace(settled(1).attempts[0], outcome=Outcome.BROKEN)
    second = replace(settled(1).attempts[0], attempt_id=f"{request_id(1)}/2", number=2)
    told = replace(settled(1), attempts=(first, second))
    made = decode(as_interrupted(encode(told), checkpoint=b'{"output_tokens":7,"charge":11}'))
    assert made.outcome is Outcome.INTERRUPTED
    assert made.attempts[0] == first
    assert made.attempts[1].outcome is Outcome.INTERRUPTED
    assert made.attempts[1].usage_source is UsageSource.CHECKPOINT
    assert (made.attempts[1].usage.output, made.attempts[1].charge) == (7, 11)


def test_two_that_were_open_at_once_are_booked_by_their_numbers_and_the_checkpoint_is_of_the_intents_last() -> None:
    first = settled(1).attempts[0]
    lost = replace(first, attempt_id=f"{request_id(1)}/2", number=2, outcome=Outcome.ABANDONED, flags=(HEDGE_LOST,))
    made = decode(
        as_interrupted(
            encode(replace(settled(1), attempts=(lost, first))), checkpoint=b'{"output_tokens":7,"charge":11}'
        )
    )
    assert [attempt.number for attempt in made.attempts] == [1, 2]
    assert (made.attempts[0].usage.output, made.attempts[0].charge) == (7, 11)
    assert made.attempts[0].outcome is Outcome.INTERRUPTED
    assert made.attempts[1] == lost


def test_json_that_is_no_receipt_is_refused() -> None:
    with pytest.raises(ValueError, match="not the JSON of a receipt"):
        as_interrupted(b"[]", checkpoint=None)
