"""`app.domain.ledger.account` and `app.domain.ledger.hold`: nothing is granted twice, whatever is sent when."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.domain.ledger.account import SHARE_OF_ROOM, Account, Lease, LeaseState, granted
from app.domain.ledger.hold import Hold
from app.domain.money import Nanodollars

TTL_US = 1_000
money = st.integers(0, 200)


def an_account(cap: int = 1_000, *, spent: int = 0) -> Account:
    return Account(cap=Nanodollars(cap), spent=Nanodollars(spent))


def take(
    account: Account, holder: str, *, need: int = 0, want: int = 0, returned: int = 0, now_us: int = 0, cap: int = 1_000
) -> Lease:
    return account.take(
        holder, cap=Nanodollars(cap), need=need, want=want, returned=returned, now_us=now_us, ttl_us=TTL_US
    )


def test_a_need_within_the_room_is_granted_whole_and_one_beyond_it_not_at_all() -> None:
    account = an_account()
    assert take(account, "a", need=600).granted == 600
    assert take(account, "b", need=401).granted == 0
    assert take(account, "b", need=400).granted == 400
    assert account.standing().room == 0


def test_a_wish_beyond_the_need_takes_an_eighth_of_the_room_and_so_ever_less() -> None:
    account, sizes, before = an_account(), [], 0
    for _ in range(60):
        lease = take(account, "a", want=1_000)
        sizes.append(lease.granted - before)
        before = lease.granted
    assert sizes[0] == 1_000 // SHARE_OF_ROOM
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < account.standing().room < SHARE_OF_ROOM


@pytest.mark.parametrize(
    ("need", "want", "room", "given_"),
    [(0, 0, 100, 0), (0, 100, 7, 0), (0, 3, 100, 3), (50, 10, 100, 50), (5, 99, 80, 10), (1, 1, 0, 0), (0, 9, 0, 0)],
)
def test_what_is_granted_of_a_room(need: int, want: int, room: int, given_: int) -> None:
    assert granted(need=need, want=want, room=room) == given_


@given(need=money, want=money, room=money)
def test_a_grant_is_nothing_or_the_need_at_least_and_never_beyond_the_room(need: int, want: int, room: int) -> None:
    amount = granted(need=need, want=want, room=room)
    assert amount == 0 or need <= amount <= max(need, want)
    assert amount <= room
    assert amount == 0 if need > room else amount >= need


def test_what_is_told_as_returned_counts_once_however_often_and_late_it_is_told() -> None:
    account = an_account()
    take(account, "a", need=100)
    for returned in (60, 60, 20, 60):
        assert take(account, "a", returned=returned).kept == 40
    assert take(account, "a", returned=10_000).kept == 0


def test_a_grant_whose_answer_got_lost_shows_in_the_next_total() -> None:
    account = an_account()
    take(account, "a", need=100)
    assert take(account, "a", need=100).granted == 200
    assert account.standing().leased == 200


def test_a_receipt_spends_what_was_held_and_the_rest_stays_with_the_holder() -> None:
    account = an_account()
    take(account, "a", need=100)
    account.settle(charge=30, holder="a", held=50)
    standing = account.standing()
    assert (standing.spent, standing.leased, standing.overrun, standing.room) == (30, 70, 0, 900)


def test_what_a_receipt_costs_beyond_its_hold_is_overrun_and_spent_all_the_same() -> None:
    account = an_account()
    take(account, "a", need=40)
    account.settle(charge=70, holder="a", held=40)
    standing = account.standing()
    assert (standing.spent, standing.leased, standing.overrun) == (70, 0, 30)


def test_a_receipt_that_held_nothing_is_spent_and_one_of_an_unknown_holder_overruns_no_lease() -> None:
    account = an_account()
    account.settle(charge=5, holder=None, held=0)
    account.settle(charge=5, holder="nobody", held=3)
    assert (account.standing().spent, account.standing().overrun, account.leases) == (10, 2, {})


def test_a_correction_may_give_money_back_and_touches_no_lease() -> None:
    account = an_account(spent=100)
    take(account, "a", need=100)
    account.adjust(-40)
    assert (account.standing().spent, account.standing().leased) == (60, 100)


def test_a_lease_that_is_not_renewed_in_time_counts_as_spent_until_its_holder_turns_up() -> None:
    account = an_account()
    take(account, "a", need=100, now_us=0)
    assert account.expire(now_us=TTL_US - 1) == []
    assert [lease.holder for lease in account.expire(now_us=TTL_US)] == ["a"]
    assert account.expire(now_us=TTL_US) == []
    standing = account.standing()
    assert (standing.leased, standing.lost, standing.room) == (0, 100, 900)
    assert take(account, "b", need=901).granted == 0
    take(account, "a", now_us=TTL_US)
    assert (account.standing().leased, account.standing().lost) == (100, 0)


def test_a_lease_that_keeps_nothing_is_closed_by_the_sweep_and_its_holder_may_come_back() -> None:
    account = an_account()
    take(account, "a", need=100)
    take(account, "a", returned=100)
    assert [lease.state for lease in account.expire(now_us=TTL_US)] == [LeaseState.CLOSED]
    assert take(account, "a", need=10, returned=100, now_us=TTL_US).state is LeaseState.OPEN
    assert account.standing().leased == 10


def test_a_receipt_of_a_lost_lease_still_settles_from_it() -> None:
    account = an_account()
    take(account, "a", need=100)
    account.expire(now_us=TTL_US)
    account.settle(charge=30, holder="a", held=50)
    assert (account.standing().spent, account.standing().lost) == (30, 70)


def test_a_closed_holder_frees_what_it_kept_and_what_it_asked_for_before_grants_nothing() -> None:
    account = an_account()
    take(account, "a", need=100)
    account.settle(charge=30, holder="a", held=30)
    for _ in range(2):
        account.close("a")
        assert (account.standing().spent, account.standing().room) == (30, 970)
    late = take(account, "a", need=50, want=50, cap=5)
    assert (late.granted, late.state, account.cap) == (100, LeaseState.CLOSED, 1_000)
    account.close("never seen")
    assert take(account, "never seen", need=50).granted == 0
    assert set(account.leases) == {"a"}


def test_a_budget_lowered_below_what_is_spent_grants_nothing_and_raised_again_grants_the_rest() -> None:
    account = an_account()
    take(account, "a", need=500)
    account.settle(charge=500, holder="a", held=500)
    assert take(account, "a", need=1, cap=400).granted == 500
    assert account.standing().room == 0
    assert take(account, "a", need=100, cap=600).granted == 600


def test_a_hold_says_whose_money_and_who_held_it() -> None:
    hold = Hold(account="b:day/////", holder="1-2-3", amount=Nanodollars(5))
    assert (hold.account, hold.holder, hold.amount) == ("b:day/////", "1-2-3", 5)


@dataclass(slots=True)
class Process:
    """An honest one: it holds only from what it knows it has, and says what it gave back as a total."""

    known: int = 0
    returned: int = 0
    gone: bool = False
    #: Charges of settled receipts, whether booked yet or not.
    charged: int = 0
    held: list[int] = field(default_factory=list)
    unbooked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def free(self) -> int:
        return self.known - self.returned - self.charged - sum(self.held)


class HonestProcesses(RuleBasedStateMachine):
    """Three processes with calls that get lost, are repeated and come late: nothing is ever overspent."""

    def __init__(self) -> None:
        super().__init__()
        self.cap = 1_000
        self.account = an_account(self.cap)
        self.processes = {name: Process() for name in "abc"}
        self.now_us = 0
        self.late: list[tuple[str, int, int, int]] = []
        self.booked: list[int] = []

    names = st.sampled_from("abc")

    @rule(name=names, need=money, want=money, answered=st.booleans())
    def refill(self, name: str, need: int, want: int, answered: bool) -> None:
        process = self.processes[name]
        if process.gone:
            return
        self.late.append((name, need, want, process.returned))
        self._take(name, need, want, process.returned)
        if answered:
            process.known = self.account.leases[name].granted

    @precondition(lambda self: self.late)
    @rule(chance=st.randoms(use_true_random=False))
    def a_late_copy_arrives(self, chance: object) -> None:
        self._take(*chance.choice(self.late))  # type: ignore[attr-defined]

    def _take(self, name: str, need: int, want: int, returned: int) -> None:
        before = self.account.standing()
        take(self.account, name, need=need, want=want, returned=returned, now_us=self.now_us, cap=self.cap)
        after = self.account.standing()
        if after.leased + after.lost > before.leased + before.lost:
            assert after.spent + after.leased + after.lost <= after.cap

    @rule(name=names, amount=money)
    def hold(self, name: str, amount: int) -> None:
        process = self.processes[name]
        if not process.gone and amount <= process.free:
            process.held.append(amount)

    @rule(name=names, part=st.integers(0, 100))
    def settle(self, name: str, part: int) -> None:
        process = self.processes[name]
        if process.held:
            held = process.held.pop()
            process.charged += held * part // 100
            process.unbooked.append((held * part // 100, held))

    @rule(name=names)
    def book(self, name: str) -> None:
        process = self.processes[name]
        if process.unbooked:
            charge, held = process.unbooked.pop(0)
            self.account.settle(charge=charge, holder=name, held=held)
            self.booked.append(charge)

    @rule(name=names, amount=money)
    def give_back(self, name: str, amount: int) -> None:
        process = self.processes[name]
        process.returned += min(amount, max(process.free, 0))

    @rule(later_us=st.integers(0, TTL_US))
    def time_passes(self, later_us: int) -> None:
        self.now_us += later_us
        self.account.expire(now_us=self.now_us)

    @rule(name=names)
    def dies_and_is_adopted(self, name: str) -> None:
        process = self.processes[name]
        process.gone = True
        while process.held:
            self.settle(name, 100)
        while process.unbooked:
            self.book(name)
        self.account.close(name)

    @invariant()
    def the_books_are_right(self) -> None:
        standing = self.account.standing()
        assert standing.spent == sum(self.booked)
        assert standing.overrun == 0
        assert standing.spent + standing.leased + standing.lost <= self.cap
        leases = self.account.leases.values()
        assert standing.leased == sum(lease.kept for lease in leases if lease.state is LeaseState.OPEN)
        assert standing.lost == sum(lease.kept for lease in leases if lease.state is LeaseState.LOST)
        assert all(lease.kept >= 0 for lease in leases)

    @invariant()
    def nobody_can_spend_what_is_not_kept_for_it(self) -> None:
        for name, process in self.processes.items():
            lease = self.account.leases.get(name)
            if lease is not None and not process.gone:
                assert lease.kept >= process.free + sum(process.held) + sum(charge for charge, _ in process.unbooked)
            if process.gone and lease is not None:
                assert (lease.kept, lease.state) == (0, LeaseState.CLOSED)


TestHonestProcesses = HonestProcesses.TestCase
