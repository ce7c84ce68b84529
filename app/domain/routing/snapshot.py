"""A snapshot: the world a decision is made on. With the facts it replays the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.budget import BudgetSeen
from app.domain.money import Nanodollars
from app.domain.quick import quickly_made
from app.domain.routing.policy import Policy
from app.domain.target import TargetSeen

#: Stands for a target that is not in the fleet: this process has sent nothing there and knows nothing of it. Decisions
#: and conditions see it so, which is why plans need not tell "never seen" from "seen idle".
UNSEEN = TargetSeen()


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The policy a request was admitted with, what was seen then, and the aware moment, in the policy's timezone."""

    policy: Policy
    fleet: Mapping[str, TargetSeen]
    at: datetime
    #: By the budget's name; one that nobody has looked up yet is not there.
    budgets: Mapping[str, BudgetSeen] = field(default_factory=dict)
    #: What rules with `spill` spent at managed targets in the last hour, by `spill_key`; absent: nothing.
    spill_spent: Mapping[str, Nanodollars] = field(default_factory=dict)


def spill_key(*, model: str, rule: str) -> str:
    """Names a rule over all models."""
    return f"{model}/{rule}"
