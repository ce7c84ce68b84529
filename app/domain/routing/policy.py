"""The policy in force, compiled: immutable, with a digest, ready for `decide`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from app.domain.pricing.self_host import MeasuredRates
from app.domain.target import Target


class Condition(Protocol):
    """A compiled `when`. `source` is the text as written; `holds` is pure and never raises."""

    @property
    def source(self) -> str: ...

    def holds(self, names: Mapping[str, object]) -> bool: ...


class Preference(StrEnum):
    """How a rule orders the candidates that passed every filter."""

    LISTED = "listed"
    CHEAPEST = "cheapest"
    WEIGHTED = "weighted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When → targets. `when` None matches always. `weights` holds one whole number a target, for WEIGHTED only."""

    name: str
    when: Condition | None
    use: tuple[str, ...]
    prefer: Preference = Preference.LISTED
    weights: Mapping[str, int] = field(default_factory=dict)
    #: `file:line` of the rule, for people.
    written_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Bounds of one request, in seconds. `first_token` and `idle` bound streams; `total` bounds everything."""

    connect_s: float = 2.0
    first_token_s: float = 30.0
    idle_s: float = 30.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The rules of one public model name, first match wins."""

    model: str
    rules: tuple[Rule, ...]
    attempts: int = 3
    timeouts: Timeouts = Timeouts()
    #: Output tokens assumed for a price estimate when the caller names no cap.
    output_tokens_default: int = 1024
    #: The most output tokens a caller may ask for; None: the target's own limit.
    output_tokens_most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything in force. `digest` names this very text on every receipt that was decided by it."""

    digest: str
    targets: Mapping[str, Target]
    routes: Mapping[str, Route]
    timezone: tzinfo
    #: USD per hour of one machine, by type.
    machine_usd_per_hour: Mapping[str, Decimal] = field(default_factory=dict)
    #: Speeds that the policy gives itself; they win over measurements.
    given_rates: Mapping[str, MeasuredRates] = field(default_factory=dict)

    def usd_per_hour(self, target: Target) -> Decimal | None:
        """What the target's machines cost an hour, all together; None when the policy does not say."""
        if target.machine is None or target.machine.type not in self.machine_usd_per_hour:
            return None
        return self.machine_usd_per_hour[target.machine.type] * target.machine.count
