"""Attempts in memory, as a MemoryLedgerBook and a MemoryAdjustmentBook hold them. No month is ever closed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.domain.ledger.adjustment import Adjustment
from app.domain.ledger.billing import OurCall
from app.domain.ledger.receipt import Attempt, Receipt
from app.domain.money import Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import Usage
from app.ports.billing import BORDER, CalledTarget, CallsQuery
from tests.fakes.adjustment_book import MemoryAdjustmentBook
from tests.fakes.ledger_book import MemoryLedgerBook

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryCallBook:
    """`ports.billing.CallBook`."""

    def __init__(self, ledger: MemoryLedgerBook, adjustments: MemoryAdjustmentBook, *, batch_most: int = 3) -> None:
        self._ledger = ledger
        self._adjustments = adjustments
        self._batch_most = batch_most

    async def targets(self, *, since: datetime, until: datetime) -> Sequence[CalledTarget]:
        self._ledger.answer_or_be_away()
        counted = Counter(
            (attempt.target, attempt.kind, attempt.hosting)
            for receipt, attempt in self._attempts()
            if since <= _moment(receipt.at_us) < until
        )
        return tuple(
            CalledTarget(name=name, kind=kind, hosting=hosting, attempts=attempts)
            for (name, kind, hosting), attempts in sorted(counted.items())
        )

    async def calls(self, query: CallsQuery) -> AsyncIterator[Sequence[OurCall]]:
        self._ledger.answer_or_be_away()
        calls = [
            _call(receipt, attempt, self._of(attempt), query)
            for receipt, attempt in sorted(self._attempts(), key=lambda pair: pair[1].attempt_id)
            if attempt.target in query.targets and query.since - BORDER <= _moment(receipt.at_us) < query.until + BORDER
        ]
        for place in range(0, len(calls), self._batch_most):
            yield tuple(calls[place : place + self._batch_most])

    def _attempts(self) -> Iterator[tuple[Receipt, Attempt]]:
        return ((receipt, attempt) for receipt in self._ledger.receipts.values() for attempt in receipt.attempts)

    def _of(self, attempt: Attempt) -> list[Adjustment]:
        return [one for one in self._adjustments.adjustments.values() if one.attempt_id == attempt.attempt_id]


def _call(receipt: Receipt, attempt: Attempt, adjustments: Sequence[Adjustment], query: CallsQuery) -> OurCall:
    at = _moment(receipt.at_us)
    began_at = _moment(attempt.started_us)
    charge = Nanodollars(attempt.charge + sum(one.amount for one in adjustments))
    digests = [one.rate_card_digest for one in adjustments if one.rate_card_digest]
    return OurCall(
        attempt_id=attempt.attempt_id,
        provider_request_id=attempt.provider_request_id,
        target=attempt.target,
        model=attempt.upstream_model,
        began_at=began_at,
        ended_at=began_at + timedelta(seconds=attempt.duration_s),
        usage=_adjusted(attempt.usage, adjustments),
        usage_source=attempt.usage_source,
        price=RateCard(
            prompt=attempt.price_prompt,
            cached_prompt=attempt.price_cached_prompt,
            output=attempt.price_output,
            origin="row",
            digest=[attempt.rate_card_digest, *digests][-1],
        ),
        charge=charge,
        credit=Nanodollars(sum(one.amount for one in adjustments if _is_credit(one))),
        counted=((at.date(), charge),) if query.since <= at < query.until else (),
    )


def _adjusted(usage: Usage, adjustments: Iterable[Adjustment]) -> Usage:
    for one in adjustments:
        usage = replace(
            usage,
            prompt=usage.prompt + one.prompt_added,
            cached=usage.cached + one.cached_added,
            output=usage.output + one.output_added,
            reasoning=usage.reasoning + one.reasoning_added,
        )
    return usage


def _is_credit(one: Adjustment) -> bool:
    return not (one.rate_card_digest or one.prompt_added or one.cached_added or one.output_added or one.reasoning_added)


def _moment(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)
