"""A past decision, made again from what its receipt says."""

from __future__ import annotations

from datetime import UTC, datetime

from app.domain.routing.decide import decide
from app.domain.routing.facts import RequestFacts
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Policy
from app.domain.routing.snapshot import Snapshot, spill_key

_MICROSECONDS = 1_000_000


def replayed(facts: RequestFacts, decision: Plan | Refusal, *, at_us: int, policy: Policy) -> Plan | Refusal | None:
    """What `policy` decides on the same facts and what was seen then; equal to `decision` under the policy it was made
    by. Under another one, targets that were not looked at then count as never seen. None: it has no such model.

    `at_us` is the receipt's moment in Unix microseconds.
    """
    if facts.model not in policy.routes:
        return None
    return decide(facts, snapshot_then(facts, decision, at_us=at_us, policy=policy))


def snapshot_then(facts: RequestFacts, decision: Plan | Refusal, *, at_us: int, policy: Policy) -> Snapshot:
    """The world as the decision saw it, with `policy` in force."""
    witness = decision.witness
    spent = witness.spill_spent
    key = spill_key(model=facts.model, rule=decision.rule or "")
    return Snapshot(
        policy=policy,
        fleet={**witness.fleet, **{candidate.target: candidate.seen for candidate in decision.candidates}},
        at=datetime.fromtimestamp(at_us / _MICROSECONDS, UTC).astimezone(policy.timezone),
        budgets=witness.budgets,
        spill_spent={} if spent is None else {key: spent},
    )
