"""The candidates that may serve, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.money import Nanodollars
from app.domain.routing.facts import RequestFacts
from app.domain.routing.policy import Preference, Rule
from app.domain.routing.scorers import marginal_charge, waiting_charges, weighted_draw
from app.domain.target import Hosting, Target, TargetSeen


class Contender:
    """A candidate in the making, while a decision is on its way. `rejected` None: it may serve."""

    __slots__ = (
        "cached_tokens",
        "expected_charge",
        "filter",
        "held_back",
        "marginal_charge",
        "rejected",
        "seen",
        "target",
        "waiting_charge",
    )

    def __init__(self, target: Target, seen: TargetSeen) -> None:
        self.target = target
        self.seen = seen
        self.rejected: str | None = None
        self.filter: str | None = None
        self.held_back: str | None = None
        self.expected_charge: Nanodollars | None = None
        self.cached_tokens = 0
        self.marginal_charge: Nanodollars | None = None
        self.waiting_charge: Nanodollars | None = None


def ranked(passed: Sequence[Contender], *, rule: Rule, facts: RequestFacts, home: str | None) -> tuple[str, ...]:
    """All of `passed` by name, the pick first; those held back come last. `home` goes first among equals."""
    ready = [one for one in passed if one.held_back is None]
    held_back = [one for one in passed if one.held_back is not None]
    if not held_back:
        return _ranked(ready, rule=rule, facts=facts, home=home)
    return (
        *_ranked(ready, rule=rule, facts=facts, home=home),
        *_ranked(held_back, rule=rule, facts=facts, home=home),
    )


def _ranked(contenders: Sequence[Contender], *, rule: Rule, facts: RequestFacts, home: str | None) -> tuple[str, ...]:
    match rule.prefer:
        case Preference.LISTED:
            return _home_first(contenders, home)
        case Preference.WEIGHTED:
            # A conversation is drawn for once, so that it stays where it was drawn to.
            drawn_by = facts.session if home is not None else facts.request_id
            names = [one.target.name for one in contenders]
            return weighted_draw(names, weights=rule.weights, drawn_by=drawn_by)
        case Preference.CHEAPEST | Preference.FASTEST | Preference.BALANCED:
            _score(contenders, rule=rule)
            return tuple(
                one.target.name for one in sorted(contenders, key=lambda one: _key(one, rule.prefer, home=home))
            )


def _home_first(contenders: Sequence[Contender], home: str | None) -> tuple[str, ...]:
    """As listed, but a conversation's home goes ahead of those of its hosting that the list begins with."""
    names = [one.target.name for one in contenders]
    if home in names:
        hosting = contenders[0].target.hosting
        alike = next((n for n, one in enumerate(contenders) if one.target.hosting is not hosting), len(names))
        if home in names[:alike]:
            names.remove(home)
            names.insert(0, home)
    return tuple(names)


def _score(contenders: Sequence[Contender], *, rule: Rule) -> None:
    managed = [one.expected_charge for one in contenders if one.target.hosting is Hosting.MANAGED]
    cheapest_managed = min((charge for charge in managed if charge is not None), default=None)
    waiting = waiting_charges(
        {one.target.name: one.seen.predicted_ttft_ms for one in contenders}, per_second=rule.per_second
    )
    for one in contenders:
        assert one.expected_charge is not None, "the price filter lets no unpriced target through"
        one.marginal_charge = marginal_charge(
            target=one.target, seen=one.seen, expected=one.expected_charge, cheapest_managed=cheapest_managed
        )
        one.waiting_charge = waiting[one.target.name]


def _key(one: Contender, prefer: Preference, *, home: str | None) -> tuple[float, float, bool, str]:
    assert one.marginal_charge is not None, "every contender has been scored"
    assert one.waiting_charge is not None, "every contender has been scored"
    name = one.target.name
    match prefer:
        case Preference.FASTEST:
            # One whose speed is not known comes after all whose speed is.
            ms = one.seen.predicted_ttft_ms
            return float("inf") if ms is None else ms, one.marginal_charge, name != home, name
        case Preference.BALANCED:
            return one.marginal_charge + one.waiting_charge, 0, name != home, name
        case _:
            return one.marginal_charge, 0, name != home, name
