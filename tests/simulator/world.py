"""A gateway of several processes in one thread, driven by a seed: money, messages and crashes, without I/O.

The machines are the product's own: each replica has a `Wallet`, the database an `Account` for each budget and period.
Around them everything is made of chance: when a message arrives and whether it does, twice or late; who crashes, with
its spool or without; when Postgres is away; how far clocks jump. After every step the books must hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from app.domain.budget import Budget, Every, Mode, period
from app.domain.ledger.account import Account, LeaseState
from app.domain.ledger.hold import Hold
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy
from app.live.wallet import Short, Wallet
from app.ports.ledger import LeaseGranted, LeaseWanted
from tests.makers import a_policy, a_receipt, an_attempt

BUDGETS = (
    Budget(name="team", amount=Nanodollars(1_500), every=Every.DAY, team="research", mode=Mode.HARD),
    Budget(name="all", amount=Nanodollars(3_000), every=Every.MONTH, mode=Mode.HARD),
)
NEEDS_MOST = 400
LEASE_S = 10.0
START = datetime(2026, 11, 29, 20, 0, tzinfo=UTC)
REPLICAS_MOST = 5


class Broken(AssertionError):
    """An invariant does not hold; the sentence says which."""


@dataclass(slots=True)
class Spool:
    """What a replica wrote: intents without a receipt, and receipts that are not known to be booked."""

    home: str
    intents: dict[str, Receipt] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)


@dataclass(slots=True)
class Replica:
    """One process."""

    wallet: Wallet
    spool: Spool
    #: Requests under way: what the upstream will bill for each.
    running: dict[str, int] = field(default_factory=dict)


class Message(NamedTuple):
    """Something on its way. `due_s` is when it arrives."""

    due_s: float
    number: int
    deliver: Callable[[], None]


MakeAccount = Callable[[Nanodollars], Account]


class World:
    """One run. `step` does one thing that chance picks; `settle_down` lets everything arrive and every orphan be
    adopted."""

    def __init__(self, seed: int, *, make_account: MakeAccount | None = None, books_twice: bool = False) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.at = START
        self.policy: Policy = replace(a_policy(), budgets={budget.name: budget for budget in BUDGETS})
        self._make_account: MakeAccount = make_account or (lambda cap: Account(cap=cap))
        self._books_twice = books_twice
        self.accounts: dict[tuple[str, datetime], Account] = {}
        self.booked: dict[str, Receipt] = {}
        #: The upstream's own log: what it bills, by request. A request that was never dispatched is not there.
        self.oracle: dict[str, int] = {}
        self.messages: list[Message] = []
        self.is_away = False
        self._numbers = iter(range(10**9))
        self.replicas = [self._replica() for _ in range(self.random.randint(1, REPLICAS_MOST))]
        self.orphans: list[Spool] = []
        #: Requests whose only record went with a disk.
        self.gone_with_a_disk: set[str] = set()

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self) -> None:
        """Chance picks one thing; then time goes on a little, and what is due arrives."""
        replica = self.random.choice(self.replicas)
        self.random.choices(
            (
                lambda: self._asked(replica),
                lambda: self._answered(replica),
                lambda: self._told(replica),
                lambda: self._shipped(replica.spool),
                lambda: self._crashed(replica),
                self._adopted,
                self._swept,
                self._jumped,
                self._edited,
                self._went_away_or_came_back,
            ),
            weights=(36, 20, 20, 10, 2, 1, 4, 0.1, 0.5, 0.5),
        )[0]()
        self._pass(self.random.expovariate(0.7))
        self.check()

    def settle_down(self) -> None:
        """Nothing more is asked: everything under way ends, is booked, and every lease goes back."""
        self.is_away = False
        for replica in self.replicas:
            while replica.running:
                self._answered(replica)
        self._pass(1_000.0)
        for replica in list(self.replicas):
            while replica.spool.receipts:
                self._shipped(replica.spool)
                self._pass(100.0)
            self._crashed(replica, keeps_spool=True)
        while self.orphans:
            self._adopted()
            self._pass(100.0)
        self.check()

    # ── one thing each ───────────────────────────────────────────────────────────────────────────────────────────────

    def _asked(self, replica: Replica) -> None:
        amount = Nanodollars(self.random.randint(1, NEEDS_MOST))
        spends_of = tuple(self.policy.budgets.values()) if self.random.random() < 0.7 else BUDGETS[1:]
        needs = [(budget, amount) for budget in spends_of]
        holds = replica.wallet.hold(needs, at=self.at, now_s=self.now_s)
        if isinstance(holds, Short):
            done = replica.wallet.wait_for(needs, at=self.at)
            self._told(replica)
            done()
            return
        request_id = f"{next(self._numbers)}"
        guess = self.random.randint(amount // 2, amount)
        intent = self._receipt(request_id, holds, charge=guess, outcome=Outcome.INTERRUPTED)
        if self.random.random() < 0.01:  # the disk is full: nothing is dispatched
            replica.wallet.release(holds, at_us=intent.at_us)
            return
        replica.spool.intents[request_id] = intent
        replica.running[request_id] = self.oracle[request_id] = self.random.randint(amount // 2, amount)

    def _answered(self, replica: Replica) -> None:
        if not replica.running:
            return
        request_id = self.random.choice(list(replica.running))
        charge = replica.running.pop(request_id)
        intent = replica.spool.intents.pop(request_id)
        receipt = self._with_charge(intent, charge, Outcome.COMPLETE)
        replica.spool.receipts[request_id] = receipt
        replica.wallet.settled(receipt)

    def _told(self, replica: Replica) -> None:
        """One call to the books, each way of which may be lost, late, or doubled."""
        wanted = replica.wallet.wanted(self.policy, at=self.at, now_s=self.now_s)
        if not wanted:
            return
        sent_s = self.now_s

        def arrive() -> None:
            if self.is_away:
                return
            answers = [self._lease(one, replica.wallet.holder) for one in wanted]
            self._send(lambda: replica.wallet.told(wanted, answers, now_s=sent_s))

        self._send(arrive)

    def _lease(self, one: LeaseWanted, holder: str) -> LeaseGranted:
        account = self._account(one.budget, one.begin)
        lease = account.take(
            holder,
            cap=one.budget.amount,
            need=one.need,
            want=one.want,
            returned=one.returned,
            now_us=int(self.now_s * 1e6),
            ttl_us=int(LEASE_S * 1e6),
        )
        return LeaseGranted(
            account=one.budget.account,
            begin=one.begin,
            granted=Nanodollars(lease.granted),
            standing=account.standing(),
            expires_in_s=LEASE_S,
        )

    def _shipped(self, spool: Spool) -> None:
        batch = dict(list(spool.receipts.items())[: self.random.randint(1, 20)])

        def arrive() -> None:
            if self.is_away:
                return
            self._book(batch)
            self._send(lambda: [spool.receipts.pop(request_id, None) for request_id in batch] and None)

        self._send(arrive)

    def _book(self, batch: dict[str, Receipt]) -> None:
        for request_id, receipt in batch.items():
            if request_id in self.booked and not self._books_twice:
                continue
            self.booked[request_id] = receipt
            at = datetime.fromtimestamp(receipt.at_us / 1e6, UTC)
            held = {hold.account: hold for hold in receipt.holds}
            for budget in BUDGETS:
                if budget.account in held:
                    begin, _ = period(budget.every, at=at)
                    hold = held[budget.account]
                    self._account(budget, begin).settle(charge=receipt.charge, holder=hold.holder, held=hold.amount)

    def _crashed(self, replica: Replica, *, keeps_spool: bool | None = None) -> None:
        self.replicas.remove(replica)
        if keeps_spool is None:
            keeps_spool = self.random.random() < 0.8
            self.replicas.append(self._replica())
        if keeps_spool:
            self.orphans.append(replica.spool)
        else:
            self.gone_with_a_disk |= {*replica.spool.intents, *replica.spool.receipts}

    def _adopted(self) -> None:
        """An orphan is booked whole, interrupted requests too; then its holder is closed."""
        if not self.orphans:
            return
        spool = self.orphans.pop(0)
        if self.is_away:
            self.orphans.append(spool)
            return
        self._book(spool.receipts)
        self._book(spool.intents)
        for account in self.accounts.values():
            account.close(spool.home)

    def _swept(self) -> None:
        for account in self.accounts.values():
            account.expire(now_us=int(self.now_s * 1e6))

    def _jumped(self) -> None:
        self.at += timedelta(hours=self.random.choice((-1, 1, 3, 9)))

    def _edited(self) -> None:
        """A budget leaves the policy, or comes back into it."""
        kept = BUDGETS if len(self.policy.budgets) < len(BUDGETS) else BUDGETS[1:]
        self.policy = replace(self.policy, budgets={budget.name: budget for budget in kept})

    def _went_away_or_came_back(self) -> None:
        self.is_away = not self.is_away and self.random.random() < 0.7

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, deliver: Callable[[], None]) -> None:
        lot = self.random.random()
        copies = 0 if lot < 0.1 else 2 if lot < 0.25 else 1
        for _ in range(copies):
            delay_s = self.random.expovariate(1.0) if lot < 0.9 else 90.0 * self.random.random()
            self.messages.append(Message(self.now_s + delay_s, next(self._numbers), deliver))

    def _pass(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while due := [message for message in self.messages if message.due_s <= until_s]:
            message = min(due)
            self.messages.remove(message)
            self.at += timedelta(seconds=max(message.due_s - self.now_s, 0.0))
            self.now_s = max(self.now_s, message.due_s)
            message.deliver()
        self.at += timedelta(seconds=until_s - self.now_s)
        self.now_s = until_s

    def _replica(self) -> Replica:
        home = f"home-{next(self._numbers)}"
        return Replica(wallet=Wallet(holder=home), spool=Spool(home=home))

    def _account(self, budget: Budget, begin: datetime) -> Account:
        key = (budget.account, begin)
        if key not in self.accounts:
            self.accounts[key] = self._make_account(budget.amount)
        return self.accounts[key]

    def _receipt(self, request_id: str, holds: tuple[Hold, ...], *, charge: int, outcome: Outcome) -> Receipt:
        receipt = a_receipt(
            an_attempt(attempt_id=f"{request_id}/1"),
            request_id=request_id,
            at_us=int(self.at.timestamp() * 1e6),
            holds=holds,
        )
        return self._with_charge(receipt, charge, outcome)

    def _with_charge(self, receipt: Receipt, charge: int, outcome: Outcome) -> Receipt:
        (attempt,) = receipt.attempts
        return replace(receipt, outcome=outcome, attempts=(replace(attempt, charge=Nanodollars(charge)),))

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """I1 to I6 of the ledger, as far as they concern money; raises Broken."""
        spent: dict[tuple[str, datetime], int] = {}
        for receipt in self.booked.values():
            at = datetime.fromtimestamp(receipt.at_us / 1e6, UTC)
            for hold in receipt.holds:
                budget = next(each for each in BUDGETS if each.account == hold.account)
                key = (hold.account, period(budget.every, at=at)[0])
                spent[key] = spent.get(key, 0) + receipt.charge
        for key, account in self.accounts.items():
            standing = account.standing()
            if standing.spent != spent.get(key, 0):
                raise Broken(f"{key[0]} has spent {standing.spent}, its receipts {spent.get(key, 0)}")
            if standing.spent + standing.leased + standing.lost > standing.cap:
                raise Broken(f"{key[0]}: {standing} is more than its cap")
            if standing.overrun:
                raise Broken(f"{key[0]} was overrun by {standing.overrun}")
            if any(lease.kept < 0 for lease in account.leases.values()):
                raise Broken(f"{key[0]} keeps less than nothing")
        self._check_the_upstream()

    def _check_the_upstream(self) -> None:
        """What the upstream bills, and may still bill, lies within every cap: also what no book knows of yet. Of an
        interrupted request the guess counts that is booked for it: nobody knows better."""
        bills: dict[tuple[str, datetime], int] = {}
        spools = [*(replica.spool for replica in self.replicas), *self.orphans]
        known = {**self.booked}
        for spool in spools:
            known |= {**spool.intents, **spool.receipts}
        for request_id, receipt in known.items():
            at = datetime.fromtimestamp(receipt.at_us / 1e6, UTC)
            for hold in receipt.holds:
                budget = next(each for each in BUDGETS if each.account == hold.account)
                key = (hold.account, period(budget.every, at=at)[0])
                is_guess = request_id in self.booked and receipt.outcome is Outcome.INTERRUPTED
                bills[key] = bills.get(key, 0) + (receipt.charge if is_guess else self.oracle[request_id])
        for (account, _), billed in bills.items():
            cap = next(each for each in BUDGETS if each.account == account).amount
            if billed > cap:
                raise Broken(f"the upstream bills {billed} for {account}, which has {cap}")

    def check_at_rest(self) -> None:
        """After `settle_down`: nothing is missing, nothing is double, no lease keeps anything but of lost disks."""
        if missing := self.oracle.keys() - self.booked.keys() - self.gone_with_a_disk:
            raise Broken(f"{len(missing)} requests are billed and not booked")
        if extra := self.booked.keys() - self.oracle.keys():
            raise Broken(f"{len(extra)} requests are booked and were never dispatched")
        for key, account in self.accounts.items():
            account.expire(now_us=int((self.now_s + 10 * LEASE_S) * 1e6))
            if any(lease.kept and lease.state is LeaseState.OPEN for lease in account.leases.values()):
                raise Broken(f"{key[0]} has a lease that nobody closes")


def simulate(
    seed: int, *, steps: int = 300, make_account: MakeAccount | None = None, books_twice: bool = False
) -> World:
    """One whole run. Raises Broken."""
    world = World(seed, make_account=make_account, books_twice=books_twice)
    for _ in range(steps):
        world.step()
    world.settle_down()
    world.check_at_rest()
    return world
