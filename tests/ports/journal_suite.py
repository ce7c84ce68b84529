"""What every journal does that is an outbox too, the spool and the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import pytest

from app.domain.errors import LedgerUnavailable
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.ports import Journal, Outbox
from app.storage.receipt_json import decode
from tests.storage.spool_pieces import checkpointed, everything, intended, request_id, settled


class JournalAndOutbox(Journal, Outbox, Protocol):
    """Both sides of one journal."""

    @property
    def quarantined(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalAtHand:
    """An empty journal; the journal of the next process, after `kill -9`; and what fills it up and empties it."""

    journal: JournalAndOutbox
    after_a_kill: Callable[[], Awaitable[JournalAndOutbox]]
    fill: Callable[[], Awaitable[None]]
    empty: Callable[[], Awaitable[None]]


class JournalSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_an_empty_journal_ships_nothing(self, at_hand: JournalAtHand) -> None:
        assert at_hand.journal.depth == 0
        assert await at_hand.journal.next_shipment(most=5) is None

    async def test_receipts_are_shipped_in_the_order_in_which_they_were_settled(self, at_hand: JournalAtHand) -> None:
        journal = at_hand.journal
        for number in (3, 1, 2):
            journal.intend(intended(number))
        for number in (1, 2, 3):
            await journal.settle(settled(number))
        assert journal.depth == 3
        assert await everything(journal, most=2) == [settled(1), settled(2), settled(3)]
        assert journal.depth == 0

    async def test_an_intent_alone_is_nothing_to_ship(self, at_hand: JournalAtHand) -> None:
        at_hand.journal.intend(intended(1))
        assert at_hand.journal.depth == 0
        assert await at_hand.journal.next_shipment(most=5) is None

    async def test_a_refusal_that_was_never_dispatched_is_settled_without_an_intent(
        self, at_hand: JournalAtHand
    ) -> None:
        refused = replace(settled(1), outcome=Outcome.REFUSED, attempts=())
        await at_hand.journal.settle(refused)
        assert await everything(at_hand.journal) == [refused]

    async def test_until_a_shipment_is_confirmed_it_is_given_again(self, at_hand: JournalAtHand) -> None:
        journal = at_hand.journal
        for number in range(3):
            await journal.settle(settled(number))
        first, again = await journal.next_shipment(most=2), await journal.next_shipment(most=2)
        assert first is not None
        assert again is not None
        assert first.receipts == again.receipts
        journal.shipped(first)
        journal.shipped(again)
        assert journal.depth == 1
        assert await everything(journal) == [settled(2)]

    async def test_what_is_settled_while_a_shipment_is_under_way_stays_for_the_next(
        self, at_hand: JournalAtHand
    ) -> None:
        journal = at_hand.journal
        await journal.settle(settled(1))
        under_way = await journal.next_shipment(most=5)
        assert under_way is not None
        await journal.settle(settled(2))
        journal.shipped(under_way)
        assert await everything(journal) == [settled(2)]

    async def test_a_receipt_settled_without_waiting_is_shipped_like_any_other(self, at_hand: JournalAtHand) -> None:
        at_hand.journal.intend(intended(1))
        at_hand.journal.settle_later(settled(1))
        assert await everything(at_hand.journal) == [settled(1)]

    async def test_waiting_ends_when_there_is_something_to_ship(self, at_hand: JournalAtHand) -> None:
        waiting = asyncio.ensure_future(at_hand.journal.wait_for_more())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await at_hand.journal.settle(settled(1))
        async with asyncio.timeout(5):
            await waiting
            await at_hand.journal.wait_for_more()

    async def test_after_a_kill_what_was_settled_and_not_shipped_is_there_unchanged(
        self, at_hand: JournalAtHand
    ) -> None:
        journal = at_hand.journal
        for number in range(3):
            journal.intend(intended(number))
            await journal.settle(settled(number))
        shipment = await journal.next_shipment(most=1)
        assert shipment is not None
        journal.shipped(shipment)
        assert await everything(await at_hand.after_a_kill()) == [settled(1), settled(2)]

    async def test_after_a_kill_what_was_begun_is_interrupted_and_what_was_settled_is_not(
        self, at_hand: JournalAtHand
    ) -> None:
        journal = at_hand.journal
        for number in (1, 2):
            journal.intend(intended(number))
        await journal.settle(settled(2))
        next_one = await at_hand.after_a_kill()
        assert next_one.depth == 2
        assert await everything(next_one) == [settled(2), intended(1)]

    async def test_after_a_kill_an_interrupted_request_is_booked_by_its_last_checkpoint(
        self, at_hand: JournalAtHand
    ) -> None:
        journal = at_hand.journal
        journal.intend(intended(1))
        for tokens in (64, 128):
            journal.checkpoint(request_id=request_id(1), output_tokens=tokens, charge=Nanodollars(tokens * 10))
        assert await everything(await at_hand.after_a_kill()) == [checkpointed(1, output_tokens=128, charge=1280)]

    async def test_a_second_intent_replaces_the_first_with_its_checkpoint(self, at_hand: JournalAtHand) -> None:
        journal = at_hand.journal
        journal.intend(intended(1))
        journal.checkpoint(request_id=request_id(1), output_tokens=64, charge=Nanodollars(1))
        second = _with_a_second_attempt(intended(1))
        journal.intend(second)
        assert await everything(await at_hand.after_a_kill()) == [second]

    async def test_a_checkpoint_of_an_unknown_or_settled_request_changes_nothing(self, at_hand: JournalAtHand) -> None:
        journal = at_hand.journal
        journal.checkpoint(request_id=request_id(9), output_tokens=64, charge=Nanodollars(1))
        journal.intend(intended(1))
        await journal.settle(settled(1))
        journal.checkpoint(request_id=request_id(1), output_tokens=64, charge=Nanodollars(1))
        assert await everything(await at_hand.after_a_kill()) == [settled(1)]

    async def test_a_full_journal_refuses_new_work_and_settles_what_was_dispatched(
        self, at_hand: JournalAtHand
    ) -> None:
        journal = at_hand.journal
        for number in (1, 2):
            journal.intend(intended(number))
        await at_hand.fill()
        with pytest.raises(LedgerUnavailable):
            journal.intend(intended(3))
        with pytest.raises(LedgerUnavailable):
            await journal.settle(settled(3))
        journal.settle_later(settled(4))
        await journal.settle(settled(1))
        journal.settle_later(settled(2))
        await at_hand.empty()
        journal.intend(intended(5))
        await journal.settle(settled(5))
        assert await everything(journal) == [settled(1), settled(2), settled(5)]

    async def test_what_was_put_in_quarantine_is_counted_for_ever(self, at_hand: JournalAtHand) -> None:
        at_hand.journal.quarantine(b'{"bad":1}', reason="the server refused it")
        assert at_hand.journal.quarantined == 1
        assert (await at_hand.after_a_kill()).quarantined == 1

    async def test_what_is_shipped_is_the_json_of_a_receipt(self, at_hand: JournalAtHand) -> None:
        await at_hand.journal.settle(settled(1))
        shipment = await at_hand.journal.next_shipment(most=1)
        assert shipment is not None
        assert [decode(receipt) for receipt in shipment.receipts] == [settled(1)]


def _with_a_second_attempt(receipt: Receipt) -> Receipt:
    second = replace(receipt.attempts[0], attempt_id=f"{receipt.request_id}/2", number=2)
    return replace(receipt, attempts=(*receipt.attempts, second))
