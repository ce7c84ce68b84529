"""Both accounts of the same calls, for tests: attempts as the books have them, lines as a seller writes them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.domain.ledger.billing import BilledCall, BilledTokens, OurCall
from app.domain.ledger.period import Period
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars, shown
from app.domain.pricing.charge import charge
from app.domain.usage import Usage, UsageSource
from tests.makers import CARD, NOON, an_attempt
from tests.ports.ledger_book_suite import receipt, request_id

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
THE_DAY = Period(since=MIDNIGHT, until=MIDNIGHT + timedelta(days=1))
USAGE = Usage(prompt=900, output=100, cached=128)
HEAD = ("request_id", "time", "model", "input_tokens", "cached_tokens", "output_tokens", "service_tier", "cost")


def our_call(**named: object) -> OurCall:
    """Asked and counted at noon unless told otherwise; its charge is that of its usage."""
    usage = named.get("usage", USAGE)
    assert isinstance(usage, Usage)
    began_at = named.get("began_at", NOON)
    assert isinstance(began_at, datetime)
    cost = named.get("charge", charge(usage=usage, price=CARD))
    values: dict[str, object] = {
        "attempt_id": f"{request_id(1)}/1",
        "provider_request_id": "req-1",
        "target": "hosted",
        "model": "gpt-5-mini",
        "began_at": began_at,
        "ended_at": began_at + timedelta(seconds=2),
        "usage": usage,
        "usage_source": UsageSource.PROVIDER_FINAL,
        "price": CARD,
        "charge": cost,
        "counted": ((began_at.date(), cost),),
        **named,
    }
    return OurCall(**values)  # type: ignore[arg-type]


def billed(ours: OurCall, **named: object) -> BilledCall:
    """The seller's line of this very call, unless told otherwise."""
    values: dict[str, object] = {
        "line": 2,
        "ids": (ours.provider_request_id,),
        "at": ours.began_at,
        "model": ours.model,
        "tokens": told(ours.usage),
        "tier": ours.usage.tier or "default",
        "cost": ours.charge,
        **named,
    }
    return BilledCall(**values)  # type: ignore[arg-type]


def told(usage: Usage) -> BilledTokens:
    return BilledTokens(prompt=usage.prompt, cached=usage.cached, cache_write=usage.cache_write, output=usage.output)


def hosted(number: int, *, at: datetime = NOON, **named: object) -> Receipt:
    """A receipt of one attempt at a managed target, whose seller calls it `req-NUMBER`."""
    usage = named.get("usage", USAGE)
    assert isinstance(usage, Usage)
    at_us = round(at.timestamp() * 1e6) + number * 1000
    values: dict[str, object] = {
        "attempt_id": f"{request_id(number)}/1",
        "target": "hosted",
        "hosting": "managed",
        "kind": "openai",
        "upstream_model": "gpt-5-mini",
        "provider_request_id": f"req-{number}",
        "started_us": at_us + 100,
        "charge": charge(usage=usage, price=CARD),
        **named,
    }
    return replace(receipt(number, at_us=at_us), attempts=(an_attempt(**values),))


def line_of(given: Receipt, **named: str) -> dict[str, str]:
    """The line of a seller's export that fits the receipt, with some cells changed."""
    (attempt,) = given.attempts
    at = datetime.fromtimestamp(attempt.started_us / 1e6, UTC)
    return {
        "request_id": attempt.provider_request_id or "",
        "time": at.isoformat(),
        "model": attempt.upstream_model,
        "input_tokens": str(attempt.usage.prompt),
        "cached_tokens": str(attempt.usage.cached),
        "output_tokens": str(attempt.usage.output),
        "service_tier": attempt.usage.tier or "default",
        "cost": shown(attempt.charge),
        **named,
    }


def csv_of(lines: Iterable[dict[str, str]], *, head: tuple[str, ...] = HEAD) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=head, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def usd(amount: int) -> str:
    return shown(Nanodollars(amount))
