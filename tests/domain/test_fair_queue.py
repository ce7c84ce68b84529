"""`app.domain.fair_queue`: the order, against everything that may happen to a line."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.domain.fair_queue import FairQueue

FLOWS = st.sampled_from("abcd")
COSTS = st.integers(min_value=1, max_value=5_000)


def _filled(items: list[tuple[str, int]]) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue()
    for number, (flow, cost) in enumerate(items):
        queue.put(number, flow=flow, cost=cost)
    return queue


@given(st.lists(st.tuples(FLOWS, COSTS), max_size=40))
def test_everything_comes_once_and_within_a_flow_in_the_order_of_arrival(items: list[tuple[str, int]]) -> None:
    queue = _filled(items)
    taken = [queue.take() for _ in items]
    assert sorted(taken) == list(range(len(items)))
    assert len(queue) == 0
    assert queue.first() is None
    for flow in "abcd":
        own = [number for number in taken if items[number][0] == flow]
        assert own == sorted(own)


@given(st.lists(COSTS, min_size=1, max_size=60), st.lists(COSTS, min_size=1, max_size=60))
def test_of_two_that_wait_all_the_time_each_gets_the_same_to_within_one_request(
    ours: list[int], theirs: list[int]
) -> None:
    costs = {"a": ours, "b": theirs}
    items = [("a", cost) for cost in ours] + [("b", cost) for cost in theirs]
    queue, most = _filled(items), max(*ours, *theirs)
    served = Counter[str]()
    while queue.waiting("a") and queue.waiting("b"):
        flow, cost = items[queue.take()]
        served[flow] += cost
        assert abs(served["a"] - served["b"]) <= most, costs


@given(
    flood=st.lists(COSTS, min_size=1, max_size=80),
    taken=st.integers(min_value=0, max_value=79),
    cost=COSTS,
)
def test_a_flood_delays_the_first_request_of_another_by_no_request_that_came_after_what_is_served(
    flood: list[int], taken: int, cost: int
) -> None:
    """Whatever one flow has piled up, another's single request is next, but for one when both begin together."""
    queue = _filled([("flood", each) for each in flood])
    taken = min(taken, len(flood) - 1)
    for _ in range(taken):
        queue.take()
    queue.put(1_000, flow="single", cost=cost)
    before = []
    while (item := queue.take()) != 1_000:
        before.append(item)
    assert len(before) == (0 if taken else 1)


@given(st.integers(min_value=2, max_value=30), st.integers(min_value=2, max_value=40))
def test_of_n_floods_each_puts_at_most_one_request_before_a_newcomer(floods: int, each: int) -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(floods * each):
        queue.put(number, flow=f"flood {number % floods}", cost=100)
    for _ in range(floods):
        queue.take()
    queue.put(10_000, flow="newcomer", cost=100)
    before = Counter[int]()
    while (item := queue.take()) != 10_000:
        before[item % floods] += 1
    assert all(count <= 1 for count in before.values())


def test_a_flow_that_paused_makes_up_for_nothing() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(10):
        queue.put(f"a{number}", flow="a", cost=10)
    for _ in range(5):
        queue.take()
    for number in range(5):
        queue.put(f"b{number}", flow="b", cost=10)
    assert [queue.take() for _ in range(6)] == ["b0", "a5", "b1", "a6", "b2", "a7"]


def test_who_costs_twice_as_much_comes_half_as_often() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(12):
        queue.put(number, flow="large" if number % 2 else "small", cost=200 if number % 2 else 100)
    first = [queue.take() % 2 for _ in range(6)]
    assert first.count(0) == 4


def test_who_leaves_costs_its_flow_nothing() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put("a0", flow="a", cost=1_000)
    queue.put("a1", flow="a", cost=10)
    queue.put("b0", flow="b", cost=10)
    assert queue.remove("a0")
    assert not queue.remove("a0")
    assert [queue.take(), queue.take()] == ["a1", "b0"]


def test_who_was_just_served_and_comes_again_stands_behind_who_waits() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put("a0", flow="a", cost=500)
    queue.put("b0", flow="b", cost=100)
    queue.put("b1", flow="b", cost=100)
    assert queue.take() == "a0"
    queue.put("a1", flow="a", cost=500)
    assert [queue.take() for _ in range(3)] == ["b0", "b1", "a1"]


def test_the_newest_of_the_longest_is_who_has_to_go() -> None:
    queue: FairQueue[str] = FairQueue()
    assert queue.newest_of_the_longest() is None
    for item in ("a0", "b0", "b1"):
        queue.put(item, flow=item[0], cost=1)
    assert queue.newest_of_the_longest() == ("b", "b1")


@pytest.mark.parametrize("cost", [0, -1, float("inf"), float("nan")])
def test_a_cost_that_is_none_is_refused(cost: float) -> None:
    with pytest.raises(ValueError, match="cost"):
        FairQueue[str]().put("a", flow="a", cost=cost)


@given(st.lists(FLOWS, max_size=30), st.integers(min_value=0, max_value=29), FLOWS)
def test_how_many_are_ahead_is_what_then_comes_before_where_all_cost_the_same(
    flows: list[str], taken: int, mine: str
) -> None:
    queue = _filled([(flow, 100) for flow in flows])
    for _ in range(min(taken, len(flows))):
        queue.take()
    ahead = queue.ahead_of(mine)
    queue.put(-1, flow=mine, cost=100)
    before = 0
    while queue.take() != -1:
        before += 1
    assert before == ahead


class Line(RuleBasedStateMachine):
    """Arrivals, turns and leaving in any order, beside a plain account of who is there."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.there: dict[str, list[int]] = defaultdict(list)
        self.number = 0

    @rule(flow=FLOWS, cost=COSTS)
    def comes(self, flow: str, cost: int) -> None:
        self.queue.put(self.number, flow=flow, cost=cost)
        self.there[flow].append(self.number)
        self.number += 1

    @precondition(lambda self: len(self.queue))
    @rule()
    def is_served(self) -> None:
        first = self.queue.first()
        item = self.queue.take()
        assert item == first
        assert item not in self.queue
        (flow,) = [name for name, items in self.there.items() if item in items]
        assert self.there[flow].pop(0) == item

    @precondition(lambda self: len(self.queue))
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(sorted(item for items in self.there.values() for item in items)))
        assert self.queue.remove(item)
        for items in self.there.values():
            if item in items:
                items.remove(item)

    @invariant()
    def the_accounts_agree(self) -> None:
        assert len(self.queue) == sum(map(len, self.there.values()))
        for flow, items in self.there.items():
            assert self.queue.waiting(flow) == len(items)
            assert self.queue.ahead_of(flow) >= len(items)
        longest = self.queue.newest_of_the_longest()
        assert (longest is None) == (len(self.queue) == 0)
        if longest is not None:
            assert len(self.there[longest[0]]) == max(map(len, self.there.values()))
            assert self.there[longest[0]][-1] == longest[1]


TestLine = Line.TestCase
TestLine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
