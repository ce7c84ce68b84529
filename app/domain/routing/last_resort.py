"""When nobody may serve, a target that rests after failures is asked all the same, now and then.

Without it an outage of every target would last until the longest rest is over, and a rule with one target would go
without it at the first trouble. How often a resting target may be asked, its circuit says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.domain.routing.facts import RequestFacts
from app.domain.routing.filters import FILTERS, FILTERS_THAT_WAIT, circuit_lets_through
from app.domain.routing.policy import Rule
from app.domain.routing.ranking import Contender


def last_resort(
    contenders: Sequence[Contender],
    facts: RequestFacts,
    rule: Rule,
    *,
    reject_others: Callable[[Sequence[Contender]], None],
) -> list[Contender]:
    """The first of the rule's targets that only its circuit keeps out and that may be asked; empty when none may.

    `reject_others` is what the policy says besides the filters.
    """
    for one in contenders:
        if one.filter != "circuit" or not one.seen.is_last_resort:
            continue
        rests, one.rejected, one.filter = one.rejected, None, None
        _judge_again(one, facts, rule)
        reject_others([one])
        if one.rejected is None:
            one.filter = "circuit"
            one.held_back = f"{rests}, yet nobody else may serve"
            return [one]
    return []


def _judge_again(one: Contender, facts: RequestFacts, rule: Rule) -> None:
    for name, reason_to_reject in FILTERS_THAT_WAIT if rule.waits else FILTERS:
        reason = None if reason_to_reject is circuit_lets_through else reason_to_reject(facts, one.target, one.seen)
        if reason is not None:
            one.rejected, one.filter = reason, name
            return
