"""A seller's export of what it bills: recognised by its columns, its money exact decimals, its times UTC.

What stands there is read whole or not at all: the first line that cannot be is named, and nothing else is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from app.documents.export_rows import ANTHROPIC, Row, read_rows
from app.domain.errors import BadRequest
from app.domain.ledger.billing import BilledCall, BilledDay, BilledTokens, Export
from app.domain.money import Nanodollars, from_dollars

#: What a column may be called, the first that is there counts.
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "request": ("provider_request_id", "request_id", "x_request_id", "generation_id", "id"),
    "attempt": ("attempt_id", "client_request_id", "x_client_request_id"),
    "time": (
        *("time", "timestamp", "created_at", "created", "datetime", "start_time", "starting_at", "start_time_iso"),
        *("day", "date", "usage_date", "at"),
    ),
    "end": ("end_time", "ending_at", "end_time_iso"),
    "model": ("model", "model_name", "line_item", "description", "cost_type"),
    "prompt": ("input_tokens", "prompt_tokens", "tokens_prompt", "usage_input_tokens", "usage_prompt_tokens"),
    "computed": ("uncached_input_tokens",),
    "cached": (
        *("cached_tokens", "input_cached_tokens", "cached_input_tokens", "cached_prompt_tokens"),
        *("cache_read_input_tokens", "usage_prompt_tokens_details_cached_tokens", "usage_input_tokens_details_cached"),
    ),
    "cache_write": ("cache_write_tokens", "input_cache_write_tokens", "cache_creation_input_tokens"),
    "cache_write_5m": ("cache_creation_ephemeral_5m_input_tokens",),
    "cache_write_1h": ("cache_creation_ephemeral_1h_input_tokens",),
    "output": (
        "output_tokens",
        "completion_tokens",
        "tokens_completion",
        "usage_output_tokens",
        "usage_completion_tokens",
    ),
    "requests": ("requests", "num_model_requests", "num_requests", "request_count"),
    "tier": ("service_tier", "tier"),
    "cost": ("cost", "cost_usd", "amount_value", "amount_usd", "total_cost", "charge_usd", "usd", "amount"),
    "cents": ("cost_cents", "amount_cents"),
    "currency": ("currency", "amount_currency"),
    "project": ("project_id", "project", "project_name", "workspace_id"),
}
_TOKENS: Final = ("prompt", "computed", "cached", "cache_write", "cache_write_5m", "cache_write_1h", "output")
_MONEY: Final = ("cost", "cents")
#: More is no count of tokens of a day.
_TOKENS_MOST: Final = 10**15
_COST_MOST_USD: Final = 10**9
#: Unix times beyond this are milliseconds.
_SECONDS_MOST: Final = 10**11
#: Sellers whose bills are in dollars write cents at least; so coarse is the rounding of "12" at most.
_DECIMALS_FEWEST: Final = 2
_DECIMALS_MOST: Final = 9

UNDERSTOOD: Final = (
    "requests one by one (columns request_id or attempt_id, time, model, cost, and input_tokens, cached_tokens, "
    "output_tokens, service_tier); days (columns day, model, and cost, input_tokens, cached_tokens, output_tokens, "
    "requests, service_tier, project_id); pages of OpenAI's organization/costs and organization/usage/completions, and "
    "of Anthropic's cost_report and usage_report/messages; as CSV, JSON or a JSON document a line"
)


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    calls: list[BilledCall] = field(default_factory=list)
    days: list[BilledDay] = field(default_factory=list)
    providers: set[str] = field(default_factory=set)
    decimals: int = _DECIMALS_FEWEST


def read_export(files: Iterable[tuple[str, Iterable[str]]]) -> Export:
    """All files together, each its name and its lines: several parts of one export, or its tokens and its costs.

    Raises BadRequest, with file and line, for a form that is not understood, for money that is not in dollars, and for
    whatever cannot be true.
    """
    reading = _Reading()
    for name, lines in files:
        for row in read_rows(name, lines):
            _read(reading, row)
    if reading.calls and reading.days:
        raise BadRequest("one file names requests and another days: give them one at a time", param="file")
    if len(reading.providers) > 1:
        raise BadRequest("the files are of different sellers: give them one at a time", param="file")
    return Export(
        calls=tuple(reading.calls),
        days=tuple(reading.days),
        provider="".join(reading.providers),
        unit=Nanodollars(10 ** (_DECIMALS_MOST - min(reading.decimals, _DECIMALS_MOST))),
    )


def _read(reading: _Reading, row: Row) -> None:
    cells = dict(_cells(row))
    if row.provider:
        reading.providers.add(row.provider)
    if row.provider == ANTHROPIC and "cost" in cells:
        cells["cents"] = cells.pop("cost")
    names = [cells[each] for each in ("request", "attempt") if each in cells]
    names_requests = any(_has(row, each) for each in ("request", "attempt"))
    if not _has(row, "time") or not any(_has(row, each) for each in (*_MONEY, *_TOKENS)):
        raise _not_understood(row)
    if names_requests and not any(_has(row, each) for each in _MONEY):
        raise BadRequest(f"{row.place}: requests without a cost: the export needs a column such as cost", param="file")
    if "time" not in cells:
        raise BadRequest(f"{row.place}: the line has no time: export it again", param="file")
    cost, decimals = _cost(row, cells)
    reading.decimals = max(reading.decimals, decimals)
    if names_requests:
        if cost is None:
            raise BadRequest(f"{row.place}: the request has no cost: write 0 where nothing is billed", param="file")
        reading.calls.append(_call(row, cells, tuple(names), cost))
    else:
        reading.days.append(_of_a_day(row, cells, cost))


def _has(row: Row, kind: str) -> bool:
    return any(column in row.values for column in _COLUMNS[kind])


def _cells(row: Row) -> Iterator[tuple[str, str]]:
    for kind, columns in _COLUMNS.items():
        for column in columns:
            if row.values.get(column):
                yield kind, row.values[column]
                break


def _not_understood(row: Row) -> BadRequest:
    found = ", ".join(list(row.values)[:20]) or "none"
    return BadRequest(
        f"{row.place}: this is no export that is understood (columns here: {found[:400]}). Understood are {UNDERSTOOD}",
        param="file",
    )


def _call(row: Row, cells: Mapping[str, str], ids: tuple[str, ...], cost: Nanodollars) -> BilledCall:
    return BilledCall(
        line=row.line,
        ids=ids,
        at=_moment(row, cells["time"]),
        model=sys.intern(_model(row, cells) or "(no model)"),
        tokens=_tokens(row, cells),
        tier=None if "tier" not in cells else sys.intern(cells["tier"]),
        cost=cost,
    )


def _of_a_day(row: Row, cells: Mapping[str, str], cost: Nanodollars | None) -> BilledDay:
    begin = _moment(row, cells["time"])
    if "end" in cells:
        end = _moment(row, cells["end"])
        if end.date() > begin.date() and end > _midnight_after(begin):
            raise BadRequest(f"{row.place}: longer than a UTC day: export it by day (bucket_width=1d)", param="file")
    return BilledDay(
        day=begin.date(),
        model=_model(row, cells),
        project=cells.get("project", ""),
        tier=cells.get("tier"),
        requests=_count(row, cells, "requests"),
        tokens=_tokens(row, cells),
        cost=cost,
    )


def _model(row: Row, cells: Mapping[str, str]) -> str | None:
    """OpenAI's line items are a model, a comma and a kind of tokens."""
    name = cells.get("model")
    if name is not None and name == row.values.get("line_item"):
        name = name.rpartition(", ")[0] or name
    return name


