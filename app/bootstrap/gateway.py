"""One gateway process: the data plane, its spool, and what runs beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from app.api.cold import ColdRooms, Readiness, cold_app
from app.api.hot import HotRoutes
from app.api.problems import status_of
from app.bootstrap.alerts import Alerts, alerts, check_webhook
from app.bootstrap.callers import Callers, callers
from app.bootstrap.crash import Seams
from app.bootstrap.logging_out import logging_to
from app.bootstrap.money import Money, money
from app.bootstrap.policy import read_policy
from app.bootstrap.policy_keeping import PolicyLog, check_start, open_policy, policy_keeper
from app.bootstrap.postgres import database_url
from app.bootstrap.run_files import metrics_socket
from app.bootstrap.serving import App, listening, run, serve, serve_in_processes, stop_on_signals
from app.domain.errors import PolicyInvalid, SetupError
from app.domain.target import Target
from app.flows.budgets_watch import watch_budgets
from app.flows.follow_server import follow_server
from app.flows.gateway import Copy, Gateway
from app.flows.keep_curves import CurveKeeper
from app.flows.policy_reload import PolicyKeeper
from app.flows.prices import PricesInForce
from app.flows.rates import keep_rates_fresh, refresh_rates
from app.flows.repeats import Repeats
from app.flows.shadow import send_copies
from app.flows.ship import drain, ship
from app.flows.watch_fleet import FleetWatch
from app.live.admission import Admission
from app.live.books_seen import BooksSeen
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot
from app.live.queues import Queues
from app.live.recent import RecentReceipts
from app.live.retry_budget import RetryBudget
from app.live.shadows import Shadows
from app.ports import BooksAway, LedgerBook, Provider
from app.providers.credentials import NamedCredentials
from app.providers.engine_probe import HttpEngineProbe
from app.providers.exchange import HttpClient
from app.providers.openai_native import OpenAiProvider
from app.settings import MIB, Settings
from app.storage.curve_book import PostgresCurveBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.partitions import ensure_partitions
from app.storage.price_book import PostgresPriceBook
from app.storage.rates_book import PostgresRatesBook
from app.storage.repeat_book import PostgresRepeatBook
from app.storage.server_book import PostgresServerBook
from app.storage.spend_book import PostgresSpendBook
from app.storage.spool import Spool, SpoolLimits
from app.system import RandomIds, SystemClock, jitter
from app.telemetry.logs import ReceiptLog
from app.telemetry.loop_lag import watch_loop
from app.telemetry.metrics import Gauges, PrometheusReadings
from app.telemetry.readings import AllReadings
from app.telemetry.sink import LineSink

LOG = logging.getLogger("breakeven")
#: How long the last receipts may take on their way to Postgres at a stop; the rest waits in the spool.
DRAIN_SHIPPING_S = 5.0
#: How long what was learned of targets may take on its way there.
LAST_CURVES_S = 2.0
PARTITIONS_EVERY_S = 86_400.0
#: For idempotency keys, so that whoever sends many of them is in nobody else's way.
REPEATS_CONNECTIONS = 2


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
    clock = SystemClock()
    with logging_to(sys.stdout.fileno(), level=settings.log_level) as sink:
        async with _rooms(settings, url, clock=clock, sink=sink, workers=workers) as rooms:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(work)
                    for work in (
                        ship(rooms.spool, rooms.ledger, listener=rooms.books, jitter=jitter),
                        *rooms.money.beside(),
                        rooms.repeats.keep(jitter=jitter),
                        follow_server(PostgresServerBook(rooms.database), rooms.spool, notice=LOG.warning),
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
                        send_copies(rooms.gateway, ids=RandomIds(), report_bug=_report_bug),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rooms:
    app: App
    gateway: Gateway
    money: Money
    repeats: Repeats
    alerts: Alerts
    spool: Spool
    admission: Admission
    ledger: LedgerBook
    callers: Callers
    rates_book: PostgresRatesBook
    spend_book: PostgresSpendBook
    database: Database
    metrics: PrometheusReadings
    policy_keeper: PolicyKeeper
    fleet_watch: FleetWatch
    curves: CurveKeeper
    books: BooksSeen


@contextlib.asynccontextmanager
async def _rooms(
    settings: Settings, url: str, *, clock: SystemClock, sink: LineSink, workers: int
) -> AsyncIterator[_Rooms]:
    seams = Seams.of(settings.crash_at)
    fleet, retries = _fleet(settings, clock, workers), RetryBudget()
    admission = Admission(most=settings.requests_most)
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(url, application="breakeven gateway"))
        calling, rates_book = callers(settings, url, database, clock=clock), PostgresRatesBook(database)
        policy_log = PolicyLog()
        keeper = policy_keeper(settings, database, policy_log)
        policy = await open_policy(keeper)
        curves = CurveKeeper(PostgresCurveBook(database), fleet, clock=clock, jitter=jitter)
        await _first_look(calling, rates_book, fleet, policy, curves)
        spool = await stack.enter_async_context(_spool(settings, clock))
        client = seams.client()
        stack.push_async_callback(client.close)
        shadows: Shadows[Copy] = Shadows()
        queues, books = Queues(), BooksSeen()
        metrics = _metrics(policy, fleet, spool, sink, shadows, retries, admission, queues, books)
        policy_log.metrics = metrics
        await stack.enter_async_context(metrics_socket(settings, metrics.text))
        repeat_book = PostgresRepeatBook(await stack.enter_async_context(_repeats_database(url)))
        repeats = Repeats(repeat_book, holder=spool.home)
        our_money = money(database, spool, clock=clock, policy=policy, close_too=repeat_book.close)
        gateway = Gateway(
            clock=clock,
            limits=calling.gate,
            treasury=our_money.treasury,
            policy=policy,
            fleet=fleet,
            journal=seams.journal(spool),
            provider_of=_only(seams.provider(OpenAiProvider(client, _credentials(settings)))),
            readings=AllReadings(metrics, ReceiptLog(sink)),
            recent=RecentReceipts(),
            status_of=status_of,
            shadows=shadows,
            retries=retries,
            queues=queues,
            closed=lambda: _closed(settings, books),
        )
        ledger = PostgresLedgerBook(database)
        yield _Rooms(
            app=seams.app(_app(settings, gateway, calling, admission, ledger, spool, metrics, books, repeats)),
            gateway=gateway,
            money=our_money,
            repeats=repeats,
            alerts=alerts(settings, database, client, clock=clock, meter=metrics.money),
            spool=spool,
            admission=admission,
            ledger=seams.book(ledger),
            callers=calling,
            rates_book=rates_book,
            spend_book=PostgresSpendBook(database),
            database=database,
            metrics=metrics,
            policy_keeper=keeper,
            fleet_watch=_fleet_watch(settings, client, fleet, policy, clock=clock),
            curves=curves,
            books=books,
        )


def _stops(settings: Settings, rooms: _Rooms) -> None:
    """Whoever waits for a full target when the process is told to stop may do so for half of the time that is left:
    then there is time for its answer too."""
    rooms.admission.stops()
    patience_s = settings.linger_s + settings.drain_s / 2
    asyncio.get_running_loop().call_later(patience_s, rooms.gateway.queues.stop)


def _lag_told(rooms: _Rooms, clock: SystemClock) -> Callable[[float], None]:
    """How late the loop is, for its metric and for whoever lets requests in."""

    def tell(lag_s: float) -> None:
        rooms.metrics.loop_lagged(lag_s)
        rooms.admission.lagged(lag_s, at_s=clock.monotonic_s())

    return tell


def _fleet(settings: Settings, clock: SystemClock, workers: int) -> Fleet:
    has_credential = _credentials(settings).is_present
    return Fleet(has_credential=has_credential, today=clock.today, notice=LOG.warning, processes=workers)


def _fleet_watch(
    settings: Settings, client: HttpClient, fleet: Fleet, policy: PolicySlot, *, clock: SystemClock
) -> FleetWatch:
    probe = HttpEngineProbe(client, _credentials(settings), clock)
    return FleetWatch(probe, fleet, policy, clock=clock, jitter=jitter, notice=LOG.warning)


def _prices_in_force(rooms: _Rooms, clock: SystemClock) -> PricesInForce:
    gateway, book = rooms.gateway, PostgresPriceBook(rooms.database)
    return PricesInForce(book=book, fleet=gateway.fleet, slot=gateway.policy, clock=clock)


def _credentials(settings: Settings) -> NamedCredentials:
    return NamedCredentials(os.environ, directory=settings.credentials)


def _only(provider: Provider) -> Callable[[Target], Provider]:
    """Every target of today speaks OpenAI's dialect."""
    return lambda target: provider


