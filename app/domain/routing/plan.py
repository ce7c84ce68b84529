"""What a decision says: a plan or a refusal, both naming every candidate and everything they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.domain.budget import BudgetSeen
from app.domain.money import Nanodollars
from app.domain.quick import quickly_made
from app.domain.target import TargetSeen


class RefusalReason(StrEnum):
    """Why there is no plan."""

    NO_RULE = "no_rule"
    NO_TARGET = "no_target"


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One target that the rule named: why it was rejected, or how it was ordered, and what was seen of it."""

    target: str
    #: None: may serve. Otherwise the filter's reason, a sentence with the figures.
    rejected: str | None
    #: The filter that rejected it, or held it back, by name.
    filter: str | None = None
    #: May serve, but stands behind all others: why, in a sentence.
    held_back: str | None = None
    #: What the request would cost there; None when the price is not known.
    expected_charge: Nanodollars | None = None
    #: Prompt tokens that its prefix cache is likely to hold, counted at the cached price.
    cached_tokens: int = 0
    #: The terms of the score, where the rule's preference needs one: what one more request really costs there …
    marginal_charge: Nanodollars | None = None
    #: … and what waiting for the first token is worth. The lowest sum goes first.
    waiting_charge: Nanodollars | None = None
    #: Position in the plan, from 0; None when rejected.
    place: int | None = None
    #: Milliseconds to the first token with the prefill of this request's own prompt; None: what was seen says it all.
    predicted_ttft_ms: float | None = None
    seen: TargetSeen

    @property
    def expected_ttft_ms(self) -> float | None:
        """What was predicted of this request there; None: nothing."""
        return self.seen.predicted_ttft_ms if self.predicted_ttft_ms is None else self.predicted_ttft_ms


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What a decision looked at besides its candidates: with it, the decision replays."""

    #: Targets that conditions of the route read, and the rule's shadow, where the rule does not use them.
    fleet: Mapping[str, TargetSeen] = field(default_factory=dict)
    budgets: Mapping[str, BudgetSeen] = field(default_factory=dict)
    #: What the rule had spilled in the hour before, where it has a cap.
    spill_spent: Nanodollars | None = None


NOTHING_ELSE = Witness()


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where the request goes first and where next. `order` holds names of targets, the pick first."""

    rule: str
    prefer: str
    order: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    #: The target that the conversation is kept with, where the rule keeps conversations.
    home: str | None = None
    #: The request goes to a managed target first while a self-hosted one stands back, predicted to be slow.
    spilled: bool = False
    #: The target that gets a copy, when this request was drawn for one.
    shadow: str | None = None
    #: Which budgets are so far spent that the policy changes what this request may have; None: none is.
    past: str | None = None
    witness: Witness = NOTHING_ELSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No target may serve. `rule` is None when no rule matched."""

    reason: RefusalReason
    rule: str | None
    message: str
    candidates: tuple[Candidate, ...] = ()
    witness: Witness = NOTHING_ELSE
