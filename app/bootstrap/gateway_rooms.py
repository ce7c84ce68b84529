"""The rooms of one gateway process: what it is made of, each part given what it needs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from app.api.cold import ColdRooms, cold_app
from app.api.hot import HotRoutes
from app.api.problems import status_of
from app.bootstrap.alerts import Alerts, alerts
from app.bootstrap.callers import Callers, callers
from app.bootstrap.crash import Seams
from app.bootstrap.money import Money, money
from app.bootstrap.policy_keeping import PolicyLog, open_policy, policy_keeper
from app.bootstrap.readiness import closed, readiness
from app.bootstrap.run_files import metrics_socket
from app.bootstrap.serving import App
from app.domain.errors import SetupError
from app.domain.target import Target
from app.flows.gateway import Copy, Gateway
from app.flows.keep_curves import CurveKeeper
from app.flows.keep_time import set_by_books
from app.flows.policy_reload import PolicyKeeper
from app.flows.rates import refresh_rates
from app.flows.repeats import Repeats
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
from app.storage.rates_book import PostgresRatesBook
from app.storage.repeat_book import PostgresRepeatBook
from app.storage.server_book import PostgresServerBook
from app.storage.spend_book import PostgresSpendBook
from app.storage.spool import Spool, SpoolLimits
from app.system import RandomIds, SteadyClock, SystemClock, jitter
from app.telemetry.logs import ReceiptLog
from app.telemetry.metrics import Gauges, PrometheusReadings
from app.telemetry.readings import AllReadings
from app.telemetry.sink import LineSink

LOG = logging.getLogger("breakeven")
#: For idempotency keys, so that whoever sends many of them is in nobody else's way.
REPEATS_CONNECTIONS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """All of them, ready to serve."""

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
async def open_rooms(
    settings: Settings, url: str, *, clock: SteadyClock, sink: LineSink, workers: int
) -> AsyncIterator[Rooms]:
    """The rooms for the length of a block. Raises SetupError while Postgres cannot be asked for keys and prices."""
    seams = Seams.of(settings.crash_at)
    fleet, retries, admission = _fleet(settings, clock, workers), RetryBudget(), Admission(most=settings.requests_most)
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(_books(url, clock))
        calling, rates_book = callers(settings, url, database, clock=clock), PostgresRatesBook(database)
        policy_log = PolicyLog()
        keeper = policy_keeper(settings, database, policy_log, clock=clock)
        policy = await open_policy(keeper)
        curves = CurveKeeper(PostgresCurveBook(database), fleet, clock=clock, jitter=jitter, notice=LOG.warning)
        await _first_look(calling, rates_book, fleet, policy, curves)
        spool = await stack.enter_async_context(_spool(settings, clock))
        client = await stack.enter_async_context(_client(seams))
        shadows, queues, books, ledger = Shadows[Copy](), Queues(), BooksSeen(), PostgresLedgerBook(database)
        metrics = _metrics(policy, fleet, spool, sink, shadows, retries, admission, queues, books)
        policy_log.metrics = metrics
        await stack.enter_async_context(metrics_socket(settings, metrics.text))
        repeat_book = PostgresRepeatBook(await stack.enter_async_context(_repeats_database(url)))
        repeats = Repeats(repeat_book, holder=spool.home)
        watch = _fleet_watch(settings, client, fleet, policy, clock=clock)
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
            make_sure=watch.make_sure,
            closed=lambda: closed(settings, books),
        )
        yield Rooms(
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
            fleet_watch=watch,
            curves=curves,
            books=books,
        )


@contextlib.asynccontextmanager
async def _books(url: str, clock: SteadyClock) -> AsyncIterator[Database]:
    """The way to Postgres, whose time the clock has before anything is judged by it or named after it."""
    async with Database(url, application="breakeven gateway") as database:
        try:
            await set_by_books(PostgresServerBook(database), clock, notice=LOG.warning)
        except BooksAway as fault:
            raise SetupError(str(fault)) from fault
        yield database


@contextlib.asynccontextmanager
async def _client(seams: Seams) -> AsyncIterator[HttpClient]:
    client = seams.client()
    try:
        yield client
    finally:
        await client.close()


def _fleet(settings: Settings, clock: SystemClock, workers: int) -> Fleet:
    has_credential = _credentials(settings).is_present
    return Fleet(has_credential=has_credential, today=clock.today, notice=LOG.warning, processes=workers)


def _fleet_watch(
    settings: Settings, client: HttpClient, fleet: Fleet, policy: PolicySlot, *, clock: SystemClock
) -> FleetWatch:
    probe = HttpEngineProbe(client, _credentials(settings), clock)
    return FleetWatch(probe, fleet, policy, clock=clock, jitter=jitter, notice=LOG.warning)


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
            readiness=lambda: readiness(settings, spool, books, gateway.policy, admission),
            report_bug=report_bug,
        )
    )
    return HotRoutes(
        rest=rest,
        gateway=gateway,
        keys=calling.known,
        ids=RandomIds(),
        admission=admission,
        body_limit_bytes=settings.body_limit_mib * MIB,
        report_bug=report_bug,
        refused=metrics.money.refused,
        repeats=repeats,
    )


def _repeats_database(url: str) -> Database:
    return Database(url, application="breakeven gateway repeats", connections_most=REPEATS_CONNECTIONS)


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


def report_bug(request_id: str, bug: BaseException) -> None:
    """Tell whoever reads the log of an error that is our own."""
    LOG.error("a request failed on a bug", exc_info=bug, extra={"fields": {"request": request_id}})