def _spool(settings: Settings, clock: SystemClock) -> contextlib.AbstractAsyncContextManager[Spool]:
    return Spool.open(
        settings.spool_directory,
        durability=settings.durability,
        limits=SpoolLimits(cap=settings.spool_cap_mib * MIB, tail_s=settings.spool_tail_s),
        clock=clock,
        notice=LOG.warning,
    )


def _metrics(
    policy: PolicySlot,
    fleet: Fleet,
    spool: Spool,
    sink: LineSink,
    shadows: Shadows[Copy],
    retries: RetryBudget,
    admission: Admission,
    queues: Queues,
    books: BooksSeen,
) -> PrometheusReadings:
    return PrometheusReadings(
        Gauges(
            policy_digest=lambda: policy.current.digest,
            policy_refused=lambda: policy.status.refused is not None or policy.status.pin_refused is not None,
            postgres_up=lambda: books.are_there,
            shipped=lambda: books.booked,
            in_flight=fleet.in_flight,
            resting=fleet.resting,
            queued=queues.lengths,
            retries_refused=lambda: retries.refused,
            shed=lambda: admission.shed,
            spool_depth=lambda: spool.depth,
            spool_refusing=lambda: spool.trouble is not None,
            spool_quarantined=lambda: spool.quarantined,
            log_lines_dropped=lambda: sink.dropped,
            shadows_dropped=shadows.dropped,
        )
    )


