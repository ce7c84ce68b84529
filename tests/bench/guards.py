"""What a warm request pays for being let in: its key, its limits by the minute and its budgets, without the rest.

`python -m tests.bench.guards`. Real wallet, gate and keys; leases and slices are there, as they are for nearly every
request, so that nobody is asked. The quietest of many short rounds counts. The bar is 30 µs for all three together.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import perf_counter_ns

from app.bootstrap.serving import GC_THRESHOLDS
from app.domain.budget import Budget, Every
from app.domain.keys import Pepper, Peppers, write_key
from app.domain.ledger.account import Standing
from app.domain.ledger.receipt import Receipt
from app.domain.limits import RateLimits
from app.domain.money import ZERO, Nanodollars
from app.domain.routing.policy import Policy
from app.flows.funding import attempt_needs
from app.flows.gateway import Asked
from app.live.keys import KnownKeys
from app.ports import KeyRecord
from app.ports.ledger import LeaseGranted, RateGranted
from tests.flows.house import House, a_house, asked
from tests.makers import a_caller, a_policy, a_receipt, a_target, an_attempt

ROUNDS = 60
RUNS_A_ROUND = 300
BAR_US = 30.0
KEY = write_key("abcdefgh", b"s" * 32)
PLENTY = 10**15
STANDING = Standing(cap=Nanodollars(PLENTY), spent=ZERO, leased=ZERO, lost=ZERO, overrun=ZERO)

Guard = Callable[[], Awaitable[None]]


def main() -> int:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as in a gateway
    return asyncio.run(_measured())


async def _measured() -> int:
    house = a_house(policy=_policy())
    request = replace(asked(house), fields={"model": b'"chat"', "messages": b"x" * 1_400, "max_tokens": b"300"})
    _fill(house, request)
    whole_us = 0.0
    for name, guard in (
        ("key", _key(house)),
        ("limits: key and team, requests and tokens", _limits(house, request)),
        ("budgets: of the gateway and of the team", _budgets(house, request)),
    ):
        took_us = await _quietest_us(guard)
        whole_us += took_us
        print(f"{name:45} {took_us:6.1f} µs")
    print(f"{'all three':45} {whole_us:6.1f} µs (the bar: {BAR_US:.0f} µs)")
    return 1 if whole_us > BAR_US else 0


def _policy() -> Policy:
    """One target, and two budgets that hold for the caller."""
    budgets = {
        "all": Budget(name="all", amount=Nanodollars(PLENTY), every=Every.MONTH),
        "team": Budget(name="team", amount=Nanodollars(PLENTY), every=Every.DAY, team="research"),
    }
    return replace(a_policy(a_target(context_tokens=8_192)), budgets=budgets)


def _fill(house: House, request: Asked) -> None:
    """What `keep` does beside a real gateway: leases are granted, slices are taken."""
    gateway = house.gateway
    gateway.limits.limits.follow(keys={"abcdefgh": ("abcdefgh", _many())}, teams={"research": _many()})
    at_s = gateway.clock.monotonic_s()
    for one in gateway.limits.limits.all().values():
        one.heard(RateGranted(name=one.name, amount=one.per_minute, left=one.per_minute, full_in_s=0.0), at_s=at_s)
    wallet, snapshot = gateway.treasury.wallet, gateway.snapshot(at_us=request.at_us)
    budgets = wallet.budgets_of(request.facts, snapshot.policy)
    done = wallet.wait_for([(budget, Nanodollars(1)) for budget in budgets], at=snapshot.at)
    wanted = wallet.wanted(snapshot.policy, at=snapshot.at, now_s=at_s)
    granted = [
        LeaseGranted(
            account=each.budget.account,
            begin=each.begin,
            granted=Nanodollars(PLENTY),
            standing=STANDING,
            expires_in_s=3600.0,
        )
        for each in wanted
    ]
    wallet.told(wanted, granted, now_s=at_s)
    done()


def _many() -> RateLimits:
    return RateLimits(requests_per_minute=10**9, tokens_per_minute=10**9)


def _key(house: House) -> Guard:
    pepper = Pepper(b"p" * 32, version=1)
    known = KnownKeys(Peppers({1: pepper}))
    digest = pepper.digest(KEY.encode())
    caller = a_caller(key_id=KEY.split("_")[1])
    known.replace_all(
        [KeyRecord(caller=caller, name="bench", digest=digest, pepper_version=pepper.version, created_at_s=0.0)]
    )

    async def find() -> None:
        known.find(KEY, at_s=1.0)

    return find


def _limits(house: House, request: Asked) -> Guard:
    gate = house.gateway.limits

    async def admit() -> None:
        admitted = await gate.admit(request.facts.caller, tokens=request.facts.prompt_tokens)
        assert admitted is not None, "the caller has limits"
        admitted.used(1_000)
        admitted.rates()

    return admit


def _budgets(house: House, request: Asked) -> Guard:
    """As `answer` does it."""
    treasury = house.gateway.treasury
    snapshot = house.gateway.snapshot(at_us=request.at_us)

    async def hold() -> None:
        budgets = treasury.budgets_of(request.facts, snapshot.policy)
        needs = attempt_needs(request, "home", budgets=budgets, snapshot=snapshot, spent=ZERO).needs
        holds = await treasury.hold(needs, at=snapshot.at)
        treasury.settled(replace(receipt, holds=holds))

    receipt: Receipt = a_receipt(an_attempt(charge=Nanodollars(10)), at_us=request.at_us)
    return hold


async def _quietest_us(guard: Guard) -> float:
    rounds = []
    for _ in range(ROUNDS):
        begun = perf_counter_ns()
        for _ in range(RUNS_A_ROUND):
            await guard()
        rounds.append((perf_counter_ns() - begun) / RUNS_A_ROUND / 1000)
    return min(rounds)


if __name__ == "__main__":
    sys.exit(main())
