"""What would be decided: given facts, on files that nobody has put in force, with the fleet at rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.domain.budget import BudgetSeen
from app.domain.errors import BadRequest
from app.domain.money import ZERO
from app.domain.routing.decide import decide
from app.domain.routing.explain import explained
from app.domain.routing.facts import RequestFacts
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Policy
from app.domain.routing.scenario import fleet_at_rest
from app.domain.routing.snapshot import Snapshot
from app.flows.policy_replay import plain

#: A request that nobody made. Weighted draws hang on it, so that a dry run comes out the same again.
NOBODYS_REQUEST = "00000000-0000-7000-8000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What was asked, under which policy, at which moment, and what comes of it."""

    policy_digest: str
    facts: RequestFacts
    at: datetime
    decision: Plan | Refusal


def dry_run(policy: Policy, facts: RequestFacts, *, at: datetime) -> DryRun:
    """Decide on a quiet day: every target idle, its circuit closed, its credential there, its price known (by an
    assumed speed where only measuring tells); nothing of any budget spent. `at` is an aware moment.

    Raises BadRequest for a model that the policy does not have.
    """
    if facts.model not in policy.routes:
        served = ", ".join(sorted(policy.routes))
        raise BadRequest(f'the policy has no model "{facts.model[:200]}"; it has {served}', param="model")
    there = at.astimezone(policy.timezone)
    decision = decide(facts, quiet_snapshot(policy, at=there))
    return DryRun(policy_digest=policy.digest, facts=facts, at=there, decision=decision)


def quiet_snapshot(policy: Policy, *, at: datetime) -> Snapshot:
    """The world with `policy` in force and nothing else going on."""
    budgets = {name: BudgetSeen.of(budget, spent=ZERO, at=at) for name, budget in policy.budgets.items()}
    return Snapshot(policy=policy, fleet=fleet_at_rest(policy), at=at, budgets=budgets)


def dry_run_view(made: DryRun) -> dict[str, object]:
    """What came out, as a JSON-ready mapping."""
    return {
        "policy": made.policy_digest,
        "at": made.at.isoformat(timespec="seconds"),
        "facts": plain(made.facts),
        "decision": explained(made.decision),
    }
