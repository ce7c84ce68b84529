"""The console's process: the control plane on its own port, over the same books."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import sys

from app.bootstrap.logging_out import logging_to
from app.bootstrap.policy_archive import policy_archive
from app.bootstrap.policy_keeping import PolicyLog, open_policy, policy_keeper
from app.bootstrap.postgres import database_url
from app.bootstrap.run_files import metrics_of_all, run_directory
from app.bootstrap.serving import listening, run, serve, stop_on_signals
from app.console.app import console_app
from app.console.health import Health, target_states
from app.console.rooms import ConsoleRooms
from app.domain.errors import SetupError
from app.domain.keys import Peppers
from app.flows.keep_time import keep_time, set_by_books
from app.flows.keys import make_operator_key
from app.flows.rates import keep_rates_fresh, refresh_rates
from app.live.fleet import Fleet
from app.live.keys import KnownOperator
from app.live.policy_slot import PolicySlot
from app.ports import BooksAway, RatesBook
from app.providers.credentials import NamedCredentials
from app.settings import Settings
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.alert_book import PostgresAlertBook
from app.storage.budget_book import PostgresBudgetBook
from app.storage.engine import Database
from app.storage.key_book import PostgresKeyBook
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.pepper import OperatorKeyFile, PepperFile
from app.storage.rates_book import PostgresRatesBook
from app.storage.report_book import PostgresReportBook
from app.storage.server_book import PostgresServerBook
from app.storage.spend_book import PostgresSpendBook
from app.storage.team_book import PostgresTeamBook
from app.system import SteadyClock, random_bytes
from app.telemetry.exposition import merge

LOG = logging.getLogger("breakeven")
DRAIN_S = 5.0
_DEPTH = re.compile(rb"^breakeven_spool_depth\S* (\S+)$", re.MULTILINE)
_REFUSING = re.compile(rb"^breakeven_spool_refusing\S* (\S+)$", re.MULTILINE)
_QUARANTINED = re.compile(rb"^breakeven_spool_quarantined\S* (\S+)$", re.MULTILINE)


def serve_console(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SetupError when it cannot start."""
    run_directory(settings)  # what is wrong with it is said now, and not at the first look for metrics
    with (
        contextlib.closing(
            listening(settings.console_host, settings.console_port, variable="BREAKEVEN_CONSOLE_PORT")
        ) as listener,
        database_url(settings) as url,
    ):
        run(_serve(settings, url, listener))


async def _serve(settings: Settings, url: str, listener: socket.socket) -> None:
    stop = stop_on_signals()
    clock = SteadyClock()
    credentials = NamedCredentials(os.environ, directory=settings.credentials)
    fleet = Fleet(has_credential=credentials.is_present, today=clock.today)
    peppers = PepperFile(settings.data / "pepper", random_bytes=random_bytes).open()
    with logging_to(sys.stdout.fileno(), level=settings.log_level):
        async with Database(url, application="breakeven console") as database:
            rates, time_book = PostgresRatesBook(database), PostgresServerBook(database)
            with contextlib.suppress(BooksAway):
                await set_by_books(time_book, clock, notice=LOG.warning)
            keeper = policy_keeper(settings, database, PolicyLog(), clock=clock)
            slot = await open_policy(keeper)
            fleet.follow(slot.current)

            async def health() -> Health:
                return await _health(settings, rates, fleet, slot, at_s=clock.monotonic_s())

            async def metrics() -> bytes:
                return merge(await metrics_of_all(settings))

            app = console_app(
                ConsoleRooms(
                    operator=_operator(settings, peppers),
                    clock=clock,
                    ledger=PostgresLedgerBook(database),
                    adjustments=PostgresAdjustmentBook(database),
                    reports=PostgresReportBook(database),
                    budgets=PostgresBudgetBook(database),
                    spend=PostgresSpendBook(database),
                    alerts=PostgresAlertBook(database),
                    keys=PostgresKeyBook(database),
                    teams=PostgresTeamBook(database),
                    peppers=peppers,
                    random_bytes=random_bytes,
                    archive=policy_archive(settings, database),
                    policy=lambda: slot.current,
                    policy_status=lambda: slot.status,
                    fleet=lambda: fleet.view(at_s=clock.monotonic_s()),
                    health=health,
                    metrics=metrics,
                )
            )
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(work)
                    for work in (
                        keep_rates_fresh(rates, fleet, slot),
                        keeper.keep(fleet),
                        keep_time(time_book, clock, notice=LOG.warning),
                    )
                ]
                await serve(app, listener, stop=stop, drain_s=DRAIN_S)
                for task in beside:
                    task.cancel()


def _operator(settings: Settings, peppers: Peppers) -> KnownOperator:
    """The operator's key by its digest; the first start makes it and shows it, that once."""
    file = OperatorKeyFile(settings.data / "operator-key", random_bytes=random_bytes)
    if file.read() is None:
        text, digest = make_operator_key(peppers=peppers, random_bytes=random_bytes)
        if file.keep(digest, pepper_version=peppers.newest.version):
            sys.stderr.write(f"The operator's key for the console, shown this once: {text}\n")
            sys.stderr.flush()
    kept = file.read()
    assert kept is not None, "it was made above, by us or by another process"
    digest, version = kept
    pepper = peppers.by_version.get(version)
    if pepper is None:
        raise SetupError(
            f"the operator's key rests on pepper {version}, which {settings.data / 'pepper'} does not hold: restore "
            "that file, or remove operator-key beside it so that the next start makes a new key"
        )
    return KnownOperator(digest=digest, pepper=pepper)


async def _health(settings: Settings, rates: RatesBook, fleet: Fleet, slot: PolicySlot, *, at_s: float) -> Health:
    try:
        await refresh_rates(rates, fleet, slot)
        postgres_up = True
    except BooksAway:
        postgres_up = False
    texts = b"\n".join((await metrics_of_all(settings)).values())
    return Health(
        postgres_up=postgres_up,
        policy_digest=slot.current.digest,
        policy_warning=slot.status.warning(),
        targets=target_states(slot.current, fleet.view(at_s=at_s)),
        spool_depth=_sum(_DEPTH, texts),
        spool_refusing=_sum(_REFUSING, texts),
        spool_quarantined=_sum(_QUARANTINED, texts),
    )


def _sum(pattern: re.Pattern[bytes], texts: bytes) -> int | None:
    found = pattern.findall(texts)
    return sum(int(float(value)) for value in found) if found else None
