"""Budgets over several processes, by seed: no crash, loss or delay breaks an invariant, and planted bugs are found."""

from __future__ import annotations

import pytest

from app.domain.ledger.account import Account, Lease, LeaseState
from app.domain.money import Nanodollars
from tests.simulator.kept import kept
from tests.simulator.world import Broken, MakeAccount, simulate

SEEDS = 500
#: A planted bug has to be found within so many runs.
FOUND_WITHIN = 200


def test_no_seed_breaks_an_invariant() -> None:
    booked = sum(len(simulate(seed).booked) for seed in range(SEEDS))
    assert booked > 10 * SEEDS


def test_what_failed_once_does_not_fail_again() -> None:
    for seed in kept():
        simulate(seed)


def test_the_same_seed_is_the_same_run() -> None:
    first, second = simulate(7), simulate(7)
    assert first.booked == second.booked
    assert first.now_s == second.now_s


class ReleasesAtExpiry(Account):
    def expire(self, *, now_us: int) -> list[Lease]:
        lapsed = super().expire(now_us=now_us)
        for lease in lapsed:
            lease.returned += lease.kept
        return lapsed


class ForgetsLeases(Account):
    def take(self, holder: str, **wanted: int) -> Lease:  # type: ignore[override]
        kept_back = {name: lease for name, lease in self.leases.items() if name != holder}
        self.leases = {name: lease for name, lease in self.leases.items() if name == holder}
        lease = super().take(holder, **wanted)  # type: ignore[arg-type]
        self.leases |= kept_back
        return lease


class CountsReturnsTwice(Account):
    def _give_back(self, lease: Lease, returned: int) -> None:
        lease.returned += min(returned, lease.kept) if returned > 0 else 0


class GrantsTwice(Account):
    def take(self, holder: str, **wanted: int) -> Lease:  # type: ignore[override]
        before = self.leases[holder].granted if holder in self.leases else 0
        lease = super().take(holder, **wanted)  # type: ignore[arg-type]
        lease.granted += lease.granted - before
        return lease


class ClosesTheLiving(Account):
    def expire(self, *, now_us: int) -> list[Lease]:
        for lease in self.leases.values():
            if lease.state is LeaseState.OPEN:
                lease.returned += lease.kept // 2
        return super().expire(now_us=now_us)


def is_broken(seed: int, *, make_account: MakeAccount | None = None, books_twice: bool = False) -> bool:
    try:
        simulate(seed, make_account=make_account, books_twice=books_twice)
    except Broken:
        return True
    return False


def of(kind: type[Account]) -> MakeAccount:
    return lambda cap: kind(cap=Nanodollars(cap))


@pytest.mark.parametrize("bug", [ReleasesAtExpiry, ForgetsLeases, CountsReturnsTwice, GrantsTwice, ClosesTheLiving])
def test_a_planted_bug_of_the_database_is_found(bug: type[Account]) -> None:
    assert any(is_broken(seed, make_account=of(bug)) for seed in range(FOUND_WITHIN))


def test_a_batch_that_counts_again_when_it_is_sent_again_is_found() -> None:
    assert any(is_broken(seed, books_twice=True) for seed in range(FOUND_WITHIN))
