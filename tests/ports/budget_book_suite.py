"""What every budget book does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.budget import Budget, Every, period
from app.domain.ledger.account import Standing
from app.domain.ledger.hold import Hold
from app.domain.ledger.receipt import Receipt
from app.domain.money import ZERO, Nanodollars
from app.ports import BooksAway, LedgerBook
from app.ports.ledger import BudgetBook, LeaseGranted, LeaseWanted
from app.storage.receipt_json import encode
from tests.makers import NOON, a_caller, a_receipt, an_attempt, some_facts

HERE, THERE = "1795435200000000-17-0", "1795435200000000-18-0"
BEGIN, END = period(Every.DAY, at=NOON)
STEP = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetBookAtHand:
    """A budget book, the ledger book that settles with it, and what a test may do to them."""

    book: BudgetBook
    ledger: LedgerBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]
    #: The time of every lease is over.
    let_lapse: Callable[[], Awaitable[None]]
    #: That receipt was corrected by that amount.
    adjust: Callable[[Receipt, int], Awaitable[None]]

    async def take(self, wanted: LeaseWanted, *, holder: str = HERE) -> LeaseGranted:
        (answer,) = await self.book.lease([wanted], holder=holder)
        return answer

    async def stands(self, wanted: LeaseWanted) -> tuple[int, int, int, int]:
        """Spent, leased, lost, overrun."""
        (standing,) = await self.book.standings([wanted])
        assert standing is not None
        return standing.spent, standing.leased, standing.lost, standing.overrun

    async def settle(self, *receipts: Receipt) -> int:
        return await self.ledger.book([encode(receipt) for receipt in receipts])


def a_budget(name: str = "b", *, amount: int = 1_000, every: Every = Every.DAY, **of: str) -> Budget:
    return Budget(name=name, amount=Nanodollars(amount), every=every, **of)


def wanting(
    budget: Budget | None = None,
    *,
    need: int = 0,
    want: int = 0,
    returned: int = 0,
    begin: datetime = BEGIN,
    end: datetime = END,
) -> LeaseWanted:
    return LeaseWanted(
        budget=budget or a_budget(),
        begin=begin,
        end=end,
        need=Nanodollars(need),
        want=Nanodollars(want),
        returned=Nanodollars(returned),
    )


def told(
    number: int,
    charge: int,
    *holds: tuple[Budget, str, int],
    at: datetime = NOON,
    model: str = "chat",
    **caller: object,
) -> Receipt:
    """A receipt; `holds` are budget, holder and amount."""
    identity = f"019ab000-0000-7000-8000-{number:012x}"
    return a_receipt(
        an_attempt(attempt_id=f"{identity}/1", charge=Nanodollars(charge)),
        request_id=identity,
        at_us=(at - datetime(1970, 1, 1, tzinfo=UTC)) // STEP,
        facts=some_facts(request_id=identity, model=model, caller=a_caller(**caller)),
        holds=tuple(
            Hold(account=budget.account, holder=holder, amount=Nanodollars(held)) for budget, holder, held in holds
        ),
    )


class BudgetBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_what_is_granted_is_kept_and_told(self, at_hand: BudgetBookAtHand) -> None:
        answer = await at_hand.take(wanting(need=100, want=100))
        assert (answer.account, answer.begin, answer.granted) == (a_budget().account, BEGIN, 100)
        assert answer.standing == Standing(
            cap=Nanodollars(1_000), spent=ZERO, leased=Nanodollars(100), lost=ZERO, overrun=ZERO
        )
        assert answer.expires_in_s > 0

    async def test_nothing_wanted_is_nothing_granted(self, at_hand: BudgetBookAtHand) -> None:
        assert await at_hand.book.lease([], holder=HERE) == ()
        assert await at_hand.book.standings([]) == ()
        assert await at_hand.book.standings([wanting()]) == (None,)

    async def test_answers_come_in_the_order_of_what_was_wanted(self, at_hand: BudgetBookAtHand) -> None:
        budgets = [a_budget(name, amount=amount) for name, amount in (("z", 900), ("a", 100), ("m", 500))]
        wanted = [wanting(budget, need=budget.amount // 10) for budget in budgets]
        answers = await at_hand.book.lease(wanted, holder=HERE)
        assert [(answer.account, answer.granted) for answer in answers] == [
            (budget.account, budget.amount // 10) for budget in budgets
        ]
        standings = await at_hand.book.standings([*wanted, wanting(a_budget("nobody's"))])
        assert [standing and standing.cap for standing in standings] == [900, 100, 500, None]

    async def test_the_same_budget_wanted_twice_in_one_call_is_granted_twice(self, at_hand: BudgetBookAtHand) -> None:
        answers = await at_hand.book.lease([wanting(need=100), wanting(need=50)], holder=HERE)
        assert [answer.granted for answer in answers] == [100, 150]
        assert await at_hand.stands(wanting()) == (0, 150, 0, 0)

    async def test_processes_share_one_budget_and_none_is_granted_beyond_it(self, at_hand: BudgetBookAtHand) -> None:
        assert (await at_hand.take(wanting(need=600))).granted == 600
        refused = await at_hand.take(wanting(need=401), holder=THERE)
        assert (refused.granted, refused.standing.room) == (0, 400)
        assert (await at_hand.take(wanting(need=400), holder=THERE)).granted == 400

    async def test_what_is_given_back_can_be_granted_again_and_counts_once(self, at_hand: BudgetBookAtHand) -> None:
        await at_hand.take(wanting(need=1_000))
        for _ in range(2):
            assert (await at_hand.take(wanting(returned=300))).standing.leased == 700
        assert (await at_hand.take(wanting(need=300), holder=THERE)).granted == 300
        assert (await at_hand.take(wanting(returned=10_000))).standing.leased == 300

    async def test_a_receipt_settles_its_hold_once_however_often_it_is_sent(self, at_hand: BudgetBookAtHand) -> None:
        await at_hand.take(wanting(need=100))
        receipt = told(1, 30, (a_budget(), HERE, 50))
        assert [await at_hand.settle(receipt, receipt) for _ in range(3)] == [1, 0, 0]
        assert await at_hand.stands(wanting()) == (30, 70, 0, 0)

    async def test_a_hold_that_stands_twice_on_a_receipt_charges_it_once(self, at_hand: BudgetBookAtHand) -> None:
        await at_hand.take(wanting(need=100))
        await at_hand.settle(told(1, 30, (a_budget(), HERE, 20), (a_budget(), HERE, 5)))
        assert await at_hand.stands(wanting()) == (30, 70, 0, 5)

    async def test_a_receipt_beyond_its_hold_is_spent_and_told_as_overrun(self, at_hand: BudgetBookAtHand) -> None:
        await at_hand.take(wanting(need=50))
        await at_hand.settle(told(1, 70, (a_budget(), HERE, 50)), told(2, 10))
        assert await at_hand.stands(wanting()) == (80, 0, 0, 20)

    async def test_a_receipt_moves_every_budget_it_is_of_and_no_other(self, at_hand: BudgetBookAtHand) -> None:
        scopes: list[tuple[dict[str, str], int]] = [
            ({}, 1_111),
            ({"team": "red"}, 11),
            ({"cost_centre": "x"}, 101),
            ({"key": "k2"}, 10),
            ({"model": "embed"}, 100),
            ({"tag": "batch"}, 1_001),
            ({"tag": "night", "team": "red"}, 10),
            ({"team": "red", "cost_centre": "x", "key": "k1", "model": "chat", "tag": "batch"}, 1),
            ({"team": "nobody"}, 0),
        ]
        early, late = (
            told(1, 1, team="red", cost_centre="x", key_id="k1", tags=("batch", "day")),
            [
                told(2, 10, team="red", cost_centre="y", key_id="k2", tags=("night",)),
                told(3, 100, team="blue", cost_centre="x", key_id="k1", model="embed"),
                told(4, 1_000, team="blue", cost_centre="y", key_id="k1", tags=("batch",)),
            ],
        )
        wanted = [wanting(a_budget(f"b{place}", **of)) for place, (of, _) in enumerate(scopes)]
        await at_hand.settle(early)
        await at_hand.book.lease(wanted[::2], holder=HERE)
        await at_hand.settle(*late)
        await at_hand.book.lease(wanted[1::2], holder=HERE)
        for one, (of, spent) in zip(wanted, scopes, strict=True):
            assert await at_hand.stands(one) == (spent, 0, 0, 0), of

    async def test_a_receipt_counts_in_the_period_of_its_own_time_whenever_it_is_booked(
        self, at_hand: BudgetBookAtHand
    ) -> None:
        today, tomorrow = wanting(need=10), wanting(need=10, begin=END, end=END + timedelta(days=1))
        for one in (today, tomorrow):
            await at_hand.take(one)
        budget = a_budget()
        await at_hand.settle(
            told(1, 1, (budget, HERE, 4), at=BEGIN - STEP),
            told(2, 2, (budget, HERE, 4), at=BEGIN),
            told(3, 3, (budget, HERE, 4), at=END - STEP),
            told(4, 4, (budget, HERE, 4), at=END),
        )
        assert await at_hand.stands(today) == (5, 5, 0, 0)
        assert await at_hand.stands(tomorrow) == (4, 6, 0, 0)

    @pytest.mark.parametrize("of", [{}, {"key": "abcdefgh"}, {"tag": "batch"}], ids=["all", "a key", "a tag"])
    async def test_an_account_opened_late_knows_what_was_spent_before(
        self, at_hand: BudgetBookAtHand, of: dict[str, str]
    ) -> None:
        await at_hand.settle(
            told(1, 1, at=BEGIN - STEP, tags=("batch",)),
            told(2, 20, at=BEGIN, tags=("batch",)),
            told(3, 300, (a_budget(), HERE, 1), at=END - STEP, tags=("batch",)),
        )
        late = wanting(a_budget(**of), need=681)
        assert (await at_hand.take(late)).granted == 0
        assert await at_hand.stands(late) == (320, 0, 0, 0)
        assert (await at_hand.take(replace(late, need=Nanodollars(680)))).granted == 680

    async def test_copies_for_shadows_are_spent_too(self, at_hand: BudgetBookAtHand) -> None:
        await at_hand.take(wanting(need=10))
        answer = told(1, 1)
        await at_hand.settle(answer, replace(told(2, 3, (a_budget(), HERE, 5)), shadow_of=answer.request_id))
        assert await at_hand.stands(wanting()) == (4, 7, 0, 0)

    async def test_a_correction_moves_the_budgets_of_the_receipt_that_it_corrects(
        self, at_hand: BudgetBookAtHand
    ) -> None:
        mine, tagged, another = wanting(), wanting(a_budget("t", tag="batch")), wanting(a_budget("o", team="blue"))
        tomorrow = wanting(begin=END, end=END + timedelta(days=1))
        await at_hand.book.lease([mine, tagged, another, tomorrow], holder=HERE)
        receipt = told(1, 50, tags=("batch",))
        await at_hand.settle(receipt)
        await at_hand.adjust(receipt, -20)
        await at_hand.adjust(receipt, 3)
        for one, spent in ((mine, 33), (tagged, 33), (another, 0), (tomorrow, 0)):
            assert await at_hand.stands(one) == (spent, 0, 0, 0)

    async def test_another_amount_is_in_force_with_the_next_call_and_the_account_stays(
        self, at_hand: BudgetBookAtHand
    ) -> None:
        await at_hand.take(wanting(need=500))
        await at_hand.settle(told(1, 500, (a_budget(), HERE, 500)))
        lowered = await at_hand.take(wanting(a_budget(amount=400), need=1))
        assert (lowered.granted, lowered.standing.cap, lowered.standing.spent, lowered.standing.room) == (
            500,
            400,
            500,
            0,
        )
        assert (await at_hand.take(wanting(a_budget(amount=600), need=100))).granted == 600

    async def test_a_lease_that_is_not_renewed_is_lost_and_found_again_when_its_holder_turns_up(
        self, at_hand: BudgetBookAtHand
    ) -> None:
        await at_hand.take(wanting(need=100))
        assert await at_hand.book.sweep() == 0
        await at_hand.let_lapse()
        assert [await at_hand.book.sweep() for _ in range(2)] == [1, 0]
        assert await at_hand.stands(wanting()) == (0, 0, 100, 0)
        assert (await at_hand.take(wanting(need=901), holder=THERE)).granted == 0
        assert (await at_hand.take(wanting())).standing.leased == 100
        assert await at_hand.book.sweep() == 0

    async def test_a_lost_lease_still_settles_what_was_held_from_it(self, at_hand: BudgetBookAtHand) -> None:
        await at_hand.take(wanting(need=100))
        await at_hand.let_lapse()
        await at_hand.book.sweep()
        await at_hand.settle(told(1, 30, (a_budget(), HERE, 50)))
        assert await at_hand.stands(wanting()) == (30, 0, 70, 0)

    async def test_a_lease_that_keeps_nothing_is_closed_by_the_sweep_and_opens_again(
        self, at_hand: BudgetBookAtHand
    ) -> None:
        await at_hand.take(wanting(need=100))
        await at_hand.take(wanting(returned=100))
        await at_hand.let_lapse()
        assert [await at_hand.book.sweep() for _ in range(2)] == [1, 0]
        assert await at_hand.stands(wanting()) == (0, 0, 0, 0)
        assert (await at_hand.take(wanting(need=5, returned=100))).standing.leased == 5

    async def test_a_process_that_is_gone_frees_what_it_kept_in_every_budget(self, at_hand: BudgetBookAtHand) -> None:
        second = wanting(a_budget("second"), need=7)
        await at_hand.book.lease([wanting(need=100), second], holder=HERE)
        await at_hand.take(wanting(need=1), holder=THERE)
        await at_hand.settle(told(1, 30, (a_budget(), HERE, 50)))
        await at_hand.let_lapse()
        await at_hand.book.sweep()
        assert [await at_hand.book.close(HERE) for _ in range(2)] == [2, 0]
        assert await at_hand.book.close("never heard of") == 0
        assert await at_hand.stands(wanting()) == (30, 0, 1, 0)
        assert await at_hand.stands(second) == (30, 0, 0, 0)

    async def test_a_call_that_arrives_after_its_process_was_closed_takes_nothing_and_changes_nothing(
        self, at_hand: BudgetBookAtHand
    ) -> None:
        await at_hand.take(wanting(need=100))
        await at_hand.book.close(HERE)
        new = wanting(a_budget("new", amount=50), need=10)
        late = await at_hand.book.lease([wanting(a_budget(amount=5), need=1, returned=3), new], holder=HERE)
        assert [(answer.granted, answer.standing.cap) for answer in late] == [(100, 1_000), (0, 50)]
        assert await at_hand.stands(wanting()) == (0, 0, 0, 0)
        assert await at_hand.stands(new) == (0, 0, 0, 0)
        assert (await at_hand.take(wanting(need=1_000), holder=THERE)).granted == 1_000

    async def test_a_receipt_that_comes_after_its_lease_was_closed_is_spent(self, at_hand: BudgetBookAtHand) -> None:
        await at_hand.take(wanting(need=100))
        await at_hand.book.close(HERE)
        await at_hand.settle(told(1, 30, (a_budget(), HERE, 50)))
        assert await at_hand.stands(wanting()) == (30, 0, 0, 0)

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(
        self, at_hand: BudgetBookAtHand
    ) -> None:
        await at_hand.take(wanting(need=100))
        await at_hand.take_away()
        for call in (
            at_hand.book.lease([wanting()], holder=HERE),
            at_hand.book.sweep(),
            at_hand.book.close(HERE),
            at_hand.book.standings([wanting()]),
        ):
            with pytest.raises(BooksAway):
                await call
        await at_hand.bring_back()
        assert (await at_hand.take(wanting())).granted == 100
