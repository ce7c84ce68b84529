"""The policy kept up to date for as long as a process serves: its story, its history, its log."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from app.bootstrap.policy import compile_here
from app.domain.errors import SetupError
from app.domain.findings import Severity
from app.flows.policy_reload import PolicyKeeper, PolicyRooms, PolicyWatcher
from app.live.policy_slot import PolicySlot, PolicyStatus, Refused
from app.ports import BooksAway, Clock
from app.settings import Settings
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.policy_history import PostgresPolicyHistory
from app.storage.shelf import PolicyShelf
from app.system import SystemClock
from app.telemetry.metrics import PrometheusReadings

LOG = logging.getLogger("breakeven.policy")
#: Findings of one refusal that the log names.
_LOGGED: Final = 50


class PolicyLog:
    """flows.policy_reload.PolicyWatcher: log lines, and a count of the edits in the metrics once there are any."""

    def __init__(self) -> None:
        self.metrics: PrometheusReadings | None = None

    def policy_in_force(self, status: PolicyStatus, *, before: str | None, by: str) -> None:
        fields = {"digest": status.digest, "before": before, "by": by, "pinned": status.pin is not None}
        LOG.info("policy in force", extra={"fields": fields})
        for finding in status.findings[:_LOGGED]:
            LOG.warning(str(finding))
        if self.metrics is not None:
            self.metrics.policy_edited(accepted=True)

    def policy_refused(self, refused: Refused, *, stays: str) -> None:
        gravest_first = sorted(refused.findings, key=lambda finding: finding.severity is not Severity.ERROR)
        findings = "\n".join(str(finding) for finding in gravest_first[:_LOGGED])
        fields = {"digest": refused.digest, "findings": findings, "in_force": stays}
        LOG.error("policy refused", extra={"fields": fields})
        if self.metrics is not None:
            self.metrics.policy_edited(accepted=False)

    def policy_forgotten(self, digest: str, *, because: str) -> None:
        LOG.warning("policy revision not kept", extra={"fields": {"digest": digest, "because": because}})


class _Unwatched:
    """flows.policy_reload.PolicyWatcher of a trial: the processes that serve tell it all."""

    def policy_in_force(self, status: PolicyStatus, *, before: str | None, by: str) -> None:
        """Not told."""

    def policy_refused(self, refused: Refused, *, stays: str) -> None:
        """Not told."""

    def policy_forgotten(self, digest: str, *, because: str) -> None:
        """Not told."""


def policy_keeper(settings: Settings, database: Database, watcher: PolicyWatcher, *, clock: Clock) -> PolicyKeeper:
    """Follows the files of these settings and the pin of this database."""
    return PolicyKeeper(
        PolicyRooms(
            shelf=PolicyShelf(settings.policies),
            history=PostgresPolicyHistory(database),
            ledger=PostgresLedgerBook(database),
            clock=clock,
            watcher=watcher,
            compile=compile_here,
        )
    )


async def open_policy(keeper: PolicyKeeper) -> PolicySlot:
    """The policy to start with. Raises PolicyInvalid, or SetupError while Postgres is away."""
    try:
        return await keeper.open()
    except BooksAway as fault:
        raise SetupError(str(fault)) from fault


def check_start(settings: Settings, url: str) -> None:
    """Raises PolicyInvalid or SetupError when no process could start: before many of them try it, again and again."""
    asyncio.run(_check_start(settings, url))


async def _check_start(settings: Settings, url: str) -> None:
    async with Database(url, application="breakeven start") as database:
        await open_policy(policy_keeper(settings, database, _Unwatched(), clock=SystemClock()))
