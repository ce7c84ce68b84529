"""A report book in memory: sums made in Python, receipt by receipt, from what a MemoryLedgerBook holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.domain.ledger.receipt import Attempt, Receipt
from app.domain.ledger.report import SHADOW, CostLine, CostQuery, Dimension, Latency, Sums, added, bucket, checked
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.usage import UsageSource
from app.ports import Books
from tests.fakes.ledger_book import MemoryLedgerBook

NOT_ESTIMATED = (UsageSource.PROVIDER_FINAL, UsageSource.NOTHING_SENT)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryReportBook:
    """`ports.ReportBook` over a ledger book in memory."""

    def __init__(self, ledger: MemoryLedgerBook) -> None:
        self._ledger = ledger

    async def read(self, query: CostQuery) -> Books:
        checked(query)
        self._ledger.answer_or_be_away()
        asked = [receipt for receipt in self._ledger.receipts.values() if _is_asked_for(receipt, query)]
        with_latency = Dimension.KEY not in query.by
        lines = _grouped(asked, by=query.by, with_latency=with_latency)
        split = _grouped(asked, by=(Dimension.HOSTING,), with_latency=with_latency)
        return Books(
            lines=tuple(CostLine(group=group, sums=sums, shadow=shadow) for (group, shadow), sums in lines.items()),
            by_hosting=_by_hosting(split),
            ledger_charge=Nanodollars(sum(receipt.charge for receipt in asked)),
        )


def _is_asked_for(receipt: Receipt, query: CostQuery) -> bool:
    in_period = query.since <= _at(receipt) < query.until
    return in_period and (query.cost_centres is None or receipt.facts.caller.cost_centre in query.cost_centres)


def _at(receipt: Receipt) -> datetime:
    return EPOCH + timedelta(microseconds=receipt.at_us)


def _grouped(
    receipts: Iterable[Receipt], *, by: tuple[Dimension, ...], with_latency: bool
) -> Mapping[tuple[tuple[str, ...], bool], Sums]:
    groups: dict[tuple[tuple[str, ...], bool], list[Sums]] = {}
    for receipt in receipts:
        for attempt, sums in _counted(receipt, with_latency=with_latency):
            group = tuple(_value(receipt, attempt, dimension) for dimension in by)
            groups.setdefault((group, receipt.shadow_of is not None), []).append(sums)
    return {group: _settled(added(parts)) for group, parts in groups.items()}


def _by_hosting(split: Mapping[tuple[tuple[str, ...], bool], Sums]) -> Mapping[str, Sums]:
    parts: dict[str, list[Sums]] = {}
    for ((hosting,), shadow), sums in split.items():
        parts.setdefault(SHADOW if shadow else hosting, []).append(sums)
    return {name: _settled(added(each)) for name, each in parts.items()}


def _settled(sums: Sums) -> Sums:
    """Decode time is counted in whole microseconds: adding them up as floats must not show."""
    return replace(sums, decode_s=round(sums.decode_s * 1e6) / 1e6)


def _counted(receipt: Receipt, *, with_latency: bool) -> Iterator[tuple[Attempt | None, Sums]]:
    """The request for the attempt that ended it, then each attempt for itself."""
    yield (
        receipt.final,
        Sums(
            requests=1,
            complete=int(receipt.outcome is Outcome.COMPLETE),
            abandoned=int(receipt.outcome is Outcome.ABANDONED),
            broken=int(receipt.outcome is Outcome.BROKEN),
            refused=int(receipt.outcome is Outcome.REFUSED),
            interrupted=int(receipt.outcome is Outcome.INTERRUPTED),
            latency=_latency(receipt) if with_latency else {},
        ),
    )
    for attempt in receipt.attempts:
        decode_tokens = 0 if attempt.tpot_s is None else max(attempt.usage.output - 1, 0)
        yield (
            attempt,
            Sums(
                attempts=1,
                prompt_tokens=attempt.usage.prompt,
                cached_tokens=attempt.usage.cached,
                output_tokens=attempt.usage.output,
                reasoning_tokens=attempt.usage.reasoning,
                estimated_attempts=int(attempt.usage_source not in NOT_ESTIMATED),
                charge=attempt.charge,
                decode_tokens=decode_tokens,
                decode_s=round((attempt.tpot_s or 0.0) * decode_tokens * 1e6) / 1e6,
            ),
        )


def _latency(receipt: Receipt) -> dict[Latency, dict[int, int]]:
    final = receipt.final
    if final is None or receipt.outcome is not Outcome.COMPLETE:
        return {}
    times = {Latency.TTFT: final.ttft_s, Latency.TPOT: final.tpot_s, Latency.DURATION: receipt.duration_s}
    return {metric: {bucket(ms=time_s * 1000): 1} for metric, time_s in times.items() if time_s is not None}


def _value(receipt: Receipt, attempt: Attempt | None, dimension: Dimension) -> str:
    ways: Mapping[Dimension, Callable[[], str]] = {
        Dimension.TEAM: lambda: receipt.facts.caller.team,
        Dimension.COST_CENTRE: lambda: receipt.facts.caller.cost_centre,
        Dimension.KEY: lambda: receipt.facts.caller.key_id,
        Dimension.MODEL: lambda: receipt.facts.model,
        Dimension.TARGET: lambda: attempt.target if attempt else "",
        Dimension.HOSTING: lambda: attempt.hosting.value if attempt else "",
        Dimension.DAY: lambda: f"{_at(receipt):%Y-%m-%d}",
        Dimension.HOUR: lambda: f"{_at(receipt):%Y-%m-%dT%H:00Z}",
    }
    return ways[dimension]()
