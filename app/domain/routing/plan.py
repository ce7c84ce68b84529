"""What a decision says: a plan or a refusal, both naming every candidate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.domain.money import Nanodollars
from app.domain.target import TargetSeen


class RefusalReason(StrEnum):
    """Why there is no plan."""

    NO_RULE = "no_rule"
    NO_TARGET = "no_target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One target that the rule named: why it was rejected, or how it was ordered, and what was seen of it."""

    target: str
    #: None: may serve. Otherwise the filter's reason, a sentence with the figures.
    rejected: str | None
    #: The filter that rejected it, by name.
    filter: str | None = None
    #: What the request would cost there; None when the price is not known.
    expected_charge: Nanodollars | None = None
    #: Position in the plan, from 0; None when rejected.
    place: int | None = None
    seen: TargetSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where the request goes first and where next. `order` holds names of targets, the pick first."""

    rule: str
    prefer: str
    order: tuple[str, ...]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No target may serve. `rule` is None when no rule matched."""

    reason: RefusalReason
    rule: str | None
    message: str
    candidates: tuple[Candidate, ...] = ()
