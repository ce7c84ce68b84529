"""The policy in force, compiled: immutable, with a digest, ready for `decide`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from app.domain.budget import Budget
from app.domain.money import ZERO, Nanodollars
from app.domain.pricing.self_host import MeasuredRates
from app.domain.target import Target


class Condition(Protocol):
    """A compiled `when`. `source` is the text as written; `holds` is pure and never raises."""

    @property
    def source(self) -> str: ...

    @property
    def reads_fleet(self) -> frozenset[str]:
        """The targets that it looks at, as in `fleet["gpu-a"].in_flight`."""
        ...

    @property
    def reads_budgets(self) -> frozenset[str]:
        """The budgets that it looks at, as in `budget["research"].used`."""
        ...

    def holds(self, names: Mapping[str, object]) -> bool: ...


class Preference(StrEnum):
    """How a rule orders the candidates that passed every filter.

    balanced: by charge plus what waiting for the first token is worth (`usd_per_second` in the policy).
    """

    LISTED = "listed"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"
    BALANCED = "balanced"
    WEIGHTED = "weighted"


class Recovery(StrEnum):
    """What becomes of a stream that breaks after its first byte."""

    ERROR = "error"
    RESTART = "restart"
    CONTINUE = "continue"
    BUFFER = "buffer"


class KeptAnswers(StrEnum):
    """Which answers are kept, sealed, for repeats of a request that came with an idempotency key."""

    NOTHING = "nothing"
    #: Those that are not streamed, and errors before a first byte.
    WHOLE = "whole"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spill:
    """When a rule leaves its self-hosted targets for its managed ones, and for how much money at most."""

    #: Self-hosted targets that are predicted to be slower than this stand behind all others; None: none does.
    predicted_ttft_ms: float | None = None
    #: What the rule may spend at managed targets within any 60 minutes; None: no cap.
    most_per_hour: Nanodollars | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A share of a rule's requests goes to another target too; that answer is measured, booked apart, thrown away."""

    target: str
    #: Millionths of the rule's requests.
    share_ppm: int
    #: What the copies may cost within any 24 hours; None: no cap.
    most_per_day: Nanodollars | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When → targets. `when` None matches always. `weights` holds one whole number a target, for WEIGHTED only."""

    name: str
    when: Condition | None
    use: tuple[str, ...]
    prefer: Preference = Preference.LISTED
    weights: Mapping[str, int] = field(default_factory=dict)
    #: What a second to the first token is worth, for BALANCED only.
    per_second: Nanodollars = ZERO
    spill: Spill | None = None
    #: A conversation stays with one target while that target's load allows it.
    keeps_sessions: bool = False
    #: A full target stays a candidate: the request waits in the gateway's queue for it rather than going elsewhere.
    waits: bool = False
    shadow: Shadow | None = None
    #: `file:line` of the rule, for people.
    written_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Bounds of one request, in seconds. `first_token` bounds streams, `idle` streams and bodies that have begun,
    `queue` all its waiting for places at full targets; `total` bounds everything."""

    connect_s: float = 2.0
    first_token_s: float = 30.0
    idle_s: float = 30.0
    total_s: float = 600.0
    #: None: as `first_token_s`.
    queue_s: float | None = None

    @property
    def in_queue_s(self) -> float:
        """The most that a request waits for places."""
        return self.first_token_s if self.queue_s is None else self.queue_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The rules of one public model name, first match wins."""

    model: str
    rules: tuple[Rule, ...]
    attempts: int = 3
    timeouts: Timeouts = Timeouts()
    recovery: Recovery = Recovery.ERROR
    kept_answers: KeptAnswers = KeptAnswers.WHOLE
    #: A first attempt that has not begun to answer after so long has a second one beside it; None: never.
    hedge_after_s: float | None = None
    #: Output tokens assumed for a price estimate when the caller names no cap.
    output_tokens_default: int = 1024
    #: The most output tokens a caller may ask for; None: the target's own limit.
    output_tokens_most: int | None = None
    #: What its conditions look at, sorted; plans keep it, so that they can be replayed.
    reads_fleet: tuple[str, ...] = ()
    reads_budgets: tuple[str, ...] = ()
    #: Makes the names of one request ready for all its conditions at once; None: each takes them as they are. Pure.
    prepare: Callable[[Mapping[str, object]], Mapping[str, object]] | None = None

    def waits(self, rule: str) -> bool:
        """The rule of this name waits for full targets."""
        for each in self.rules:
            if each.name == rule:
                return each.waits
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything in force. `digest` names this very text on every receipt that was decided by it."""

    digest: str
    targets: Mapping[str, Target]
    routes: Mapping[str, Route]
    timezone: tzinfo
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    #: Those of them with steps in `past`.
    degrading: tuple[Budget, ...] = ()
    #: USD per hour of one machine, by type.
    machine_usd_per_hour: Mapping[str, Decimal] = field(default_factory=dict)
    #: Speeds that the policy gives itself; they win over measurements.
    given_rates: Mapping[str, MeasuredRates] = field(default_factory=dict)
    #: Targets with a limit of requests in flight that some rule waits for, sorted.
    queued: tuple[str, ...] = ()

    def usd_per_hour(self, target: Target) -> Decimal | None:
        """What the target's machines cost an hour, all together; None when the policy does not say."""
        if target.machine is None or target.machine.type not in self.machine_usd_per_hour:
            return None
        return self.machine_usd_per_hour[target.machine.type] * target.machine.count
