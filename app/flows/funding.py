"""A request is decided on and its money is held: what it may have for what its budgets still hold.

The decision stays as it is; where its first choice is beyond a budget, the attempts begin at the first fallback whose
upper bound fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.domain.budget import Budget, BudgetSeen, Mode
from app.domain.errors import BadRequest, BudgetExceeded, LedgerUnavailable
from app.domain.ledger.hold import Hold
from app.domain.ledger.receipt import BUDGET_REFUSED, LEDGER_UNAVAILABLE, PASSED_OVER, flagged
from app.domain.ledger.upper_bound import Bounds, bounds_of
from app.domain.money import ZERO, Nanodollars, shown
from app.domain.quick import quickly_made
from app.domain.routing.decide import decide
from app.domain.routing.facts import Endpoint
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.scorers import likely_output_tokens
from app.domain.routing.snapshot import Snapshot
from app.flows.gateway import Asked, Gateway
from app.flows.hold import FALLBACK_PATIENCE_S, PATIENCE_S, NoRoom, needs_of

_WHOLE_PPM: Final = 1_000_000


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Funded:
    """A decision, and what is held for its first attempt. `refused`: the money is not there; nothing is held then."""

    decision: Plan | Refusal
    budgets: tuple[Budget, ...] = ()
    holds: tuple[Hold, ...] = ()
    #: What has to be sent with the first attempt for the holds to be enough; None: nothing has.
    output_tokens_cap: int | None = None
    refused: BudgetExceeded | LedgerUnavailable | None = None
    #: So many of the plan's targets, its first choice first, are beyond a budget: the attempts begin behind them.
    passed_over: int = 0
    #: Why, as a flag of the receipt.
    flags: tuple[str, ...] = ()

    def within_means(self, plan: Plan) -> Plan:
        """The plan as it is walked: without the targets that were passed over."""
        return replace(plan, order=plan.order[self.passed_over :]) if self.passed_over else plan


async def fund(asked: Asked, snapshot: Snapshot, gateway: Gateway) -> Funded:
    """Decide, and hold the upper bound of the first attempt in every budget that the request spends from; at the first
    target of the plan for which there is room.

    A budget whose steps say who serves once it is spent is no reason to refuse: the request is decided on again as
    past it, and holds nothing of it. Raises BadRequest for what cannot be bounded.
    """
    budgets = gateway.treasury.budgets_of(asked.facts, snapshot.policy)
    decision = decide(asked.facts, snapshot)
    if not budgets:
        return Funded(decision=decision)
    budgets = tuple(budget for budget in budgets if not (_goes_on(budget) and _is_used_up(budget, snapshot)))
    while budgets and isinstance(decision, Plan):
        try:
            return await _held(asked, decision, budgets, snapshot, gateway)
        except NoRoom as short:
            if not _goes_on(snapshot.policy.budgets[short.budget]):
                flag = flagged(BUDGET_REFUSED, str(short))
                return Funded(decision=decision, budgets=budgets, refused=short, flags=(flag,))
            snapshot = _as_used_up(snapshot, short.budget)
            budgets = tuple(budget for budget in budgets if budget.name != short.budget)
            decision = decide(asked.facts, snapshot)
        except LedgerUnavailable as away:
            flag = flagged(LEDGER_UNAVAILABLE, away.told)
            return Funded(decision=decision, budgets=budgets, refused=away, flags=(flag,))
    return Funded(decision=decision, budgets=budgets)


async def _held(asked: Asked, plan: Plan, budgets: tuple[Budget, ...], snapshot: Snapshot, gateway: Gateway) -> Funded:
    """What is held for the first target of the plan that every budget has room for.

    Raises NoRoom for the one that needs least, or at once where a budget has a step for being used up; BadRequest for
    what cannot be bounded at the first choice.
    """
    least: NoRoom | None = None
    for place, target in enumerate(plan.order):
        try:
            first = attempt_needs(asked, target, budgets=budgets, snapshot=snapshot, spent=ZERO)
            patience_s = FALLBACK_PATIENCE_S if place else PATIENCE_S
            holds = await gateway.treasury.hold(first.needs, at=snapshot.at, patience_s=patience_s)
        except BadRequest:
            if least is None:
                raise
        except NoRoom as none:
            if _goes_on(snapshot.policy.budgets[none.budget]):
                raise
            if least is None or none.short.needed < least.short.needed:
                least = _with_its_bounds(none, first, target, snapshot)
        else:
            return Funded(
                decision=plan,
                budgets=budgets,
                holds=holds,
                output_tokens_cap=first.output_tokens_cap,
                passed_over=place,
                flags=() if least is None else (_passed_over(plan.order[:place], least),),
            )
    assert least is not None, "a plan has a target"
    raise least


def _with_its_bounds(none: NoRoom, first: AttemptNeeds, target: str, snapshot: Snapshot) -> NoRoom:
    """The same, saying what makes the hold so large, and so what makes it smaller."""
    bounds, price = first.bounds, snapshot.fleet[target].rate_card
    if bounds is None or price is None or none.short.budget.mode is not Mode.HARD:
        return none
    prompt = price.bound(prompt_tokens_most=bounds.prompt_tokens_most, output_tokens_most=0)
    bounded_by = (
        f" at {target} (a prompt of {bounds.prompt_tokens_most} tokens at the most, ${shown(prompt)}, and answers of "
        f"{bounds.output_tokens_most})"
    )
    standing = none.short.standing
    is_too_long = standing is not None and prompt > standing.cap - standing.spent - standing.lost
    return NoRoom(
        none.short, bounded_by=bounded_by, mend="shorten the prompt" if is_too_long else "ask for fewer tokens"
    )


def _passed_over(targets: Sequence[str], least: NoRoom) -> str:
    names = " and ".join(targets)
    return flagged(
        PASSED_OVER,
        f'{names} had to be passed over: the budget "{least.budget}" has no room for what it may cost there',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptNeeds:
    """What an attempt at one target needs of each budget, and what bounds it; None: nothing does."""

    needs: Sequence[tuple[Budget, Nanodollars]]
    bounds: Bounds | None

    @property
    def output_tokens_cap(self) -> int | None:
        """The cap that has to be sent with it, where its caller names none."""
        return None if self.bounds is None else self.bounds.cap_to_send


def attempt_needs(
    asked: Asked,
    target: str,
    *,
    budgets: Sequence[Budget],
    snapshot: Snapshot,
    spent: Nanodollars,
    more_bytes: int = 0,
) -> AttemptNeeds:
    """`spent`: by the attempts before it. `more_bytes`: sent beyond what the caller sent. Raises BadRequest for what a
    hard budget cannot hold."""
    route = snapshot.policy.routes[asked.facts.model]
    price = snapshot.fleet[target].rate_card
    assert price is not None, "the price filter lets no unpriced target into a plan"
    bounds = bounds_of(
        asked.facts,
        target=snapshot.policy.targets[target],
        body_bytes=more_bytes + sum(len(memoryview(field)) for field in asked.fields.values()),
        prompts_most=_prompts_most(asked),
        output_tokens_most=route.output_tokens_most,
        output_tokens_default=route.output_tokens_default,
    )
    needs = needs_of(
        budgets,
        asked.facts,
        bounds=bounds,
        price=price,
        likely_output_tokens=likely_output_tokens(facts=asked.facts, route=route),
        spent=spent,
    )
    return AttemptNeeds(needs=needs, bounds=bounds)


def _prompts_most(asked: Asked) -> int:
    """At most so many prompts does a completion's `prompt` hold; each of them is answered."""
    prompt = asked.fields.get("prompt")
    if asked.facts.endpoint is not Endpoint.COMPLETIONS or prompt is None:
        return 1
    written = bytes(memoryview(prompt)).lstrip()
    if not written.startswith(b"["):
        return 1
    return max(1, written.count(b"[") - 1, written.count(b'"') // 2)


def _goes_on(budget: Budget) -> bool:
    """Requests past its end are served by the targets that its last step names."""
    return bool(budget.past) and budget.past[-1].from_ppm == _WHOLE_PPM and bool(budget.past[-1].only)


def _is_used_up(budget: Budget, snapshot: Snapshot) -> bool:
    seen = snapshot.budgets.get(budget.name)
    return seen is not None and seen.used >= 1.0


def _as_used_up(snapshot: Snapshot, name: str) -> Snapshot:
    """The books know better than what was seen some seconds ago."""
    budget = snapshot.policy.budgets[name]
    seen = snapshot.budgets.get(name) or BudgetSeen.of(budget, spent=budget.amount, at=snapshot.at)
    return replace(snapshot, budgets={**snapshot.budgets, name: replace(seen, used=max(seen.used, 1.0))})
