"""Which of the last requests would have gone elsewhere under another policy: their receipts, decided again by both."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC

from app.domain.budget import BudgetSeen
from app.domain.ledger.receipt import Receipt
from app.domain.money import ZERO
from app.domain.routing.decide import decide
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Policy
from app.domain.routing.replay import snapshot_then
from app.domain.routing.scenario import price_at_rest
from app.domain.routing.snapshot import Snapshot
from app.domain.target import TargetSeen
from app.flows.policy_archive import PolicyArchive, compiled_policy
from app.flows.policy_diff import Change, change_view, policy_changes

#: Receipts read with one statement.
_A_PAGE = 500
#: Where a request goes for which there is no such model.
NO_MODEL = "no such model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A request that would have gone elsewhere. `before` and `after` are the first targets, or why there is none."""

    request_id: str
    model: str
    before: str
    after: str
    #: The rules that matched, where one did.
    rule_before: str | None
    rule_after: str | None
    #: Somebody was looked at whom nobody had seen then: taken for idle and in service.
    assumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What would have become of the last requests. `looked_at` counts them all, `moved` those that go elsewhere first,
    the newest first; `refallen` those that only have other fallbacks, or the same ones in another order."""

    looked_at: int = 0
    moved: tuple[Move, ...] = ()
    refallen: int = 0
    #: The oldest and the newest that were looked at, in Unix microseconds.
    oldest_us: int | None = None
    newest_us: int | None = None

    def ways(self) -> tuple[tuple[str, str, int], ...]:
        """From, to, how many; the most first."""
        counted = Counter((move.before, move.after) for move in self.moved)
        return tuple((*way, count) for way, count in sorted(counted.items(), key=lambda one: (-one[1], one[0])))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDiff:
    """Two policies compared: in words, and in what they do to the last requests."""

    old: Policy
    new: Policy
    changes: tuple[Change, ...]
    moves: Moves


async def policy_diff(archive: PolicyArchive, old: str, new: str, *, last: int) -> PolicyDiff:
    """`old` and `new` as `find_policy` takes them; `last` is how many requests are decided again.

    Raises NotValid when one of them may not go live, RevisionUnknown, BooksAway.
    """
    policies = [(await compiled_policy(archive, name)).policy for name in (old, new)]
    return await compared(archive, *policies, last=last)


async def compared(archive: PolicyArchive, old: Policy, new: Policy, *, last: int) -> PolicyDiff:
    """The same for two policies at hand. Raises BooksAway."""
    moves = Moves()
    before: str | None = None
    while moves.looked_at < last:
        receipts = await archive.ledger.latest(most=min(_A_PAGE, last - moves.looked_at), before=before)
        if not receipts:
            break
        before = receipts[-1].request_id
        moves = _together(moves, await asyncio.to_thread(moves_of, receipts, old=old, new=new))
    return PolicyDiff(old=old, new=new, changes=policy_changes(old, new), moves=moves)


def moves_of(receipts: Sequence[Receipt], *, old: Policy, new: Policy) -> Moves:
    """Each receipt decided again under both, on what was seen then; under the policy that decided it, as it was. What
    was not seen then is taken for idle, in service and unspent, and a price that a policy names is that policy's.
    Copies for a shadow do not count."""
    moved: list[Move] = []
    refallen = 0
    asked = [receipt for receipt in receipts if receipt.shadow_of is None]
    for receipt in asked:
        then, now = _again(receipt, old), _again(receipt, new)
        if _goes_to(then) != _goes_to(now):
            moved.append(_move(receipt, then, now))
        elif isinstance(then, Plan) and isinstance(now, Plan) and then.order != now.order:
            refallen += 1
    moments = [receipt.at_us for receipt in asked]
    return Moves(
        looked_at=len(asked),
        moved=tuple(moved),
        refallen=refallen,
        oldest_us=min(moments, default=None),
        newest_us=max(moments, default=None),
    )


def diff_view(diff: PolicyDiff) -> dict[str, object]:
    """The comparison as a JSON-ready mapping."""
    moves = diff.moves
    return {
        "old": diff.old.digest,
        "new": diff.new.digest,
        "changes": [change_view(change) for change in diff.changes],
        "requests": {
            "looked_at": moves.looked_at,
            "moved": len(moves.moved),
            "other_fallbacks": moves.refallen,
            "assumed": sum(move.assumed for move in moves.moved),
            "ways": [{"from": before, "to": after, "count": count} for before, after, count in moves.ways()],
            "ids": [_move_view(move) for move in moves.moved],
        },
    }


def _move_view(move: Move) -> dict[str, object]:
    return {
        "id": move.request_id,
        "model": move.model,
        "from": move.before,
        "to": move.after,
        "rule_from": move.rule_before,
        "rule_to": move.rule_after,
        "assumed": move.assumed,
    }


def _together(one: Moves, other: Moves) -> Moves:
    oldest = [at for at in (one.oldest_us, other.oldest_us) if at is not None]
    newest = [at for at in (one.newest_us, other.newest_us) if at is not None]
    return Moves(
        looked_at=one.looked_at + other.looked_at,
        moved=one.moved + other.moved,
        refallen=one.refallen + other.refallen,
        oldest_us=min(oldest, default=None),
        newest_us=max(newest, default=None),
    )


def _again(receipt: Receipt, policy: Policy) -> Plan | Refusal | None:
    if receipt.facts.model not in policy.routes:
        return None
    return decide(receipt.facts, _as_it_would_have_been(receipt, policy))


def _as_it_would_have_been(receipt: Receipt, policy: Policy) -> Snapshot:
    then = snapshot_then(receipt.facts, receipt.decision, at_us=receipt.at_us, policy=policy)
    if policy.digest == receipt.policy_digest:
        return then
    fleet, day = {}, then.at.astimezone(UTC).date()
    for name, target in policy.targets.items():
        seen = then.fleet.get(name) or TargetSeen(rate_card=price_at_rest(target, policy))
        fleet[name] = replace(seen, rate_card=target.price_of(day) or seen.rate_card)
    budgets = {name: BudgetSeen.of(budget, spent=ZERO, at=then.at) for name, budget in policy.budgets.items()}
    return replace(then, fleet=fleet, budgets={**budgets, **then.budgets})


def _goes_to(decision: Plan | Refusal | None) -> str:
    match decision:
        case None:
            return NO_MODEL
        case Refusal():
            return f"refused ({decision.reason.value})"
        case Plan():
            return decision.order[0]


def _move(receipt: Receipt, then: Plan | Refusal | None, now: Plan | Refusal | None) -> Move:
    seen = {candidate.target for candidate in receipt.decision.candidates} | set(receipt.decision.witness.fleet)
    return Move(
        request_id=receipt.request_id,
        model=receipt.facts.model,
        before=_goes_to(then),
        after=_goes_to(now),
        rule_before=None if then is None else then.rule,
        rule_after=None if now is None else now.rule,
        assumed=not seen.issuperset(_looked_at((then, now))),
    )


def _looked_at(decisions: Iterable[Plan | Refusal | None]) -> set[str]:
    return {candidate.target for one in decisions if one is not None for candidate in one.candidates}
