"""One gateway process: the data plane, its spool, and what runs beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from app.bootstrap.alerts import check_webhook
from app.bootstrap.crash import Seams
from app.bootstrap.gateway_rooms import Rooms, open_rooms, report_bug
from app.bootstrap.logging_out import logging_to
from app.bootstrap.policy import read_policy
from app.bootstrap.policy_keeping import check_start
from app.bootstrap.postgres import database_url
from app.bootstrap.serving import listening, run, serve, serve_in_processes, stop_on_signals
from app.domain.errors import PolicyInvalid
from app.flows.budgets_watch import watch_budgets
from app.flows.follow_server import follow_server
from app.flows.keep_curves import CurveKeeper
from app.flows.keep_time import keep_time
from app.flows.prices import PricesInForce
from app.flows.rates import keep_rates_fresh
from app.flows.shadow import send_copies
from app.flows.ship import drain, ship
from app.ports import BooksAway
from app.settings import Settings
from app.storage.engine import Database
from app.storage.partitions import ensure_partitions
from app.storage.price_book import PostgresPriceBook
from app.storage.server_book import PostgresServerBook
from app.system import RandomIds, SteadyClock, jitter
from app.telemetry.loop_lag import watch_loop

LOG = logging.getLogger("breakeven")
#: How long the last receipts may take on their way to Postgres at a stop; the rest waits in the spool.
DRAIN_SHIPPING_S = 5.0
#: How long what was learned of targets may take on its way there.
LAST_CURVES_S = 2.0
PARTITIONS_EVERY_S = 86_400.0


def serve_gateway(settings: Settings, *, workers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT. Raises SetupError or PolicyInvalid when it cannot start."""
    check_webhook(settings)
    Seams.of(settings.crash_at)
    try:
        read_policy(settings)
        is_valid = True
    except PolicyInvalid:
        # A revision that was in force may serve in the place of these files.
        is_valid = False
    with (
        contextlib.closing(listening(settings.host, settings.port, variable="BREAKEVEN_PORT")) as listener,
        database_url(settings) as url,
    ):
        if not is_valid:
            check_start(settings, url)
        if workers == 1:
            _one_process(settings, url, listener, workers)
        else:
            serve_in_processes(workers, _one_process, (settings, url, listener, workers))


def _one_process(settings: Settings, url: str, listener: socket.socket, workers: int) -> None:
    run(_serve(settings, url, listener, workers=workers))


async def _serve(settings: Settings, url: str, listener: socket.socket, *, workers: int) -> None:
    stop = stop_on_signals()
    clock = SteadyClock()
    with logging_to(sys.stdout.fileno(), level=settings.log_level) as sink:
        async with open_rooms(settings, url, clock=clock, sink=sink, workers=workers) as rooms:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(work)
                    for work in (
                        ship(rooms.spool, rooms.ledger, listener=rooms.books, jitter=jitter),
                        *rooms.money.beside(),
                        rooms.repeats.keep(jitter=jitter, notice=LOG.warning),
                        follow_server(PostgresServerBook(rooms.database), rooms.spool, notice=LOG.warning),
                        keep_time(PostgresServerBook(rooms.database), clock, notice=LOG.warning),
                        *rooms.alerts.beside(rooms.gateway.policy),
                        *rooms.callers.beside(watcher=rooms.books, counter=rooms.gateway.fleet),
                        keep_rates_fresh(rooms.rates_book, rooms.gateway.fleet, rooms.gateway.policy),
                        _prices_in_force(rooms, clock).keep(),
                        _keep_partitions(rooms.database, clock),
                        watch_loop(_lag_told(rooms, clock), clock=clock),
                        rooms.policy_keeper.keep(rooms.gateway.fleet),
                        watch_budgets(rooms.spend_book, rooms.gateway.budgets, rooms.gateway.policy, clock=clock),
                        rooms.fleet_watch.keep(),
                        rooms.curves.keep(),
                        send_copies(rooms.gateway, ids=RandomIds(), report_bug=report_bug),
                    )
                ]
                LOG.info("gateway serves", extra={"fields": {"port": settings.port, "pid": os.getpid()}})
                await serve(
                    rooms.app,
                    listener,
                    stop=stop,
                    drain_s=settings.drain_s,
                    linger_s=settings.linger_s,
                    stopping=lambda: _stops(settings, rooms),
                )
                for task in beside:
                    task.cancel()
            await rooms.callers.end(counter=rooms.gateway.fleet)
            await _last_curves(rooms.curves)
            await rooms.money.end()
            await rooms.repeats.end()
            await drain(rooms.spool, rooms.ledger, within_s=DRAIN_SHIPPING_S, listener=rooms.books)
            await rooms.money.ended()
        LOG.info("gateway stopped", extra={"fields": {"pid": os.getpid()}})


def _stops(settings: Settings, rooms: Rooms) -> None:
    """Whoever waits for a full target when the process is told to stop may do so for half of the time that is left:
    then there is time for its answer too."""
    rooms.admission.stops()
    patience_s = settings.linger_s + settings.drain_s / 2
    asyncio.get_running_loop().call_later(patience_s, rooms.gateway.queues.stop)


def _lag_told(rooms: Rooms, clock: SteadyClock) -> Callable[[float], None]:
    """How late the loop is, for its metric and for whoever lets requests in."""

    def tell(lag_s: float) -> None:
        rooms.metrics.loop_lagged(lag_s)
        rooms.admission.lagged(lag_s, at_s=clock.monotonic_s())

    return tell


def _prices_in_force(rooms: Rooms, clock: SteadyClock) -> PricesInForce:
    gateway, book = rooms.gateway, PostgresPriceBook(rooms.database)
    return PricesInForce(book=book, fleet=gateway.fleet, slot=gateway.policy, clock=clock)


async def _keep_partitions(database: Database, clock: SteadyClock) -> None:
    """Months to come have their partitions made ahead, every day and at the start; whoever is first does it."""
    while True:
        with contextlib.suppress(BooksAway):
            await ensure_partitions(database, now=datetime.fromtimestamp(clock.unix_us() / 1e6, UTC))
        await asyncio.sleep(PARTITIONS_EVERY_S)


async def _last_curves(curves: CurveKeeper) -> None:
    """What was learned since the last time is for whoever starts next, if Postgres takes it at once."""
    with contextlib.suppress(BooksAway, TimeoutError):
        async with asyncio.timeout(LAST_CURVES_S):
            await curves.offer()
