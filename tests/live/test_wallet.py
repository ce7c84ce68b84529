"""`app.live.wallet`: what a process spends of its leases, in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.budget import Budget, Every, Mode, period
from app.domain.ledger.account import Account
from app.domain.ledger.hold import Hold
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy
from app.live.wallet import IDLE_S, Short, Wallet, grown
from app.ports.ledger import LeaseGranted, LeaseWanted
from tests.makers import NOON, a_caller, a_policy, a_receipt, some_facts

TEAM = Budget(name="team", amount=Nanodollars(1_000), every=Every.DAY, team="research")
ALL = Budget(name="all", amount=Nanodollars(5_000), every=Every.MONTH)
NOON_US = int(NOON.timestamp()) * 1_000_000


def with_budgets(*budgets: Budget) -> Policy:
    return replace(a_policy(), budgets={budget.name: budget for budget in budgets})


class Books:
    """The accounts, told everything at once."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, object], Account] = {}

    def round(self, wallet: Wallet, policy: Policy, *, now_s: float = 0.0, leaving: bool = False) -> list[LeaseWanted]:
        wanted = wallet.wanted(policy, at=NOON, now_s=now_s, leaving=leaving)
        wallet.told(wanted, [self._answer(one, wallet.holder) for one in wanted], now_s=now_s)
        return wanted

    def _answer(self, one: LeaseWanted, holder: str) -> LeaseGranted:
        account = self.accounts.setdefault((one.budget.account, one.begin), Account(cap=one.budget.amount))
        lease = account.take(
            holder, cap=one.budget.amount, need=one.need, want=one.want, returned=one.returned, now_us=0, ttl_us=60
        )
        return LeaseGranted(
            account=one.budget.account,
            begin=one.begin,
            granted=Nanodollars(lease.granted),
            standing=account.standing(),
            expires_in_s=60.0,
        )

    def of(self, budget: Budget) -> Account:
        begin, _ = period(budget.every, at=NOON)
        return self.accounts[budget.account, begin]


def needs(amount: int, *budgets: Budget) -> list[tuple[Budget, Nanodollars]]:
    return [(budget, Nanodollars(amount)) for budget in budgets or (TEAM,)]


def held(wallet: Wallet, books: Books, amount: int, *budgets: Budget) -> tuple[Hold, ...] | Short:
    """As the flow does it: from memory, and once more after the books were asked."""
    wished, policy = needs(amount, *budgets), with_budgets(*(budgets or (TEAM,)))
    found = wallet.hold(wished, at=NOON, now_s=0.0)
    if isinstance(found, Short):
        done = wallet.wait_for(wished, at=NOON)
        books.round(wallet, policy)
        done()
        found = wallet.hold(wished, at=NOON, now_s=0.0)
    return found


def receipt_of(holds: tuple[Hold, ...], charge: int) -> Receipt:
    receipt = a_receipt(at_us=NOON_US, holds=holds)
    (attempt,) = receipt.attempts
    return replace(receipt, attempts=(replace(attempt, charge=Nanodollars(charge)),))


def test_without_a_lease_there_is_no_room_and_nothing_is_known() -> None:
    found = Wallet(holder="a").hold(needs(1), at=NOON, now_s=0.0)
    assert isinstance(found, Short)
    assert (found.budget, found.needed, found.standing, found.is_hopeless) == (TEAM, 1, None, False)


def test_after_the_books_were_asked_the_next_holds_come_from_memory() -> None:
    wallet, books = Wallet(holder="a"), Books()
    assert held(wallet, books, 10) == (Hold(account=TEAM.account, holder="a", amount=Nanodollars(10)),)
    books.round(wallet, with_budgets(TEAM))
    for _ in range(5):
        assert not isinstance(wallet.hold(needs(10), at=NOON, now_s=0.0), Short)


def test_all_budgets_hold_or_none_does() -> None:
    wallet, books = Wallet(holder="a"), Books()
    assert not isinstance(held(wallet, books, 900, ALL, TEAM), Short)
    short = held(wallet, books, 200, ALL, TEAM)
    assert isinstance(short, Short)
    assert short.budget is TEAM
    assert books.of(ALL).standing().spent == 0
    # What was left of the large one is still there for others.
    assert not isinstance(held(wallet, books, 4_000, ALL), Short)


def test_what_a_receipt_cost_is_gone_and_the_rest_of_its_hold_is_free() -> None:
    wallet, books = Wallet(holder="a"), Books()
    first = held(wallet, books, 1_000)
    assert not isinstance(first, Short)
    assert isinstance(held(wallet, books, 700), Short)
    wallet.settled(receipt_of(first, 300))
    assert not isinstance(held(wallet, books, 700), Short)
    assert isinstance(held(wallet, books, 1), Short)


def test_a_hold_that_was_never_dispatched_is_free_again() -> None:
    wallet, books = Wallet(holder="a"), Books()
    first = held(wallet, books, 1_000)
    assert not isinstance(first, Short)
    wallet.release(first, at_us=NOON_US)
    assert not isinstance(held(wallet, books, 1_000), Short)


def test_more_than_the_whole_budget_is_hopeless_and_more_than_is_free_now_is_not() -> None:
    wallet, books = Wallet(holder="a"), Books()
    held(wallet, books, 600)
    for amount, hopeless in ((600, False), (1_001, True)):
        short = held(wallet, books, amount)
        assert isinstance(short, Short)
        assert short.is_hopeless is hopeless


