from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from app.domain.errors import RateLimited
from app.domain.limits import RateKind, RateLimits
from app.flows.limits import LimitGate
from app.ports.ledger import Compared, LimitBook, RateGranted, RateWanted, TargetSent
from app.system import SystemClock
from tests.fakes.limit_book import MemoryLimitBook
from tests.makers import a_caller

CALLER = a_caller(key_id="abcdefgh", team="research")
SOON_S = 20.0


class Counter:
    """Sends to one target and writes down what it is told."""

    def __init__(self, sent: Mapping[str, TargetSent] | None = None) -> None:
        self._sent = sent or {}
        self.seen: list[Compared] = []
        self.partings = 0

    def sent(self, *, at_s: float) -> Mapping[str, TargetSent]:
        return self._sent

    def compared(self, compared: Compared) -> None:
        self.seen.append(compared)

    def parted(self) -> None:
        self.partings += 1


class FrozenBook(MemoryLimitBook):
    """Takes every call and answers none."""

    async def take(self, wanted: Sequence[RateWanted]) -> Sequence[RateGranted]:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets")

    async def compare(self, *, holder: str, sent: Mapping[str, TargetSent]) -> Compared:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets")


def a_gate(*, key: RateLimits | None = None, team: RateLimits | None = None) -> LimitGate:
    gate = LimitGate(clock=SystemClock())
    gate.limits.follow(
        keys={} if key is None else {"abcdefgh": ("abcdefgh", key)}, teams={} if team is None else {"research": team}
    )
    return gate


@asynccontextmanager
async def kept(*gates: LimitGate, book: LimitBook, counter: Counter | None = None) -> AsyncIterator[None]:
    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(gate.keep(book, holder=f"p{number}", counter=counter or Counter()))
            for number, gate in enumerate(gates)
        ]
        yield
        for task in tasks:
            task.cancel()


async def let_in(gate: LimitGate, *, tokens: int = 1) -> bool:
    try:
        await gate.admit(CALLER, tokens=tokens)
    except RateLimited:
        return False
    return True


async def test_who_has_no_limits_waits_for_nobody() -> None:
    assert await a_gate().admit(CALLER, tokens=5) is None


@pytest.mark.parametrize("processes", [1, 4])
async def test_of_400_requests_on_a_limit_of_100_exactly_100_are_let_in(processes: int) -> None:
    book = MemoryLimitBook(now_s=lambda: 0.0)
    gates = [a_gate(key=RateLimits(requests_per_minute=100)) for _ in range(processes)]
    async with kept(*gates, book=book):
        answers = await asyncio.gather(*(let_in(gates[number % processes]) for number in range(400)))
    assert answers.count(True) == 100


async def test_all_who_wait_share_one_call() -> None:
    book = MemoryLimitBook()
    gate = a_gate(key=RateLimits(requests_per_minute=1000))
    async with kept(gate, book=book):
        assert all(await asyncio.gather(*(let_in(gate) for _ in range(50))))
        assert book.taken <= 2


async def test_a_warm_request_asks_nobody() -> None:
    book = MemoryLimitBook()
    gate = a_gate(key=RateLimits(requests_per_minute=60_000))
    async with kept(gate, book=book):
        await gate.admit(CALLER, tokens=1)
        calls = book.taken
        for _ in range(100):
            await gate.admit(CALLER, tokens=1)
        assert book.taken == calls


async def test_a_refusal_names_the_limit_and_when_there_is_room_and_counts_nothing() -> None:
    book = MemoryLimitBook(now_s=lambda: 0.0)
    gate = a_gate(key=RateLimits(tokens_per_minute=100), team=RateLimits(requests_per_minute=2))
    async with kept(gate, book=book):
        await gate.admit(CALLER, tokens=90)
        with pytest.raises(RateLimited, match=r"key abcdefgh: 100 tokens per minute .* 10 left, 40 asked") as caught:
            await gate.admit(CALLER, tokens=40)
        assert caught.value.retry_after_s == pytest.approx(18.0, abs=2.0)
        assert caught.value.limit == "key tokens"
        assert [(rate.kind, rate.left) for rate in caught.value.rates] == [
            (RateKind.REQUESTS, 1),
            (RateKind.TOKENS, 10),
        ]
        await gate.admit(CALLER, tokens=1)
        with pytest.raises(RateLimited, match='team "research": 2 requests per minute') as of_the_team:
            await gate.admit(CALLER, tokens=1)
        assert of_the_team.value.limit == "team requests"