def _app(
    settings: Settings,
    gateway: Gateway,
    calling: Callers,
    admission: Admission,
    ledger: PostgresLedgerBook,
    spool: Spool,
    metrics: PrometheusReadings,
    books: BooksSeen,
    repeats: Repeats,
) -> HotRoutes:
    rest = cold_app(
        ColdRooms(
            gateway=gateway,
            keys=calling.known,
            ledger=ledger,
            clock=gateway.clock,
            ids=RandomIds(),
            readiness=lambda: _readiness(settings, spool, books, gateway.policy, admission),
            report_bug=_report_bug,
        )
    )
    return HotRoutes(
        rest=rest,
        gateway=gateway,
        keys=calling.known,
        ids=RandomIds(),
        admission=admission,
        body_limit_bytes=settings.body_limit_mib * MIB,
        report_bug=_report_bug,
        refused=metrics.money.refused,
        repeats=repeats,
    )


def _repeats_database(url: str) -> Database:
    return Database(url, application="breakeven gateway repeats", connections_most=REPEATS_CONNECTIONS)


async def _keep_partitions(database: Database, clock: SystemClock) -> None:
    """Months to come have their partitions made ahead, every day and at the start; whoever is first does it."""
    while True:
        with contextlib.suppress(BooksAway):
            await ensure_partitions(database, now=datetime.fromtimestamp(clock.unix_us() / 1e6, UTC))
        await asyncio.sleep(PARTITIONS_EVERY_S)


async def _first_look(
    calling: Callers, rates_book: PostgresRatesBook, fleet: Fleet, slot: PolicySlot, curves: CurveKeeper
) -> None:
    """Know keys and prices before the first request, and how fast targets were. A gateway that knows no key would
    refuse everybody; one that knows no curve learns it anew."""
    try:
        await calling.look()
        await refresh_rates(rates_book, fleet, slot)
    except BooksAway as fault:
        raise SetupError(str(fault)) from fault
    with contextlib.suppress(BooksAway):
        await curves.recall()


async def _last_curves(curves: CurveKeeper) -> None:
    """What was learned since the last time is for whoever starts next, if Postgres takes it at once."""
    with contextlib.suppress(BooksAway, TimeoutError):
        async with asyncio.timeout(LAST_CURVES_S):
            await curves.offer()


def _closed(settings: Settings, books: BooksSeen) -> str | None:
    """Why nobody is served; None: requests are."""
    if settings.on_ledger_down == "spool" or books.are_there is not False:
        return None
    return "Postgres is away, and BREAKEVEN_ON_LEDGER_DOWN is refuse: try again when it is back"


def _readiness(
    settings: Settings, spool: Spool, books: BooksSeen, policy: PolicySlot, admission: Admission
) -> Readiness:
    refusing: dict[str, str] = {} if spool.trouble is None else {"spool": spool.trouble}
    if admission.stopping:
        refusing["process"] = "it was told to stop, and ends once what it answers now is answered"
    warnings: dict[str, str] = {}
    if (reason := _closed(settings, books)) is not None:
        refusing["postgres"] = reason
    elif books.are_there is False:
        warnings["postgres"] = f"it is away; {spool.depth} receipts wait in the spool, and requests are still served"
    if (edited := policy.status.warning()) is not None:
        warnings["policy"] = edited
    return Readiness(refusing=refusing, warnings=warnings)


def _report_bug(request_id: str, bug: BaseException) -> None:
    LOG.error("a request failed on a bug", exc_info=bug, extra={"fields": {"request": request_id}})
