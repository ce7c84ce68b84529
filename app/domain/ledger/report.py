"""The cost report: sums over the books, whose parts add up to the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import floor, log

from app.domain.errors import BreakevenError
from app.domain.money import ZERO, Nanodollars

#: Latency histograms count in buckets whose edges grow by this factor: a percentile read back is within 5 %.
BUCKET_GROWTH = 1.1
#: Everything from 1.1^240 ms on (some hundred days) is counted in one bucket.
LAST_BUCKET = 240
#: Fewer observations than this say nothing about a p99.
FEWEST_FOR_P99 = 500
#: Where the split by hosting puts copies for shadows, wherever they went.
SHADOW = "shadow"


class Dimension(StrEnum):
    """What a report may be grouped by."""

    TEAM = "team"
    COST_CENTRE = "cost_centre"
    KEY = "key"
    MODEL = "model"
    TARGET = "target"
    HOSTING = "hosting"
    DAY = "day"
    HOUR = "hour"


class Latency(StrEnum):
    """Which time a histogram counts."""

    TTFT = "ttft"
    TPOT = "tpot"
    DURATION = "duration"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostQuery:
    """`since` inclusive, `until` exclusive, both aware. No dimension: one line, the whole; an empty period: none.

    The books keep whole hours, and whole UTC days by key: `checked` says whether they can answer.
    """

    since: datetime
    until: datetime
    by: tuple[Dimension, ...] = ()
    #: Only these cost centres; None: all.
    cost_centres: frozenset[str] | None = None
    #: Only what was booked before this moment (aware): the report as it was then. None: all that is booked.
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Additive figures of a line. Histograms map bucket → count."""

    requests: int = 0
    attempts: int = 0
    complete: int = 0
    abandoned: int = 0
    broken: int = 0
    refused: int = 0
    interrupted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    estimated_attempts: int = 0
    charge: Nanodollars = ZERO
    #: Output tokens after the first, and the seconds they took: their quotient is tokens per second.
    decode_tokens: int = 0
    decode_s: float = 0.0
    latency: Mapping[Latency, Mapping[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One group. `group` has one value for each dimension of the query, in its order.

    A day reads 2026-11-23 and an hour 2026-11-23T14:00Z, both UTC. Target and hosting of what was refused before a
    dispatch are "".
    """

    group: tuple[str, ...]
    sums: Sums
    #: Copies that went to shadows, not answers that somebody asked for.
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Lines in a total order (answers first, charge falling, then group), their total, and the split by hosting."""

    query: CostQuery
    lines: tuple[CostLine, ...]
    total: Sums
    by_hosting: Mapping[str, Sums]


def checked(query: CostQuery) -> CostQuery:
    """The query, if the books can answer it exactly. Raises ValueError, saying what to ask instead."""
    if query.since.tzinfo is None or query.until.tzinfo is None:
        raise ValueError("a report's period needs a timezone: give `since` and `until` as aware times")
    if query.as_of is not None and query.as_of.tzinfo is None:
        raise ValueError("the moment of an earlier report needs a timezone: give `as_of` as an aware time")
    if query.since > query.until:
        raise ValueError(f"the period ends ({query.until}) before it begins ({query.since}): swap the two")
    by_key = Dimension.KEY in query.by
    if by_key and Dimension.HOUR in query.by:
        raise ValueError("keys are booked by the day, not by the hour: group by key and day, or leave one of them out")
    for name, moment in (("begin", query.since), ("end", query.until)):
        floor_of_step = _whole_step(moment, day=by_key)
        if floor_of_step != moment:
            step, length = ("UTC day", timedelta(days=1)) if by_key else ("hour", timedelta(hours=1))
            raise ValueError(
                f"a report grouped this way is kept by the whole {step}, and {moment.isoformat()} is inside one: "
                f"{name} it at {floor_of_step.isoformat()} or at {(floor_of_step + length).isoformat()}"
            )
    return query


def _whole_step(moment: datetime, *, day: bool) -> datetime:
    in_utc = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return in_utc.replace(hour=0) if day else in_utc


def bucket(*, ms: float) -> int:
    """The histogram bucket of a time: floor(ln(max(ms, 1)) / ln 1.1), at most the last, as the roll-ups store it."""
    return floor(min(log(max(ms, 1.0)) / log(BUCKET_GROWTH), LAST_BUCKET))


def percentile_ms(histogram: Mapping[int, int], *, share: float) -> float | None:
    """The time below which `share` (0 to 1) of the observations lie, in ms; None without any.

    Read as 1.1^(b + 0.5) of the first bucket where the running count reaches the share.
    """
    count = sum(histogram.values())
    if count == 0:
        return None
    seen = 0
    for place in sorted(histogram):
        seen += histogram[place]
        if seen >= share * count:
            return float(BUCKET_GROWTH ** (place + 0.5))
    raise AssertionError("a running count reaches its own sum")


def added(parts: Sequence[Sums]) -> Sums:
    """The sum of parts, histograms included."""
    latency: dict[Latency, dict[int, int]] = {}
    for part in parts:
        for kind, histogram in part.latency.items():
            into = latency.setdefault(kind, {})
            for place, count in histogram.items():
                into[place] = into.get(place, 0) + count
    return Sums(
        requests=sum(part.requests for part in parts),
        attempts=sum(part.attempts for part in parts),
        complete=sum(part.complete for part in parts),
        abandoned=sum(part.abandoned for part in parts),
        broken=sum(part.broken for part in parts),
        refused=sum(part.refused for part in parts),
        interrupted=sum(part.interrupted for part in parts),
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        cached_tokens=sum(part.cached_tokens for part in parts),
        output_tokens=sum(part.output_tokens for part in parts),
        reasoning_tokens=sum(part.reasoning_tokens for part in parts),
        estimated_attempts=sum(part.estimated_attempts for part in parts),
        charge=Nanodollars(sum(part.charge for part in parts)),
        decode_tokens=sum(part.decode_tokens for part in parts),
        decode_s=sum(part.decode_s for part in parts),
        latency=latency,
    )


class BooksDisagree(BreakevenError):
    """The lines of a report do not sum to what the ledger holds; nothing is shown rather than something false."""


def compiled(
    *, query: CostQuery, lines: Sequence[CostLine], by_hosting: Mapping[str, Sums], ledger_charge: Nanodollars
) -> CostReport:
    """The report, after proof: the lines, the split by hosting and the ledger agree to the last nanodollar."""
    total = added([line.sums for line in lines])
    split = added(list(by_hosting.values()))
    if not total.charge == split.charge == ledger_charge:
        raise BooksDisagree(
            f"the report's lines sum to {total.charge} nanodollars, its hosting split to {split.charge}, the ledger to "
            f"{ledger_charge}: run `breakeven db migrate`, then report this with the period asked for"
        )
    ordered = sorted(lines, key=lambda line: (line.shadow, -line.sums.charge, line.group))
    return CostReport(query=query, lines=tuple(ordered), total=total, by_hosting=by_hosting)