async def test_a_request_over_the_whole_limit_is_told_that_waiting_is_no_use() -> None:
    gate, book = a_gate(key=RateLimits(tokens_per_minute=100)), MemoryLimitBook()
    async with kept(gate, book=book):
        with pytest.raises(RateLimited, match=r"too large .* about 101 tokens") as caught:
            await gate.admit(CALLER, tokens=101)
        assert (caught.value.retry_after_s, caught.value.limit) == (None, "key tokens")
        assert book.taken == 0


async def test_what_was_used_in_the_end_replaces_the_estimate() -> None:
    book = MemoryLimitBook(now_s=lambda: 0.0)
    gate = a_gate(key=RateLimits(tokens_per_minute=50))
    async with kept(gate, book=book):
        first = await gate.admit(CALLER, tokens=10)
        assert first is not None
        first.used(45)
        assert [rate.left for rate in first.rates()] == [5]
        assert not await let_in(gate, tokens=6)
        first.used(20)
        assert await let_in(gate, tokens=30)


async def test_a_debt_is_taken_from_the_bucket_so_that_others_feel_it() -> None:
    book = MemoryLimitBook(now_s=lambda: 0.0)
    gate, other = (a_gate(key=RateLimits(tokens_per_minute=50)) for _ in range(2))
    async with kept(gate, other, book=book):
        first = await gate.admit(CALLER, tokens=10)
        assert first is not None
        first.used(50)
        while (await book.take([RateWanted(name="key/abcdefgh/tokens", per_minute=50, amount=0)]))[0].left:
            await asyncio.sleep(0)
        assert not await let_in(other, tokens=1)


async def test_while_postgres_is_away_each_process_gives_its_share_and_no_more() -> None:
    book = MemoryLimitBook(now_s=lambda: 0.0)
    gates = [a_gate(key=RateLimits(requests_per_minute=40)) for _ in range(4)]
    async with kept(*gates, book=book):
        for _ in range(2):
            assert all(await asyncio.gather(*(let_in(gate) for gate in gates)))
        await _until(lambda: all(gate.processes == 4 for gate in gates))
        book.away = True
        given = [[await let_in(gate) for _ in range(20)].count(True) for gate in gates]
    assert all(1 <= each <= 10 for each in given)
    assert 2 * 4 + sum(given) <= 40 + 2


async def test_a_postgres_that_is_frozen_holds_nobody_up_for_long() -> None:
    gate = a_gate(key=RateLimits(requests_per_minute=40))
    async with kept(gate, book=FrozenBook()):
        assert await let_in(gate)
        async with asyncio.timeout(0.5):
            assert await let_in(gate)


async def test_when_postgres_is_back_it_is_asked_again() -> None:
    book = MemoryLimitBook()
    book.away = True
    gate, counter = (
        a_gate(key=RateLimits(requests_per_minute=40)),
        Counter({"home": TargetSent(requests=3, tokens=30, requests_per_minute=10)}),
    )
    async with kept(gate, book=book, counter=counter):
        assert await let_in(gate)
        await _until(lambda: counter.partings > 0)
        book.away = False
        await _until(lambda: bool(counter.seen))
        assert counter.seen[-1] == Compared(processes=1, place=0, rooms={"home": (7, None)})
        for _ in range(30):
            await let_in(gate)
        assert book.taken > 0


async def test_what_lies_idle_goes_back_to_the_bucket() -> None:
    book = MemoryLimitBook(now_s=lambda: 0.0)
    gate = a_gate(key=RateLimits(requests_per_minute=6000))
    look = RateWanted(name="key/abcdefgh/requests", per_minute=6000, amount=0)
    async with kept(gate, book=book):
        assert await let_in(gate)
        assert (await book.take([look]))[0].left < 5999
        while (await book.take([look]))[0].left != 5999:
            await asyncio.sleep(0.05)


async def test_at_the_end_everything_goes_back_and_the_others_share_it() -> None:
    book = MemoryLimitBook(now_s=lambda: 0.0)
    gate = a_gate(key=RateLimits(requests_per_minute=6000))
    async with kept(gate, book=book):
        assert await let_in(gate)
        await _until(lambda: gate.processes == 1)
    await gate.give_back(book, holder="p0", counter=Counter())
    assert (await book.take([RateWanted(name="key/abcdefgh/requests", per_minute=6000, amount=0)]))[0].left == 5999
    assert (await book.compare(holder="other", sent={})).processes == 1


async def test_an_end_without_postgres_is_an_end() -> None:
    book = MemoryLimitBook()
    book.away = True
    await a_gate(key=RateLimits(requests_per_minute=6000)).give_back(book, holder="p0", counter=Counter())


async def _until(reached: object) -> None:
    assert callable(reached)
    while not reached():
        await asyncio.sleep(0.01)
