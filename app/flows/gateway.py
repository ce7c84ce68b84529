"""What the story of one request needs from the house, passed by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.errors import BreakevenError
from app.domain.quick import quickly_made
from app.domain.routing.facts import RequestFacts
from app.domain.routing.plan import Plan
from app.domain.routing.snapshot import Snapshot
from app.domain.target import Target
from app.flows.hold import Treasury
from app.flows.leash import Leashes
from app.flows.limits import LimitGate
from app.flows.queue_ticker import QueueTicker
from app.live.budgets import SpentBudgets
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot
from app.live.queues import Queues
from app.live.recent import RecentReceipts
from app.live.retry_budget import RetryBudget
from app.live.shadows import Shadows
from app.live.spilled import Spilled
from app.ports import Clock, Journal, Provider, Readings

_MICROSECONDS = 1_000_000


async def _as_it_is(target: str) -> None:
    """Nobody asks: what was known stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The rooms that `answer` walks through. Built by `bootstrap`, one per process."""

    clock: Clock
    policy: PolicySlot
    fleet: Fleet
    journal: Journal
    provider_of: Callable[[Target], Provider]
    readings: Readings
    recent: RecentReceipts
    #: The status that the surface answers with for an error; it stands on the receipt.
    status_of: Callable[[BreakevenError], int]
    spilled: Spilled = field(default_factory=Spilled)
    budgets: SpentBudgets = field(default_factory=SpentBudgets)
    limits: LimitGate
    treasury: Treasury
    #: Why nothing at all is taken on now, in a sentence; None: requests are served.
    closed: Callable[[], str | None] = field(default=lambda: None)
    leashes: Leashes = field(default_factory=Leashes)
    retries: RetryBudget = field(default_factory=RetryBudget)
    shadows: Shadows[Copy] = field(default_factory=Shadows)
    #: Who waits for full targets, and who looks after them.
    queues: Queues = field(default_factory=Queues)
    ticker: QueueTicker = field(default_factory=QueueTicker)
    #: Returns when it is known what a target of ours serves whose connection broke, or a moment later: `FleetWatch`.
    make_sure: Callable[[str], Awaitable[None]] = field(default=_as_it_is)

    def snapshot(self, *, at_us: int, team: str = "") -> Snapshot:
        """The world as it is now; `at_us` is the wall clock. Full targets that rules wait for are seen as a request of
        this team meets them."""
        policy = self.policy.current
        at = datetime.fromtimestamp(at_us / _MICROSECONDS, policy.timezone)
        at_s = self.clock.monotonic_s()
        fleet = self.fleet.view(at_s=at_s)
        if policy.queued:
            fleet = self.queues.met_by(team, fleet=fleet, policy=policy)
        return Snapshot(
            policy=policy,
            fleet=fleet,
            at=at,
            budgets=self.budgets.view(policy, at=at),
            spill_spent=self.spilled.view(policy, at_s=at_s),
        )


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as the stories see it: facts, the body's fields untouched, and what the caller wants to see.

    `at_us` is the wall clock at its arrival, which its id carries too; `arrived_s` the monotonic clock then.
    """

    facts: RequestFacts
    at_us: int
    arrived_s: float
    fields: Mapping[str, bytes]
    usage_wanted: bool
    caller_label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """An answered request that is to be asked again of `plan.shadow`; `snapshot` is the one it was decided on."""

    asked: Asked
    plan: Plan
    snapshot: Snapshot
