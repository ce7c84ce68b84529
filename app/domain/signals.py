"""What an engine says of itself: each signal is a number, missing or stale, and never a zero that nobody said.

The three cannot be mistaken for one another: none is a number, none can be asked whether it is true, and the number of
a stale one goes by another name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn

from app.domain.figures import in_digits


class SignalName(StrEnum):
    """The signals that the product knows. Seconds and tokens are totals since the engine started; rates are made of two
    readings, means of a sum and its count."""

    RUNNING = "running"
    WAITING = "waiting"
    #: Requests that it works on at once, at the most.
    SLOTS = "slots"
    #: 0 to 1; of several ranks the fullest.
    KV_USAGE = "kv_usage"
    KV_CAPACITY_TOKENS = "kv_capacity_tokens"
    #: Prompt tokens looked up in the prefix cache, and found there.
    PREFIX_QUERIES = "prefix_queries"
    PREFIX_HITS = "prefix_hits"
    #: Where the engine tells only the quotient, 0 to 1.
    PREFIX_HIT_RATE = "prefix_hit_rate"
    PROMPT_TOKENS = "prompt_tokens"
    CACHED_TOKENS = "cached_tokens"
    GENERATION_TOKENS = "generation_tokens"
    TTFT_SUM_S = "ttft_sum_s"
    TTFT_COUNT = "ttft_count"
    #: Between two tokens, over all tokens.
    ITL_SUM_S = "itl_sum_s"
    ITL_COUNT = "itl_count"
    #: The mean of a request, over all requests.
    TPOT_SUM_S = "tpot_sum_s"
    TPOT_COUNT = "tpot_count"
    QUEUE_SUM_S = "queue_sum_s"
    QUEUE_COUNT = "queue_count"
    PREFILL_SUM_S = "prefill_sum_s"
    DECODE_SUM_S = "decode_sum_s"
    PREEMPTIONS = "preemptions"
    REJECTIONS = "rejections"


class Absent(StrEnum):
    """Why a signal is missing, as the end of a sentence about the engine."""

    NEVER_READ = "nobody has asked it yet"
    NOT_OFFERED = "engines of this family do not tell it"
    UNREADABLE = "its page of figures could not be read"
    NOT_EMITTED = "its page of figures does not have it"
    NO_NUMBER = "what stands there is no number"
    ALWAYS_ZERO = "it stands there as a constant 0, which means that it is off"


class _NoNumber:
    """A signal asked for its truth would answer the same whatever it says; so it refuses."""

    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError("a signal is known, missing or stale: ask which it is")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known(_NoNumber):
    """The engine said so, `age_s` seconds ago."""

    number: float
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale(_NoNumber):
    """The engine said so once, too long ago to decide on."""

    last: float
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(_NoNumber):
    """Nobody knows."""

    why: Absent


Signal = Known | Missing | Stale


# ── where a signal stands ────────────────────────────────────────────────────────────────────────────────────────────


class Combine(StrEnum):
    """One engine, several series (a rank, a worker, a model each): what they are together."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    MEAN = "mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A metric of the engine's page in Prometheus' text format: `name{label="value"}`, or `name[label]` where the
    number is what a label says. `_total` at its end may be there or not."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    label: str | None = None

    def __str__(self) -> str:
        pairs = ",".join(f'{name}="{value}"' for name, value in self.labels)
        return self.name + (f"{{{pairs}}}" if pairs else "") + (f"[{self.label}]" if self.label else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A value in a JSON page of the engine: `/path#key[].key`. `[]` is each item of a list; at the end, 1 for each."""

    page: str
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}#{'.'.join(self.keys).replace('.[]', '[]')}"


Place = Series | Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A place, or two of them: the second one, combined by MAX, multiplies or divides."""

    of: Place
    times: Place | None = None
    over: Place | None = None

    def __str__(self) -> str:
        other = f" * {self.times}" if self.times is not None else f" / {self.over}" if self.over is not None else ""
        return f"{self.of}{other}"

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(place for place in (self.of, self.times, self.over) if place is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRule:
    """Where a family tells a signal: the first figure that is there stands, so newer names come before older ones."""

    figures: tuple[Figure, ...]
    combine: Combine = Combine.SUM
    scale: float = 1.0
    #: 0 means "switched off" there, not "none".
    zero_is_missing: bool = False

    def __str__(self) -> str:
        scale = "" if self.scale == 1 else f", scale {in_digits(self.scale, significant=None)}"
        zero = ", 0 is missing" if self.zero_is_missing else ""
        return f"[{', '.join(str(figure) for figure in self.figures)}] by {self.combine}{scale}{zero}"


def rule(*figures: str, by: Combine = Combine.SUM, scale: float = 1.0, zero_is_missing: bool = False) -> SignalRule:
    """A rule out of figures as people write them. Raises ValueError, with the end of a sentence."""
    return SignalRule(
        figures=tuple(figure(text) for text in figures), combine=by, scale=scale, zero_is_missing=zero_is_missing
    )


_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL: Final = r"[a-zA-Z_][a-zA-Z0-9_]*"
_PAIR: Final = rf'({_LABEL})="?([^",{{}}]*)"?'
_SERIES: Final = re.compile(rf"({_NAME})(?:\{{({_PAIR}(?:,{_PAIR})*)\}})?(?:\[({_LABEL})\])?")
_ENTRY: Final = re.compile(r"(/[^\s#]*)#((?:[A-Za-z0-9_\-]+|\[\])(?:\.?\[\]|\.[A-Za-z0-9_\-]+)*)")
_KEY: Final = re.compile(r"\[\]|[A-Za-z0-9_\-]+")


def figure(text: str) -> Figure:
    """`PLACE`, `PLACE * PLACE` or `PLACE / PLACE`. Raises ValueError, with the end of a sentence."""
    words = text.split()
    match words:
        case [of]:
            return Figure(of=place(of))
        case [of, "*", times]:
            return Figure(of=place(of), times=place(times))
        case [of, "/", over]:
            return Figure(of=place(of), over=place(over))
    raise ValueError('it must be one place, or two with " * " or " / " between them')


def place(text: str) -> Place:
    """`metric`, `metric{label="value"}`, `metric[label]`, or `/page#key[].key`. Raises ValueError, with the end of a
    sentence."""
    if text.startswith("/"):
        found = _ENTRY.fullmatch(text)
        if found is None:
            raise ValueError("an entry of a JSON page is written /page#key.key, with [] for each item of a list")
        return Entry(page=found[1], keys=tuple(_KEY.findall(found[2])))
    found = _SERIES.fullmatch(text)
    if found is None:
        raise ValueError('a metric is written name, name{label="value"} or name[label]')
    pairs = tuple((name, value) for name, value in re.findall(_PAIR, found[2] or ""))
    return Series(name=found[1], labels=pairs, label=found[7])


def entry(text: str) -> Entry:
    """A place in a JSON page. Raises ValueError, with the end of a sentence."""
    found = place(text)
    if isinstance(found, Series):
        raise ValueError("it must be an entry of a JSON page, written /page#key.key")
    return found


# ── what was read ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSignals:
    """All signals of one engine as they were read at one moment of the monotonic clock."""

    at_s: float
    numbers: Mapping[SignalName, float]
    missing: Mapping[SignalName, Absent]
    #: Why a page of figures could not be read, for people; empty: all could.
    faults: tuple[str, ...] = ()
    #: Lines of wanted metrics that made no sense.
    broken_lines: int = 0

    def signal(self, name: SignalName, *, at_s: float, usable_for_s: float) -> Signal:
        """The signal as it is known at `at_s`; older than `usable_for_s` it is stale."""
        number = self.numbers.get(name)
        if number is None:
            return Missing(why=self.missing.get(name, Absent.NEVER_READ))
        age_s = max(0.0, at_s - self.at_s)
        if age_s > usable_for_s:
            return Stale(last=number, age_s=age_s)
        return Known(number=number, age_s=age_s)


def nothing_read(*, why: str, at_s: float) -> EngineSignals:
    """Every signal missing, for one reason."""
    return EngineSignals(at_s=at_s, numbers={}, missing=dict.fromkeys(SignalName, Absent.UNREADABLE), faults=(why,))
