"""How often a budget refuses agents that ask for far more than they use: the wallets and an account, in virtual time.

A refusal is *false* when it comes while less than 95 % of the budget is spent. The waiting is `flows/hold`'s: a request
that is short waits a second, and the books are asked every 50 ms meanwhile.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

from app.domain.budget import Budget, Every, Mode
from app.domain.ledger.account import Account
from app.domain.ledger.hold import Hold
from app.domain.money import Nanodollars
from app.flows.hold import ASK_AGAIN_S, PATIENCE_S
from app.live.wallet import Short, Wallet
from app.ports.ledger import LeaseGranted, LeaseWanted
from tests.makers import a_policy, a_receipt, an_attempt
from tests.simulator.world import START

TTL_US = 10_000_000
#: Of the budget: until then a refusal is false.
LATE = 0.95


class Figures(NamedTuple):
    """Requests asked for until 95 % were spent, those of them that were refused, and the part spent at the end."""

    asked: int
    refused: int
    spent: float

    @property
    def rate(self) -> float:
        return self.refused / self.asked


@dataclass(slots=True)
class _Agent:
    wallet: Wallet
    ends_s: float = 0.0
    holds: tuple[Hold, ...] = ()
    #: When it began to wait for room; None: it does not.
    waits_since_s: float | None = None


def denials(*, seed: int, replicas: int, agents: int, hold: int, cap: int) -> Figures:
    """Agents that hold `hold` for each request and use 1 to 5 % of it, until everybody is refused."""
    chance = random.Random(seed)
    budget = Budget(name="all", amount=Nanodollars(cap), every=Every.MONTH, mode=Mode.HARD)
    policy = replace(a_policy(), budgets={"all": budget})
    account = Account(cap=Nanodollars(cap))
    wallets = [Wallet(holder=f"h{number}") for number in range(replicas)]
    crowd = [_Agent(wallets[number % replicas]) for number in range(agents)]
    asked = refused = row = 0
    spent, now_s, told_s = 0, 0.0, 0.0
    needs = [(budget, Nanodollars(hold))]
    while row < agents * 2:
        now_s += ASK_AGAIN_S
        at = START + timedelta(seconds=now_s)
        for agent in crowd:
            if agent.holds and now_s >= agent.ends_s:
                charge = chance.randint(hold // 100, hold // 20)
                receipt = replace(
                    a_receipt(),
                    at_us=int(at.timestamp() * 1e6),
                    holds=agent.holds,
                    attempts=(replace(an_attempt(), charge=Nanodollars(charge)),),
                )
                agent.wallet.settled(receipt)
                account.settle(charge=charge, holder=agent.wallet.holder, held=hold)
                spent, agent.holds = spent + charge, ()
            if agent.holds:
                continue
            is_early = spent < cap * LATE
            found = agent.wallet.hold(needs, at=at, now_s=now_s)
            if agent.waits_since_s is None:
                asked += is_early
            if not isinstance(found, Short):
                agent.holds, agent.waits_since_s, row = found, None, 0
                agent.ends_s = now_s + chance.uniform(0.5, 6.0)
            elif found.is_hopeless or (agent.waits_since_s is not None and now_s - agent.waits_since_s >= PATIENCE_S):
                refused += is_early
                agent.waits_since_s, row = None, row + 1
            elif agent.waits_since_s is None:
                agent.waits_since_s = now_s
        for wallet in wallets:
            waiting = [agent for agent in crowd if agent.wallet is wallet and agent.waits_since_s is not None]
            done = [wallet.wait_for(needs, at=at) for _ in waiting]
            wanted = wallet.wanted(policy, at=at, now_s=now_s) if waiting or now_s - told_s >= 0.5 else []
            wallet.told(wanted, [_leased(account, one, wallet, now_s) for one in wanted], now_s=now_s)
            for each in done:
                each()
        told_s = now_s if now_s - told_s >= 0.5 else told_s
    return Figures(asked=asked, refused=refused, spent=spent / cap)


def _leased(account: Account, one: LeaseWanted, wallet: Wallet, now_s: float) -> LeaseGranted:
    lease = account.take(
        wallet.holder,
        cap=one.budget.amount,
        need=one.need,
        want=one.want,
        returned=one.returned,
        now_us=int(now_s * 1e6),
        ttl_us=TTL_US,
    )
    return LeaseGranted(
        account=one.budget.account,
        begin=one.begin,
        granted=Nanodollars(lease.granted),
        standing=account.standing(),
        expires_in_s=TTL_US / 1e6,
    )