def test_room_that_nobody_uses_goes_back() -> None:
    wallet, books, policy = Wallet(holder="a"), Books(), with_budgets(TEAM)
    first = held(wallet, books, 100)
    books.round(wallet, policy)
    assert not isinstance(first, Short)
    wallet.settled(receipt_of(first, 40))
    books.round(wallet, policy, now_s=IDLE_S)
    assert books.of(TEAM).standing().leased == 40  # the receipt is not booked yet
    assert books.round(wallet, policy, now_s=IDLE_S + 1) == []


def test_at_the_end_all_but_what_is_held_goes_back() -> None:
    wallet, books, policy = Wallet(holder="a"), Books(), with_budgets(TEAM)
    held(wallet, books, 100)
    books.round(wallet, policy)
    books.round(wallet, policy, leaving=True)
    assert books.of(TEAM).standing().leased == 100


def test_a_lowered_amount_is_told_at_once_and_free_room_goes_back() -> None:
    wallet, books = Wallet(holder="a"), Books()
    held(wallet, books, 100)
    books.round(wallet, with_budgets(TEAM))
    lowered = replace(TEAM, amount=Nanodollars(50))
    books.round(wallet, with_budgets(lowered))
    standing = books.of(TEAM).standing()
    assert (standing.cap, standing.leased) == (50, 100)


def test_leases_are_renewed_in_time_while_something_is_held() -> None:
    wallet, books, policy = Wallet(holder="a"), Books(), with_budgets(TEAM)
    held(wallet, books, 10)
    books.round(wallet, policy)
    assert books.round(wallet, policy, now_s=1.0) == []
    books.round(wallet, policy, now_s=10.0)  # what is idle goes back
    assert books.round(wallet, policy, now_s=11.0) == []
    (renewal,) = books.round(wallet, policy, now_s=31.0)
    assert (renewal.need, renewal.want) == (0, 0)


def test_a_request_settles_in_its_own_period() -> None:
    wallet, books = Wallet(holder="a"), Books()
    first = held(wallet, books, 100)
    assert not isinstance(first, Short)
    tomorrow = wallet.hold(needs(1), at=NOON + timedelta(days=1), now_s=0.0)
    assert isinstance(tomorrow, Short)
    wallet.settled(receipt_of(first, 40))
    wallet.wanted(with_budgets(TEAM), at=NOON + timedelta(days=1), now_s=0.0)
    (going,) = [
        one for one in wallet.wanted(with_budgets(TEAM), at=NOON + timedelta(days=1), now_s=0.0) if one.returned
    ]
    assert going.begin == period(TEAM.every, at=NOON)[0]


def test_budgets_that_are_only_watched_and_those_of_others_hold_nothing() -> None:
    watched = replace(ALL, mode=Mode.WATCH)
    policy, wallet = with_budgets(TEAM, watched), Wallet(holder="a")
    assert wallet.budgets_of(some_facts(), policy) == (TEAM,)
    assert wallet.budgets_of(some_facts(caller=a_caller(key_id="other", team="sales")), policy) == ()


def test_a_budget_taken_out_of_the_policy_and_put_back_gives_no_second_time_what_went_back_or_was_used() -> None:
    wallet, books, spent = Wallet(holder="a"), Books(), 0
    for _ in range(6):
        found = held(wallet, books, 400)
        if not isinstance(found, Short):
            wallet.settled(receipt_of(found, 400))
            books.of(TEAM).settle(charge=400, holder="a", held=400)
            spent += 400
        for _ in range(3):
            books.round(wallet, with_budgets())
    assert spent == 800


def test_a_late_request_of_a_period_that_is_over_gets_no_second_lease() -> None:
    wallet, books = Wallet(holder="a"), Books()
    first = held(wallet, books, 1_000)
    assert not isinstance(first, Short)
    wallet.settled(receipt_of(first, 1_000))
    books.of(TEAM).settle(charge=1_000, holder="a", held=1_000)
    for hours in (13, 14, 36):
        wanted = wallet.wanted(with_budgets(TEAM), at=NOON + timedelta(hours=hours), now_s=0.0)
        wallet.told(wanted, [books._answer(one, "a") for one in wanted], now_s=0.0)
    assert isinstance(held(wallet, books, 1), Short)


def test_a_further_attempt_grows_the_hold_it_adds_to() -> None:
    one = Hold(account="a", holder="h", amount=Nanodollars(5))
    assert grown((one,), (replace(one, amount=Nanodollars(7)),)) == (replace(one, amount=Nanodollars(12)),)
    assert grown((), (one,)) == (one,)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 400), st.integers(0, 100)), max_size=40))
def test_two_processes_never_spend_more_than_there_is(steps: list[tuple[str, int, int]]) -> None:
    books, wallets = Books(), {name: Wallet(holder=name) for name in "ab"}
    open_holds: list[tuple[str, tuple[Hold, ...], int]] = []
    spent = 0
    for name, amount, part in steps:
        if part < 40 and open_holds:
            who, holds, most = open_holds.pop()
            charge = most * part // 100
            wallets[who].settled(receipt_of(holds, charge))
            books.of(TEAM).settle(charge=charge, holder=who, held=most)
            spent += charge
            continue
        found = held(wallets[name], books, amount)
        if not isinstance(found, Short):
            open_holds.append((name, found, amount))
        if part > 90:
            books.round(wallets[name], with_budgets(TEAM), now_s=100.0)
        standing = books.of(TEAM).standing()
        assert spent + sum(most for _, _, most in open_holds) <= TEAM.amount
        assert standing.spent + standing.leased + standing.lost <= TEAM.amount
