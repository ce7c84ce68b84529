"""The candidates that may serve, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat, takewhile
from math import inf

from app.domain.money import Nanodollars
from app.domain.routing.facts import RequestFacts
from app.domain.routing.policy import Preference, Rule
from app.domain.routing.scorers import marginal_charge, session_home, session_ring, waiting_charges, weighted_draw
from app.domain.target import Hosting, Target, TargetSeen

_SCORED = (Preference.CHEAPEST, Preference.FASTEST, Preference.BALANCED)


class Contender:
    """A candidate in the making, while a decision is on its way. `rejected` None: it may serve."""

    __slots__ = (
        "cached_tokens",
        "expected_charge",
        "filter",
        "held_back",
        "marginal_charge",
        "predicted_ttft_ms",
        "rejected",
        "seen",
        "target",
        "waiting_charge",
    )

    def __init__(self, target: Target, seen: TargetSeen, *, prompt_tokens: int = 0) -> None:
        """`prompt_tokens` are the request's, all of them to be computed there."""
        self.target = target
        self.seen = seen
        #: Of this request, its own prompt's prefill included.
        self.predicted_ttft_ms = seen.expected_ttft_ms(prompt_tokens=prompt_tokens)
        self.rejected: str | None = None
        self.filter: str | None = None
        self.held_back: str | None = None
        self.expected_charge: Nanodollars | None = None
        self.cached_tokens = 0
        self.marginal_charge: Nanodollars | None = None
        self.waiting_charge: Nanodollars | None = None


def home_of(passed: Sequence[Contender], *, rule: Rule, facts: RequestFacts) -> str | None:
    """The target that this conversation is kept with; None: the rule or the caller does not ask for it.

    listed: one of those that the list begins with, all of one hosting. weighted: whom the conversation is drawn for.
    Scored: one of our own machines if any may serve; its warm prefix cache then counts in its score.
    """
    if not (rule.keeps_sessions and facts.session):
        return None
    ready = [one for one in passed if one.held_back is None] or passed
    match rule.prefer:
        case Preference.WEIGHTED:
            names = [one.target.name for one in ready]
            return weighted_draw(names, weights=rule.weights, drawn_by=facts.session)[0]
        case Preference.LISTED:
            hosting = ready[0].target.hosting
            homes: Sequence[Contender] = list(takewhile(lambda one: one.target.hosting is hosting, ready))
        case _:
            homes = [one for one in ready if one.target.hosting is Hosting.SELF_HOSTED] or ready
    in_flight = {one.target.name: one.seen.in_flight for one in homes}
    return session_home(session_ring(in_flight, session=facts.session), in_flight=in_flight)


def ranked(passed: Sequence[Contender], *, rule: Rule, facts: RequestFacts, home: str | None) -> tuple[str, ...]:
    """All of `passed` by name, the pick first; those held back come last. `home` goes first among equals."""
    if rule.prefer in _SCORED:
        _score(passed)
    ready = [one for one in passed if one.held_back is None]
    if len(ready) == len(passed):
        return tuple(_ranked(ready, rule=rule, facts=facts, home=home))
    held_back = [one for one in passed if one.held_back is not None]
    return (
        *_ranked(ready, rule=rule, facts=facts, home=home),
        *_ranked(held_back, rule=rule, facts=facts, home=home),
    )


def _ranked(contenders: Sequence[Contender], *, rule: Rule, facts: RequestFacts, home: str | None) -> Sequence[str]:
    match rule.prefer:
        case Preference.LISTED:
            names = [one.target.name for one in contenders]
            return names if home is None else sorted(names, key=lambda name: name != home)
        case Preference.WEIGHTED:
            # A conversation is drawn for once, so that it stays where it was drawn to.
            drawn_by = facts.request_id if home is None else facts.session
            names = [one.target.name for one in contenders]
            return weighted_draw(names, weights=rule.weights, drawn_by=drawn_by)
        case Preference.CHEAPEST:
            return _by(None, contenders, home=home)
        case Preference.FASTEST:
            # One whose speed is not known comes after all whose speed is.
            times_ms = [one.predicted_ttft_ms for one in contenders]
            return _by([inf if ms is None else ms for ms in times_ms], contenders, home=home)
        case Preference.BALANCED:
            return _by(_scores(contenders, rule=rule), contenders, home=home)


def _by(scores: Sequence[float] | None, contenders: Sequence[Contender], *, home: str | None) -> Sequence[str]:
    """The lowest score first. Equal ones are told apart by what a request costs, by the session, then by name."""
    keys = [
        (score, one.marginal_charge, one.target.name != home, one.target.name)
        for score, one in zip(scores or repeat(0), contenders, strict=False)
    ]
    keys.sort()
    return [name for *_, name in keys]


def _score(passed: Sequence[Contender]) -> None:
    managed = [one.expected_charge for one in passed if one.target.hosting is Hosting.MANAGED]
    cheapest_managed = min((charge for charge in managed if charge is not None), default=None)
    for one in passed:
        assert one.expected_charge is not None, "the price filter lets no unpriced target through"
        one.marginal_charge = marginal_charge(
            target=one.target, seen=one.seen, expected=one.expected_charge, cheapest_managed=cheapest_managed
        )


def _scores(contenders: Sequence[Contender], *, rule: Rule) -> Sequence[float]:
    """Those held back are scored apart: their slowness says nothing of a target whose speed is not known."""
    times_ms = [one.predicted_ttft_ms for one in contenders]
    scores = []
    for one, waiting in zip(contenders, waiting_charges(times_ms, per_second=rule.per_second), strict=True):
        one.waiting_charge = waiting
        scores.append((one.marginal_charge or 0) + waiting)
    return scores
