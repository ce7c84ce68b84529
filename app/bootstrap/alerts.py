"""Alerts of budgets in one process: raised from the books, written to the log, posted to the receiver there is."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.alert import Alert, alert_text
from app.domain.errors import SetupError
from app.flows.alerts import Delivery, a_test, send
from app.flows.budget_warnings import BudgetWarnings
from app.live.policy_slot import PolicySlot
from app.ports import Clock
from app.ports.alerts import NotTaken
from app.providers.credentials import NamedCredentials
from app.providers.exchange import HttpClient
from app.providers.http import http_client
from app.providers.webhook import Webhook
from app.settings import Settings
from app.storage.alert_book import PostgresAlertBook
from app.storage.budget_book import PostgresBudgetBook
from app.storage.engine import Database
from app.storage.spend_book import PostgresSpendBook
from app.system import RandomIds, SystemClock, jitter
from app.telemetry.money import MoneyMeter

LOG = logging.getLogger("breakeven.alerts")


class AlertLog:
    """flows.budget_warnings.BudgetListener and flows.alerts.DeliveryListener: log lines, and the counts."""

    def __init__(self, meter: MoneyMeter) -> None:
        self._meter = meter

    def budgets_used(self, used: Mapping[str, float]) -> None:
        self._meter.budgets_used(used)

    def alert_raised(self, alert: Alert) -> None:
        self._meter.alert_raised(alert)
        LOG.warning(alert_text(alert), extra={"fields": _fields(alert)})

    def alert_delivered(self, alert: Alert) -> None:
        self._meter.alert_delivered(alert)
        LOG.info("alert delivered", extra={"fields": _fields(alert)})

    def alert_failed(self, alert: Alert, *, error: str, is_last: bool) -> None:
        self._meter.alert_failed(alert, error=error, is_last=is_last)
        what = "alert given up: see `breakeven budget alerts`" if is_last else "alert not delivered yet"
        LOG.warning(what, extra={"fields": {**_fields(alert), "error": error}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """What runs beside the requests. Without a webhook nothing is sent, and alerts wait in the books."""

    warnings: BudgetWarnings
    delivery: Delivery | None

    def beside(self, policy: PolicySlot) -> list[Coroutine[Any, Any, None]]:
        """Each runs until cancelled."""
        sending = [] if self.delivery is None else [self.delivery.keep()]
        return [self.warnings.keep(policy, jitter=jitter), *sending]


def check_webhook(settings: Settings) -> None:
    """Raises SetupError for a receiver whose alerts could not be signed."""
    if settings.alert_webhook_url is not None and settings.alert_webhook_secret is None:
        raise SetupError(
            "BREAKEVEN_ALERT_WEBHOOK_URL is set and nothing signs what goes there: set BREAKEVEN_ALERT_WEBHOOK_SECRET "
            "to env:NAME or file:NAME"
        )


def alerts(settings: Settings, database: Database, client: HttpClient, *, clock: Clock, meter: MoneyMeter) -> Alerts:
    """Opens nothing. Raises SetupError for a webhook whose alerts could not be signed."""
    log, book = AlertLog(meter), PostgresAlertBook(database)
    webhook, delivery = _webhook(settings, client), None
    if webhook is not None:
        door, secret = webhook
        delivery = Delivery(book=book, door=door, secret=secret, clock=clock, listener=log, jitter=jitter)
    warnings = BudgetWarnings(
        book=PostgresBudgetBook(database),
        spend=PostgresSpendBook(database),
        alerts=book,
        clock=clock,
        ids=RandomIds(),
        listener=log,
    )
    return Alerts(warnings=warnings, delivery=delivery)


async def send_test_alert(settings: Settings) -> str:
    """Post a signed test alert, once; its id. Raises SetupError when there is no receiver, or when it does not take
    the alert."""
    async with contextlib.AsyncExitStack() as stack:
        client = http_client()
        stack.push_async_callback(client.close)
        webhook = _webhook(settings, client)
        if webhook is None:
            raise SetupError("no receiver of alerts is set: set BREAKEVEN_ALERT_WEBHOOK_URL and …_SECRET")
        door, secret = webhook
        clock = SystemClock()
        alert = a_test(clock=clock, ids=RandomIds())
        try:
            await send(alert, door=door, secret=secret(), at_us=clock.unix_us())
        except NotTaken as fault:
            raise SetupError(
                f"the receiver at BREAKEVEN_ALERT_WEBHOOK_URL did not take the test alert: {fault}"
            ) from fault
        return alert.alert_id


def _webhook(settings: Settings, client: HttpClient) -> tuple[Webhook, Callable[[], str | None]] | None:
    check_webhook(settings)
    url, reference = settings.alert_webhook_url, settings.alert_webhook_secret
    if url is None or reference is None:
        return None
    credentials = NamedCredentials(os.environ, directory=settings.credentials)
    return Webhook(client, url), lambda: credentials.secret(reference)


def _fields(alert: Alert) -> dict[str, object]:
    return {"alert": alert.alert_id, "kind": alert.kind.value, "budget": alert.budget}
