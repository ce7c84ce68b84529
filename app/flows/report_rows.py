"""A cost report as plain values: rows of text for people, CSV for spreadsheets, numbers for programs."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Final

from app.domain.ledger.report import FEWEST_FOR_P99, CostLine, CostReport, Latency, Sums, percentile_ms
from app.domain.money import shown

NOT_KNOWN: Final = "–"
TOTAL: Final = "total"
#: What was refused before any dispatch has no target and no hosting.
NOWHERE: Final = "(not dispatched)"
#: The column that tells copies for shadows from answers; a table has it only when there are such copies.
COPIES: Final = "shadow"
#: What a spreadsheet would take for the beginning of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Times in ms; None where too little was observed to say it."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """Text in rows of equal length. The first `groups` columns are words, the others figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...]
    groups: int


def table(report: CostReport) -> ReportTable:
    """One row a line of the report, then the total."""
    copies = any(line.shadow for line in report.lines)
    dimensions = (*(dimension.value for dimension in report.query.by), *((COPIES,) if copies else ()))
    blank = (TOTAL, *("" for _ in dimensions[1:])) if dimensions else ()
    return ReportTable(
        head=(*(name.replace("_", " ") for name in dimensions), *_FIGURES),
        rows=tuple(
            (*(word or NOWHERE for word in line.group), *((_copy(line),) if copies else ()), *_figures(line.sums))
            for line in report.lines
        ),
        total=(*blank, *_figures(report.total)),
        groups=len(dimensions),
    )


def hosting_table(report: CostReport) -> ReportTable:
    """Self-hosted against managed: one row a hosting, then the total."""
    rows = tuple(
        (hosting.replace("_", "-") or NOWHERE, *_figures(sums)) for hosting, sums in sorted(report.by_hosting.items())
    )
    return ReportTable(head=("hosting", *_FIGURES), rows=rows, total=(TOTAL, *_figures(report.total)), groups=1)


def csv_text(report: CostReport) -> str:
    """One line a group and no total, as spreadsheets add up themselves. Money is exact; unknown figures are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = [_flat(line.sums) for line in report.lines] or [_flat(Sums())]
    writer.writerow([*(dimension.value for dimension in report.query.by), *columns[0], COPIES])
    for line, figures in zip(report.lines, columns, strict=False):
        words = [f"'{word}" if word.startswith(_FORMULA) else word for word in line.group]
        writer.writerow([*words, *("" if figure is None else figure for figure in figures.values()), _copy(line)])
    return out.getvalue()


def as_plain(report: CostReport) -> dict[str, object]:
    """Everything, for programs: counts are whole numbers, dollars exact text, times ms, unknown figures None."""
    names = [dimension.value for dimension in report.query.by]
    return {
        "since": report.query.since.isoformat(),
        "until": report.query.until.isoformat(),
        **({} if report.query.as_of is None else {"as_of": report.query.as_of.isoformat()}),
        "by": names,
        "lines": [
            {**dict(zip(names, line.group, strict=True)), **_flat(line.sums), COPIES: line.shadow}
            for line in report.lines
        ],
        "total": _flat(report.total),
        "by_hosting": {hosting: _flat(sums) for hosting, sums in sorted(report.by_hosting.items())},
    }


def percentiles(sums: Sums, kind: Latency) -> Percentiles:
    """p50 and p95 of what was observed; p99 only from `FEWEST_FOR_P99` observations on."""
    histogram = sums.latency.get(kind, {})
    count = sum(histogram.values())
    return Percentiles(
        count=count,
        p50=percentile_ms(histogram, share=0.50),
        p95=percentile_ms(histogram, share=0.95),
        p99=percentile_ms(histogram, share=0.99) if count >= FEWEST_FOR_P99 else None,
    )


def tokens_per_s(sums: Sums) -> float | None:
    """How fast one stream runs: output tokens after the first over the seconds they took."""
    return sums.decode_tokens / sums.decode_s if sums.decode_s > 0 else None


def cached_share(sums: Sums) -> float | None:
    """Cached prompt tokens over all prompt tokens, 0 to 1."""
    return sums.cached_tokens / sums.prompt_tokens if sums.prompt_tokens else None


_FIGURES: Final = (
    "requests",
    "refused",
    "failed",
    "prompt tokens",
    "cached",
    "output tokens",
    "TTFT p50 ms",
    "TTFT p95 ms",
    "TTFT p99 ms",
    "TPOT p50 ms",
    "TPOT p95 ms",
    "duration p50 ms",
    "duration p95 ms",
    "tokens/s",
    "estimated",
    "charge USD",
)


def _figures(sums: Sums) -> tuple[str, ...]:
    ttft, tpot, duration = (percentiles(sums, kind) for kind in (Latency.TTFT, Latency.TPOT, Latency.DURATION))
    estimated = sums.estimated_attempts / sums.attempts if sums.attempts else None
    return (
        f"{sums.requests:,}",
        f"{sums.refused:,}",
        f"{sums.broken + sums.interrupted:,}",
        f"{sums.prompt_tokens:,}",
        _percent(cached_share(sums)),
        f"{sums.output_tokens:,}",
        _ms(ttft.p50),
        _ms(ttft.p95),
        _ms(ttft.p99),
        _ms(tpot.p50),
        _ms(tpot.p95),
        _ms(duration.p50),
        _ms(duration.p95),
        NOT_KNOWN if (speed := tokens_per_s(sums)) is None else f"{speed:.1f}",
        _percent(estimated),
        shown(sums.charge),
    )


def _copy(line: CostLine) -> str:
    return COPIES if line.shadow else ""


def _flat(sums: Sums) -> dict[str, object]:
    times: dict[str, object] = {}
    for kind in Latency:
        seen = percentiles(sums, kind)
        times[f"{kind.value}_observations"] = seen.count
        for name, value in (("p50", seen.p50), ("p95", seen.p95), ("p99", seen.p99)):
            times[f"{kind.value}_{name}_ms"] = None if value is None else round(value, 3)
    return {
        "requests": sums.requests,
        "complete": sums.complete,
        "abandoned": sums.abandoned,
        "broken": sums.broken,
        "refused": sums.refused,
        "interrupted": sums.interrupted,
        "attempts": sums.attempts,
        "estimated_attempts": sums.estimated_attempts,
        "prompt_tokens": sums.prompt_tokens,
        "cached_tokens": sums.cached_tokens,
        "cached_share": _rounded(cached_share(sums)),
        "output_tokens": sums.output_tokens,
        "reasoning_tokens": sums.reasoning_tokens,
        "tokens_per_s": _rounded(tokens_per_s(sums)),
        **times,
        "charge_usd": shown(sums.charge),
        "charge_nanodollars": int(sums.charge),
    }


def _ms(value: float | None) -> str:
    if value is None:
        return NOT_KNOWN
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _percent(share: float | None) -> str:
    return NOT_KNOWN if share is None else f"{100 * share:.1f} %"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
