"""What is known of a family of engines: where it tells its load, how it spells its failures, how it is started.

A family is data. Those that the product knows stand in `providers/engines/`; a policy changes them, or adds its own,
under `engines:`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from app.domain.fault import FaultKind
from app.domain.signals import EngineSignals, Entry, Place, Series, SignalName, SignalRule

#: Prompt tokens of one step, where nothing else is known (vLLM's default of `max_num_batched_tokens`).
STEP_TOKENS: Final = 2048
#: How the names of a policy's own engines begin. Such a one is made after another, and so looks like that.
OWN_PREFIX: Final = "own-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How a target spells a failure. Fits an answer whose status is one of `statuses` (empty: any), and that has one of
    `codes` as its code or type, or one of `phrases` in its message. All in lower case. Both empty: the status alone
    decides."""

    kind: FaultKind
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()


class Reports(StrEnum):
    """Whether engines of a family report something."""

    ALWAYS = "always"
    #: When they are started for it.
    IF_TOLD = "if told"
    NEVER = "never"
    UNKNOWN = "unknown"


class Sooner(StrEnum):
    """Which priority an engine serves sooner."""

    LOWER = "lower"
    LARGER = "larger"
    #: It knows no priorities.
    NONE = "none"


class OnAbort(StrEnum):
    """What an engine does when its caller closes the connection."""

    STOPS = "stops the work"
    STOPS_UNVERIFIED = "is said to stop the work"
    UNKNOWN = "is not known to stop the work"


class WhenFull(StrEnum):
    """What an engine does with more requests than it can work on."""

    #: As soon as it is told how many may wait.
    REFUSES_IF_TOLD = "refuses beyond a limit that it has to be told"
    REFUSES = "refuses beyond its own limit"
    WAITS = "lets them wait without a limit"
    UNKNOWN = "is not known to refuse"


class Lack(StrEnum):
    """What an engine can lack that a flag of its own would give."""

    METRICS = "metrics"
    SLOTS = "slots"
    CACHED_TOKENS = "cached tokens"
    STREAM_USAGE = "usage on streams"
    TIMINGS = "timings of each request"
    REQUEST_ID = "request ids"
    QUEUE_LIMIT = "a limit of the queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """How to start an engine so that it does not lack something: `add` says it in a few words that begin with a verb,
    `because` is a whole sentence."""

    mends: Lack
    add: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How engines of a family are recognised: how their metrics begin, and who owns their models."""

    metrics: tuple[str, ...] = ()
    owned_by: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFamily:
    """One family. Paths lie beside the API's `/v1`; one that begins with `:PORT` is at another port of the same host,
    and `{model}` in it is the target's model."""

    name: str
    #: As its makers call it.
    title: str
    #: Its page in Prometheus' text format; None: it has none.
    metrics: str | None = None
    #: Where it answers 200 while it can serve; None: only the list of models tells.
    health: str | None = None
    #: Where its version stands, first match wins.
    version: tuple[Entry, ...] = ()
    #: Where the context of a model stands: keys within its entry in the list of models, first match wins; then pages.
    context_keys: tuple[str, ...] = ("max_model_len",)
    context: tuple[Entry, ...] = ()
    signals: Mapping[SignalName, SignalRule] = field(default_factory=dict, hash=False)
    #: Read before the spellings that all targets share.
    errors: tuple[Spelling, ...] = ()
    stream_usage: Reports = Reports.ALWAYS
    cached_tokens: Reports = Reports.UNKNOWN
    reasoning_tokens: Reports = Reports.UNKNOWN
    sooner: Sooner = Sooner.NONE
    on_abort: OnAbort = OnAbort.UNKNOWN
    when_full: WhenFull = WhenFull.UNKNOWN
    #: Prompt tokens that it computes in one step at the most.
    step_tokens: int = STEP_TOKENS
    #: The fields with which a chat's last message, of the assistant, is gone on with instead of answered; None: that
    #: cannot be asked for, or is not known.
    continues: Mapping[str, bool] | None = field(default=None, hash=False)
    marks: Marks = Marks()
    flags: tuple[Flag, ...] = ()
    #: Why nobody should start with it any more, a whole sentence; empty: it is alive.
    legacy: str = ""

    def flags_for(self, lack: Lack) -> tuple[Flag, ...]:
        """What mends it, best first."""
        return tuple(flag for flag in self.flags if flag.mends is lack)

    @property
    def metric_names(self) -> frozenset[str]:
        """The metrics that its signals are made of, as they are written."""
        return frozenset(place.name for place in self._places if isinstance(place, Series))

    @property
    def pages(self) -> tuple[str, ...]:
        """The JSON pages that its signals are made of, in the order in which they are named."""
        return tuple(dict.fromkeys(place.page for place in self._places if isinstance(place, Entry)))

    @property
    def _places(self) -> tuple[Place, ...]:
        rules = self.signals.values()
        return tuple(place for rule in rules for figure in rule.figures for place in figure.places)


# ── what was found there ─────────────────────────────────────────────────────────────────────────────────────────────


class Health(StrEnum):
    """What an engine says of itself. That it says READY does not prove that tokens come (a zombie says so too)."""

    READY = "ready"
    #: It answers, and says that it cannot serve: it loads, drains or is broken.
    NOT_READY = "not ready"
    #: Nobody answers.
    AWAY = "away"
    #: It answers, and does not tell.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model by the name that the engine knows it by."""

    name: str
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReading:
    """An engine as it answered at one moment."""

    at_s: float
    health: Health
    signals: EngineSignals
    models: tuple[ServedModel, ...] = ()
    version: str | None = None
    #: Families that what answers has the marks of, sorted; empty: it has none.
    looks_like: tuple[str, ...] = ()
    #: What could not be read, for people.
    faults: tuple[str, ...] = ()

    def model(self, name: str) -> ServedModel | None:
        """The model that a request of this name gets. (Ollama lists `name:latest` for who asks for `name`.)"""
        return next((model for model in self.models if model.name in {name, f"{name}:latest"}), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTrial:
    """What one small streamed chat showed."""

    #: Why there was no answer, a whole sentence; None: it came.
    failure: str | None = None
    fault: FaultKind | None = None
    usage: bool = False
    cached_tokens: bool = False
    reasoning_tokens: bool = False
    timings: bool = False
    #: The request's id came back in a header.
    request_id: bool = False
    ttft_s: float | None = None
