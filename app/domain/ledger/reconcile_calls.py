"""Request by request: which line of an export is which attempt, and why the two differ in money.

A pair is explained as accountants explain a variance: what the other service tier, the other tokens and the other
split of cached ones make at our own prices, in this order; what is left then is the price, or it is named for what is
missing to say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date

from app.domain.ledger.billing import BilledCall, OurCall
from app.domain.ledger.reconciliation import Cause, Finding, Tally
from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import STANDARD_TIERS
from app.domain.usage import Usage

Caused = tuple[Cause, Nanodollars]


@dataclass(slots=True)
class BilledIndex:
    """The lines of an export, found by any of their names and each taken once."""

    lines: Sequence[BilledCall]
    #: Lines of a request that has one already, word for word the same or at another moment. Lines of one moment that
    #: differ are parts of one bill, and add up.
    twice: list[BilledCall] = field(default_factory=list)
    _calls: list[BilledCall | None] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in self.lines:
            place = self._places.get(line.ids[0]) if line.ids else None
            known = None if place is None else self._calls[place]
            if place is None or known is None:
                self._places.update((name, len(self._calls)) for name in line.ids if name not in self._places)
                self._calls.append(line)
            elif line.at != known.at or replace(line, line=known.line) == known:
                self.twice.append(line)
            else:
                tokens, cost = known.tokens + line.tokens, Nanodollars(known.cost + line.cost)
                self._calls[place] = replace(known, tokens=tokens, tier=known.tier or line.tier, cost=cost)

    def take(self, *names: str | None) -> BilledCall | None:
        """The line that has one of these names, the first name first, unless it was taken before."""
        for name in names:
            place = None if name is None else self._places.get(name)
            if place is not None and (found := self._calls[place]) is not None:
                self._calls[place] = None
                return found
        return None

    def left(self) -> Iterator[BilledCall]:
        """Those that nobody took, in the order of the file."""
        return (line for line in self._calls if line is not None)


def weigh_pair(tally: Tally, ours: OurCall, billed: BilledCall, *, card: RateCard, unit: Nanodollars) -> None:
    """One request that both accounts have. `card` is the one that our charge goes by."""
    day = _day(billed)
    is_asked_for = tally.period.since <= billed.at < tally.period.until
    _hold(tally, ours)
    moved = [(each, amount) for each, amount in ours.counted if each != day or not is_asked_for]
    for each, amount in moved:
        tally.explains(Cause.TIME_BORDER, ours.model, each, -amount)
    if not is_asked_for:
        tally.counts(Cause.TIME_BORDER, int(bool(moved)))
        return
    here = sum(amount for each, amount in ours.counted if each == day)
    tally.bills(ours.model, day, billed.cost, requests=1)
    tally.explains(Cause.TIME_BORDER, ours.model, day, ours.charge - here)
    tally.counts(Cause.TIME_BORDER, int(bool(moved) or ours.charge != here))
    causes = [(cause, amount) for cause, amount in _causes(ours, billed, card, unit) if amount]
    for cause, amount in causes:
        tally.explains(cause, ours.model, day, amount)
        tally.counts(cause, 1)
    if causes:
        tally.finds(_finding(_name(billed, ours), ours.model, day, ours=ours.charge, billed=billed.cost, causes=causes))


def weigh_ours(tally: Tally, ours: OurCall) -> None:
    """An attempt that the export does not have."""
    if not ours.counted or not ours.is_something:
        return
    _hold(tally, ours)
    # What happened outside the period and counts in it, because its own month was closed, is in another export.
    is_late = not tally.period.since <= ours.began_at < tally.period.until
    cause = Cause.TIME_BORDER if is_late else Cause.NOT_AT_PROVIDER
    amount = sum(each for _, each in ours.counted)
    for day, each in ours.counted:
        tally.explains(cause, ours.model, day, -each)
    if amount:
        tally.counts(cause, 1)
        causes = [(cause, Nanodollars(-amount))]
        name = ours.provider_request_id or ours.attempt_id
        tally.finds(_finding(name, ours.model, ours.counted[0][0], ours=amount, billed=None, causes=causes))


def weigh_billed(tally: Tally, billed: BilledCall, *, model: str, cause: Cause = Cause.UNLOGGED) -> None:
    """A line of the export that no attempt of ours is left for; `model` is our name of its model."""
    if not tally.period.since <= billed.at < tally.period.until:
        return
    day = _day(billed)
    tally.bills(model, day, billed.cost, requests=1)
    tally.explains(cause, model, day, billed.cost)
    tally.counts(cause, 1)
    causes = [(cause, billed.cost)]
    tally.finds(_finding(_name(billed), model, day, ours=None, billed=billed.cost, causes=causes))


def _hold(tally: Tally, ours: OurCall) -> None:
    for place, (day, amount) in enumerate(ours.counted):
        tally.holds(ours.model, day, amount, requests=int(place == 0))


def _causes(ours: OurCall, billed: BilledCall, card: RateCard, unit: Nanodollars) -> Iterator[Caused]:
    """Amounts that sum to what the seller bills beyond our charge."""
    rest = billed.cost - ours.charge
    if rest == 0:
        return
    other_tier = billed.tier is not None and _tier(billed.tier) != _tier(ours.usage.tier)
    last = cost = charge(usage=ours.usage, price=card)
    for cause, usage in _steps(ours, billed, other_tier=other_tier):
        cost = charge(usage=usage, price=card)
        yield cause, Nanodollars(cost - last)
        rest -= cost - last
        last = cost
    if ours.credit and abs(rest + ours.credit) < abs(rest):
        yield Cause.CREDIT, Nanodollars(-ours.credit)
        rest += ours.credit
    yield _cause_of_rest(ours, billed, card, rest=rest, unit=unit, other_tier=other_tier), Nanodollars(rest)


def _steps(ours: OurCall, billed: BilledCall, *, other_tier: bool) -> Iterator[tuple[Cause, Usage]]:
    """From our usage to the seller's, one difference at a time."""
    usage = ours.usage
    if other_tier:
        usage = replace(usage, tier=_tier(billed.tier or ""))
        yield Cause.TIER, usage
    told = billed.tokens.over(usage)
    if told == usage:
        return
    if ours.is_estimated:
        yield Cause.ESTIMATE, told
        return
    same_split = replace(told, cached=usage.cached, cache_write=usage.cache_write).believable()[0]
    yield Cause.USAGE, same_split
    yield Cause.CACHED, told


def _cause_of_rest(
    ours: OurCall, billed: BilledCall, card: RateCard, *, rest: int, unit: Nanodollars, other_tier: bool
) -> Cause:
    if abs(rest) <= unit:
        return Cause.ROUNDING
    if other_tier and not card.knows_tier(_tier(billed.tier or "")):
        return Cause.TIER
    if billed.tokens.are_known:
        return Cause.PRICE
    return Cause.ESTIMATE if ours.is_estimated else Cause.UNEXPLAINED


def _tier(name: str) -> str:
    small = name.lower()
    return "" if small in STANDARD_TIERS else small


def _day(billed: BilledCall) -> date:
    return billed.at.astimezone(UTC).date()


def _name(billed: BilledCall, ours: OurCall | None = None) -> str:
    if billed.ids:
        return billed.ids[0]
    return f"line {billed.line}" if ours is None else ours.attempt_id


def _finding(
    request: str,
    model: str,
    day: date,
    *,
    ours: int | None,
    billed: Nanodollars | None,
    causes: Sequence[Caused],
) -> Finding:
    held = None if ours is None else Nanodollars(ours)
    return Finding(request=request, model=model, day=day, ours=held, provider=billed, causes=tuple(causes))
