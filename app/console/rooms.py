"""What the console is built from, passed by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from app.console.guard import LOOPBACK_HOSTS
from app.console.health import Health
from app.domain.keys import Peppers
from app.domain.routing.policy import Policy
from app.domain.target import TargetSeen
from app.flows.keys import RandomBytes
from app.flows.policy_archive import PolicyArchive
from app.live.keys import KnownOperator
from app.live.policy_slot import PolicyStatus
from app.ports import Clock, KeyBook, LedgerBook, ReportBook, SpendBook
from app.ports.alerts import AlertBook
from app.ports.keys import TeamBook
from app.ports.ledger import AdjustmentBook, BudgetBook

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleRooms:
    """`metrics` is the whole exposition, of every process. `fleet` is what is known of the targets here. `hosts` are
    the names the console may be called by; None: any."""

    operator: KnownOperator
    clock: Clock
    ledger: LedgerBook
    adjustments: AdjustmentBook
    reports: ReportBook
    budgets: BudgetBook
    spend: SpendBook
    alerts: AlertBook
    keys: KeyBook
    teams: TeamBook
    peppers: Peppers
    random_bytes: RandomBytes
    archive: PolicyArchive
    policy: Callable[[], Policy]
    policy_status: Callable[[], PolicyStatus]
    fleet: Callable[[], Mapping[str, TargetSeen]]
    health: Callable[[], Awaitable[Health]]
    metrics: Callable[[], Awaitable[bytes]]
    hosts: frozenset[str] | None = LOOPBACK_HOSTS

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.fromtimestamp(self.now_s(), UTC)

    def now_s(self) -> float:
        """Unix seconds."""
        return self.clock.unix_us() / _MICROSECONDS
