"""Who comes next where several flows wait for one server: start-time fair queuing, by cost.

Each flow (here: a team) has a start tag, the virtual time at which its next request may begin; what is taken moves the
tag of its flow on by its cost, and the flow with the least tag comes next. The virtual time is the tag of what was
taken last, and a flow that was not there begins at it, not before: it makes up for nothing, and it waits for nobody's
backlog. So of flows that wait all the time each gets the same cost served, to within one request, and the first
request of one that just came goes before all but the first of each other (Goyal, Vin, Cheng 1996). Within a flow it is
first in, first out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """Holds items, each once. A step costs time in proportion to the flows that wait, not to the items."""

    __slots__ = ("_flow_of", "_flows", "_now", "_puts", "_rested")

    def __init__(self) -> None:
        self._flows: dict[str, _Flow[T]] = {}
        self._flow_of: dict[T, str] = {}
        #: Start tags of flows that wait no more and whose tag is still ahead of the virtual time.
        self._rested: dict[str, float] = {}
        self._now = 0.0
        self._puts = 0

    def __len__(self) -> int:
        return len(self._flow_of)

    def __contains__(self, item: T) -> bool:
        return item in self._flow_of

    def __iter__(self) -> Iterator[T]:
        """Everything that waits, as it came; what is removed meanwhile changes nothing."""
        return iter(tuple(self._flow_of))

    def put(self, item: T, *, flow: str, cost: float) -> None:
        """It waits from now on, behind everything of its flow. `cost` above 0: what serving it will take, in any unit.

        Raises ValueError for an item that waits already, and for a cost that is not above 0 or has no end."""
        if item in self._flow_of or not 0 < cost < inf:
            raise ValueError(f"{item!r} waits already, or its cost {cost} is not above 0")
        its = self._flows.get(flow)
        if its is None:
            its = self._flows[flow] = _Flow(start=max(self._now, self._rested.pop(flow, 0.0)))
        self._puts += 1
        its.items[item] = (self._puts, cost)
        its.cost += cost
        self._flow_of[item] = flow

    def first(self) -> T | None:
        """What comes next; None: nothing waits. Of equal tags the one that has waited longest."""
        flow = self._first_flow()
        return None if flow is None else next(iter(self._flows[flow].items))

    def take(self) -> T:
        """What comes next, and it waits no more. Raises LookupError when nothing waits."""
        flow = self._first_flow()
        if flow is None:
            raise LookupError("nothing waits")
        its = self._flows[flow]
        item = next(iter(its.items))
        self._now = its.start
        its.start += its.items[item][1]
        self.remove(item)
        for rested in [name for name, start in self._rested.items() if start <= self._now]:
            del self._rested[rested]
        return item

    def remove(self, item: T) -> bool:
        """It waits no more, and nothing was served for it; False: it did not wait. Who stays keeps its place."""
        flow = self._flow_of.pop(item, None)
        if flow is None:
            return False
        its = self._flows[flow]
        its.cost -= its.items.pop(item)[1]
        if not its.items:
            del self._flows[flow]
            if its.start > self._now:
                self._rested[flow] = its.start
        if not self._flow_of:
            # Nobody waits, so nobody owes anybody anything.
            self._rested.clear()
            self._now = 0.0
        return True

    def waiting(self, flow: str) -> int:
        """How many of this flow wait."""
        its = self._flows.get(flow)
        return 0 if its is None else len(its.items)

    def newest_of_the_longest(self) -> tuple[str, T] | None:
        """The flow of which most wait, and what came last of it: who has to go when there is room for no more."""
        if not self._flows:
            return None
        flow = max(self._flows, key=lambda name: (len(self._flows[name].items), name))
        return flow, next(reversed(self._flows[flow].items))

    def ahead_of(self, flow: str) -> int:
        """How many would be served before an item of this flow that came now, if nobody came after it. Exact where the
        items of each flow cost the same."""
        own = self._flows.get(flow)
        if own is None:
            start, ahead = max(self._now, self._rested.get(flow, 0.0)), 0
        else:
            start, ahead = own.start + own.cost, len(own.items)
        for name, its in self._flows.items():
            if name != flow and its.start <= start:
                each = its.cost / len(its.items)
                ahead += min(len(its.items), int((start - its.start) / each) + 1)
        return ahead

    def _first_flow(self) -> str | None:
        first, least = None, (inf, 0)
        for name, its in self._flows.items():
            here = (its.start, its.items[next(iter(its.items))][0])
            if here < least:
                first, least = name, here
        return first


class _Flow(Generic[T]):
    """What waits of one flow, in the order in which it came, each with its number of arrival and its cost."""

    __slots__ = ("cost", "items", "start")

    def __init__(self, *, start: float) -> None:
        self.start = start
        self.items: OrderedDict[T, tuple[int, float]] = OrderedDict()
        self.cost = 0.0