def _tokens(row: Row, cells: Mapping[str, str]) -> BilledTokens:
    prompt, computed, cached, written, short, long, output = (_count(row, cells, each) for each in _TOKENS)
    if short is not None or long is not None:
        written = (short or 0) + (long or 0)
    if prompt is None and computed is not None:
        prompt = computed + (cached or 0) + (written or 0)
    if prompt is not None and (cached or 0) + (written or 0) > prompt:
        raise BadRequest(
            f"{row.place}: {cached or 0} tokens of a cache and {written or 0} written to one are more than {prompt} "
            "input tokens: where the seller counts them beside the input, call that column uncached_input_tokens",
            param="file",
        )
    return BilledTokens(prompt=prompt, cached=cached, cache_write=written, output=output)


def _count(row: Row, cells: Mapping[str, str], kind: str) -> int | None:
    if kind not in cells:
        return None
    count = _decimal(row, cells[kind], kind="a count")
    if count != count.to_integral_value() or not 0 <= count <= _TOKENS_MOST:
        raise BadRequest(f"{row.place}: {cells[kind][:40]!r} is no count: write digits alone", param="file")
    return int(count)


def _cost(row: Row, cells: Mapping[str, str]) -> tuple[Nanodollars | None, int]:
    """The cost, and the decimals of a dollar it is written with."""
    currency = cells.get("currency", "USD")
    if currency.upper() != "USD":
        raise BadRequest(
            f"{row.place}: the money is in {currency[:10]!r}: export it in USD, as rates of exchange are not kept here",
            param="file",
        )
    kind = "cost" if "cost" in cells else "cents"
    if kind not in cells:
        return None, 0
    amount = _decimal(row, cells[kind], kind="an amount")
    usd = amount.scaleb(-2) if kind == "cents" else amount
    if abs(usd) > _COST_MOST_USD:
        raise BadRequest(f"{row.place}: {cells[kind][:40]!r} is no amount of money for one line", param="file")
    exponent = usd.as_tuple().exponent
    assert isinstance(exponent, int), "a finite number has an exponent"
    return from_dollars(usd), max(-exponent, 0)


def _decimal(row: Row, text: str, *, kind: str) -> Decimal:
    try:
        number = Decimal(text) if text.isascii() and "_" not in text else Decimal("nan")
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise BadRequest(
            f"{row.place}: {text[:40]!r} is no {kind.partition(' ')[2]}: write plain digits with a point, no sign of a "
            "currency and no commas",
            param="file",
        )
    return number


def _moment(row: Row, text: str) -> datetime:
    """Unix seconds or milliseconds, a day, or ISO 8601; one without an offset is taken for UTC."""
    try:
        if text.replace(".", "", 1).isdigit() and text.isascii():
            number = Decimal(text)
            seconds = number / 1000 if number > _SECONDS_MOST else number
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(seconds * 1_000_000))
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as fault:
        raise BadRequest(
            f"{row.place}: {text[:40]!r} is no time: write 2026-11-23, 2026-11-23T14:05:00Z or Unix seconds",
            param="file",
        ) from fault


def _midnight_after(moment: datetime) -> datetime:
    day: date = moment.date()
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
