"""JSON logs: one line an event, one line a settled receipt; never a word of a prompt, for a receipt has none.

A line is ASCII-safe where it matters: no text, whoever it comes from, can begin a line or speak to a terminal. What
looks like a key is blotted out.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from app.domain.ledger.receipt import Receipt
from app.domain.money import shown
from app.telemetry.sink import LineSink

LONGEST_MESSAGE: Final = 4000
LONGEST_TRACE: Final = 8000

_MICROSECONDS: Final = 1_000_000
_SECRETS: Final = re.compile(r"\b(?:bk|bkop|sk|gsk|hf|xai|AIza)[_-][0-9A-Za-z_\-]{12,}|(?i:\bbearer\s+)[^\s\"',}]{8,}")
_BLOT: Final = "[key]"
#: Beyond ASCII, what ends a line for somebody (NEL, LS, PS), C1 controls, and marks that turn the direction of text.
_UNSAFE: Final = re.compile("[\x80-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class ReceiptLog:
    """ports.Readings: the log line of a receipt."""

    def __init__(self, sink: LineSink) -> None:
        self._offer = sink.offer
        self._second = -1
        self._second_text = ""

    def dispatched(self, *, target: str) -> None:
        """Nothing is logged before the receipt is settled."""

    def waited(self, *, target: str, waited_s: float, ended: str) -> None:
        """The receipt says it."""

    def settled(self, receipt: Receipt) -> None:
        """Queue the receipt's line."""
        self._offer(receipt_line(receipt, at=self._at(receipt.at_us)))

    def _at(self, at_us: int) -> str:
        """As `_moment`; the text of a second is made once."""
        second, fraction_us = divmod(at_us, _MICROSECONDS)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).isoformat(timespec="seconds")[:-6]
        return f"{self._second_text}.{fraction_us // 1000:03d}Z"


class EventLog(logging.Handler):
    """The handler for Python's own logging: `logger.info("shipped", extra={"fields": {"receipts": 500}})` becomes a
    line with `event` and those fields."""

    def __init__(self, sink: LineSink, *, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = event_line(record)
        except Exception as fault:  # whatever a strange object in a log call does, it must not break its caller
            line = _encoded({"level": "error", "event": "unreadable log record", "fault": type(fault).__name__})
        self.sink.offer(line)


class _ReceiptLine(msgspec.Struct, omit_defaults=True, gc=False):
    """What is worth a line; everything else stands in the ledger under the same id."""

    at: str
    level: str
    event: str
    request_id: str
    outcome: str
    status: int
    key: str
    team: str
    cost_centre: str
    model: str
    endpoint: str
    stream: bool
    policy: str
    rule: str | None
    duration_ms: float
    overhead_ms: float
    charge_usd: str
    attempts: int
    target: str | None = None
    hosting: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    usage_source: str | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    fault: str | None = None
    fault_message: str | None = None
    refusal: str | None = None
    caller_label: str | None = None
    shadow_of: str | None = None
    waited_ms: float | None = None
    flags: tuple[str, ...] = ()


def receipt_line(receipt: Receipt, *, at: str | None = None) -> bytes:
    """The line of a receipt, without a line break at its end. `at` is its moment as text, where that is known."""
    facts, final, attempts = receipt.facts, receipt.final, receipt.attempts
    caller, label = facts.caller, receipt.caller_label
    line = _ReceiptLine(
        _moment(receipt.at_us / _MICROSECONDS) if at is None else at,
        "info",
        "receipt",
        receipt.request_id,
        receipt.outcome,
        receipt.status,
        caller.key_id,
        caller.team,
        caller.cost_centre,
        facts.model,
        facts.endpoint,
        facts.stream,
        receipt.policy_digest,
        receipt.decision.rule,
        round(receipt.duration_s * 1000, 3),
        round(receipt.overhead_s * 1000, 3),
        shown(receipt.charge),
        len(attempts),
    )
    if label is not None:
        line.caller_label = _tame(label, longest=128)
    if receipt.shadow_of is not None:
        line.shadow_of = receipt.shadow_of
    if receipt.flags:
        line.waited_ms = round(receipt.waited_s * 1000) or None
    if final is None:
        line.flags = receipt.flags
        line.refusal = _tame(getattr(receipt.decision, "message", ""))
        return _encoded(line)
    usage = final.usage
    line.target, line.hosting, line.usage_source = final.target, final.hosting, final.usage_source
    line.prompt_tokens, line.cached_tokens, line.output_tokens = usage.prompt, usage.cached, usage.output
    line.ttft_ms = None if final.ttft_s is None else round(final.ttft_s * 1000, 3)
    line.tpot_ms = None if final.tpot_s is None else round(final.tpot_s * 1000, 3)
    line.flags = (*receipt.flags, *final.flags)
    if final.fault is not None:
        line.fault, line.fault_message = final.fault, _tame(final.fault_message or "")
    return _encoded(line)


def event_line(record: logging.LogRecord) -> bytes:
    """The line of an event: `at`, `level`, `logger`, `event`, the record's own fields, and a trace if there is one."""
    try:
        message = record.getMessage()
    except (TypeError, ValueError):
        message = str(record.msg)
    line: dict[str, object] = {
        "at": _moment(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": _tame(message),
    }
    extra = getattr(record, "fields", None)
    if isinstance(extra, Mapping):
        for name, value in extra.items():
            line.setdefault(_tame(str(name), longest=64), _plain(value))
    if record.exc_info and record.exc_info[0] is not None:
        line["trace"] = _tame("".join(traceback.format_exception(*record.exc_info)), longest=LONGEST_TRACE)
    return _encoded(line)


def dropped_line(count: int, *, at_s: Callable[[], float]) -> bytes:
    """Says that so many lines are missing here. `at_s` reads the wall clock in Unix seconds."""
    return _encoded({"at": _moment(at_s()), "level": "warning", "event": "log lines dropped", "lines": count})


def _encoded(line: object) -> bytes:
    try:
        text = msgspec.json.encode(line)
    except UnicodeEncodeError:
        # A lone surrogate somewhere; written out in escapes it is harmless.
        text = msgspec.json.encode(_without_surrogates(msgspec.to_builtins(line)))
    if text.isascii():
        return text
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text.decode()).encode()


def _tame(text: str, *, longest: int = LONGEST_MESSAGE) -> str:
    cut = text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"
    return _SECRETS.sub(_BLOT, cut)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _tame(value if isinstance(value, str) else str(value))


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_without_surrogates(name): _without_surrogates(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(each) for each in value]
    return value


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
