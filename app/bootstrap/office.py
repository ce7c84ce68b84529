"""What commands work with: the books, the keys' secrets, a clock; and the measurement of a target."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from app.bootstrap.policy import read_policy
from app.bootstrap.policy_archive import policy_archive
from app.bootstrap.postgres import database_url
from app.domain.errors import SetupError
from app.domain.keys import Peppers
from app.domain.pricing.self_host import MeasuredRates
from app.domain.target import Hosting
from app.flows.calibrate import Measuring, calibrate
from app.flows.policy_archive import PolicyArchive
from app.ports import Clock, KeyBook, LedgerBook, RatesBook, ReportBook, SpendBook
from app.ports.alerts import AlertBook
from app.ports.billing import CallBook
from app.ports.corrections import RatedBook
from app.ports.keys import TeamBook
from app.ports.ledger import AdjustmentBook, BudgetBook, MonthBook, SuspectBook, VerifyBook
from app.ports.prices import PriceBook
from app.providers.credentials import NamedCredentials
from app.providers.http import http_client
from app.providers.openai_native import OpenAiProvider
from app.providers.version import engine_version
from app.settings import Settings
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.alert_book import PostgresAlertBook
from app.storage.budget_book import PostgresBudgetBook
from app.storage.call_book import PostgresCallBook
from app.storage.engine import Database
from app.storage.key_book import PostgresKeyBook
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.month_book import PostgresMonthBook
from app.storage.pepper import OperatorKeyFile, PepperFile
from app.storage.price_book import PostgresPriceBook
from app.storage.rated_book import PostgresRatedBook
from app.storage.rates_book import PostgresRatesBook
from app.storage.report_book import PostgresReportBook
from app.storage.spend_book import PostgresSpendBook
from app.storage.suspect_book import PostgresSuspectBook
from app.storage.team_book import PostgresTeamBook
from app.storage.verify_book import PostgresVerifyBook
from app.system import RandomIds, SystemClock, random_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """The books and what it takes to write in them."""

    keys: KeyBook
    teams: TeamBook
    ledger: LedgerBook
    suspects: SuspectBook
    reports: ReportBook
    months: MonthBook
    proof: VerifyBook
    budgets: BudgetBook
    spend: SpendBook
    alerts: AlertBook
    rates: RatesBook
    prices: PriceBook
    adjustments: AdjustmentBook
    rated: RatedBook
    calls: CallBook
    #: Policies by name and digest, and past decisions.
    archive: PolicyArchive
    clock: Clock
    peppers: Peppers
    operator_key: OperatorKeyFile
    random_bytes: Callable[[int], bytes]


@contextlib.asynccontextmanager
async def office(settings: Settings) -> AsyncIterator[Office]:
    """Open the books for a command. Raises SetupError; calls raise BooksAway while Postgres is away."""
    with contextlib.ExitStack() as stack:
        url = await asyncio.to_thread(stack.enter_context, database_url(settings))
        async with Database(url, application="breakeven command") as database:
            yield Office(
                keys=PostgresKeyBook(database),
                teams=PostgresTeamBook(database),
                ledger=PostgresLedgerBook(database),
                suspects=PostgresSuspectBook(database),
                reports=PostgresReportBook(database),
                months=PostgresMonthBook(database),
                proof=PostgresVerifyBook(database),
                budgets=PostgresBudgetBook(database),
                spend=PostgresSpendBook(database),
                alerts=PostgresAlertBook(database),
                rates=PostgresRatesBook(database),
                prices=PostgresPriceBook(database),
                adjustments=PostgresAdjustmentBook(database),
                rated=PostgresRatedBook(database),
                calls=PostgresCallBook(database),
                archive=policy_archive(settings, database),
                clock=SystemClock(),
                peppers=PepperFile(settings.data / "pepper", random_bytes=random_bytes).open(),
                operator_key=OperatorKeyFile(settings.data / "operator-key", random_bytes=random_bytes),
                random_bytes=random_bytes,
            )


async def measure_target(settings: Settings, *, target: str, progress: Callable[[str], None]) -> MeasuredRates:
    """Measure a self-hosted target of the policy and remember the result. Raises SetupError naming what is missing."""
    policy = read_policy(settings).policy
    known = policy.targets.get(target)
    if known is None or known.hosting is not Hosting.SELF_HOSTED:
        homes = ", ".join(sorted(each.name for each in policy.targets.values() if each.hosting is Hosting.SELF_HOSTED))
        raise SetupError(f'"{target}" is not a self-hosted target of the policy; those are: {homes or "none"}')
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        client = http_client()
        stack.push_async_callback(client.close)
        rates = await calibrate(
            Measuring(
                target=known,
                provider=OpenAiProvider(client, NamedCredentials(os.environ, directory=settings.credentials)),
                clock=clock,
                engine_version=await engine_version(known.url, kind=known.kind),
                seed=RandomIds().request_id(at_us=clock.unix_us()),
                progress=progress,
            )
        )
        rooms = await stack.enter_async_context(office(settings))
        await rooms.rates.remember(rates)
    return rates
