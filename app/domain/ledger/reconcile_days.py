"""Day by day: an export that names no requests, held against the attempts of the same models and days.

Nobody can say of a sum which request is at fault, so each day is explained by what sums do tell: how many requests,
which tokens, what they cost here. What even they do not tell stays unexplained, under that name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Final

from app.domain.errors import BadRequest
from app.domain.ledger.billing import UNTOLD, BilledDay, BilledTokens, OurCall, our_name
from app.domain.ledger.period import Period
from app.domain.ledger.reconciliation import Cause, Tally
from app.domain.money import Nanodollars, rounded_quotient
from app.domain.pricing.rate_card import SCALE, RateCard, Whole
from app.domain.pricing.terms import STANDARD_TIERS

#: The model's name where the export puts all of them together.
ALL_MODELS: Final = "(all models)"
#: An estimate explains a difference of at most as many tokens as it says itself.
_ESTIMATE_OFF_MOST: Final = 1

#: Computed prompt tokens, cached ones, written ones, output: the kinds that sums of days tell apart, and where their
#: prices stand in a `Whole`.
_KINDS: Final = (0, 1, 3, 2)
Kinds = tuple[int, int, int, int]
_NONE: Final = (0, 0, 0, 0)


@dataclass(slots=True)
class _Group:
    """Attempts that count, begin and end on the same days."""

    requests: int = 0
    charge: int = 0
    credit: int = 0
    kinds: Kinds = _NONE
    by_tier: Counter[str] = field(default_factory=Counter)
    estimated: int = 0
    estimated_kinds: Kinds = _NONE
    #: Of each kind, tokens times price, in the scale of rate cards.
    valued: Kinds = _NONE
    prices: set[Whole] = field(default_factory=set)
    counted: list[int] = field(default_factory=list)


#: Model, the days on which it counts in the period, the day it began, the day it ended.
_Key = tuple[str, tuple[date, ...], date, date]


@dataclass(slots=True)
class OurDays:
    """The books' side: fed with attempts, in any order; as large as there are models and days."""

    all_models: bool = False
    groups: dict[_Key, _Group] = field(default_factory=dict)

    def add(self, call: OurCall, *, card: RateCard) -> None:
        """One attempt. `card` is the one that its charge goes by."""
        if not call.is_something:
            return
        model = ALL_MODELS if self.all_models else call.model
        days = tuple(day for day, _ in call.counted)
        group = self.groups.setdefault((model, days, _day(call.began_at), _day(call.ended_at)), _Group())
        usage = call.usage
        whole = card.whole(prompt_tokens=usage.prompt, tier=usage.tier)
        kinds = (usage.computed_prompt, usage.cached, usage.cache_write, usage.output)
        group.requests += 1
        group.charge += call.charge
        group.credit += call.credit
        group.kinds = _plus(group.kinds, kinds)
        group.by_tier["" if usage.tier in STANDARD_TIERS else usage.tier] += usage.prompt + usage.output
        if call.is_estimated:
            group.estimated += 1
            group.estimated_kinds = _plus(group.estimated_kinds, kinds)
        valued = (count * whole[place] for count, place in zip(kinds, _KINDS, strict=True))
        group.valued = _plus(group.valued, _four(valued))
        group.prices.add(whole)
        group.counted = [
            before + amount for before, (_, amount) in zip(group.counted or [0] * len(days), call.counted, strict=True)
        ]

    @property
    def models(self) -> frozenset[str]:
        return frozenset(key[0] for key in self.groups)


@dataclass(slots=True)
class _Billed:
    """The seller's side of one model and day."""

    requests: int | None = None
    tokens: BilledTokens = UNTOLD
    by_tier: Counter[str] | None = None
    cost: int | None = None
    lines: int = 0


def weigh_days(tally: Tally, ours: OurDays, lines: Sequence[BilledDay], *, unit: Nanodollars) -> None:
    """Both sides of every model and day. Lines without money are valued at our prices.

    Raises BadRequest for tokens of a model that we have no price of, where no line has any money.
    """
    billed = _billed(lines, ours=ours, period=tally.period)
    has_money = any(line.cost is not None for line in lines)
    day_of = _likelier_day(ours, billed, period=tally.period)
    placed: dict[tuple[str, date], list[_Group]] = {}
    for key, group in ours.groups.items():
        if _place(tally, key, group, day=day_of(key)):
            placed.setdefault((key[0], day_of(key)), []).append(group)
    for model, day in sorted(placed.keys() | billed.keys()):
        held = _added(placed.get((model, day), []))
        seen = billed.get((model, day))
        prices = held.prices or _prices_of(model, ours)
        if seen is None:
            cost = 0
        elif not has_money:
            cost = _valued_at_ours(model, held, seen, prices)
        else:
            cost = seen.cost or 0
        tally.bills(model, day, cost, requests=None if seen is None else seen.requests)
        for cause, amount, requests in _causes(held, seen, cost=cost, prices=prices, unit=unit):
            if amount:
                tally.explains(cause, model, day, amount)
                tally.counts(cause, requests)


def _place(tally: Tally, key: _Key, group: _Group, *, day: date) -> bool:
    """Put it on the day that the seller counts it for, as a time border where ours is another; whether that day is in
    the period at all."""
    model, days, _, _ = key
    here = 0
    for place, (each, amount) in enumerate(zip(days, group.counted, strict=True)):
        tally.holds(model, each, amount, requests=group.requests if place == 0 else 0)
        if each == day:
            here += amount
        else:
            tally.explains(Cause.TIME_BORDER, model, each, -amount)
    is_asked_for = _is_in(tally.period, day)
    if is_asked_for:
        tally.holds(model, day, 0)
        tally.explains(Cause.TIME_BORDER, model, day, group.charge - here)
    elif here:
        tally.explains(Cause.TIME_BORDER, model, day, -here)
    if any(each != day for each in days) or (is_asked_for and group.charge != here):
        tally.counts(Cause.TIME_BORDER, group.requests)
    return is_asked_for


def _likelier_day(ours: OurDays, billed: dict[tuple[str, date], _Billed], *, period: Period) -> Callable[[_Key], date]:
    """Sellers count a request for the day on which it began, or ended. Whichever leaves fewer tokens, or less money,
    between the two accounts; when in doubt, began."""

    def distance(day_of: Callable[[_Key], date]) -> int:
        tokens: Counter[tuple[str, date]] = Counter()
        money: Counter[tuple[str, date]] = Counter()
        for key, group in ours.groups.items():
            if _is_in(period, day_of(key)):
                tokens[key[0], day_of(key)] += sum(group.kinds)
                money[key[0], day_of(key)] += group.charge
        apart = 0
        for cell in tokens.keys() | billed.keys():
            seen = billed.get(cell, _Billed())
            if seen.tokens.are_known:
                apart += abs((seen.tokens.prompt or 0) + (seen.tokens.output or 0) - tokens[cell])
            else:
                apart += abs((seen.cost or 0) - money[cell])
        return apart

    return min(_DAYS_OF, key=distance)


_DAYS_OF: Final[tuple[Callable[[_Key], date], ...]] = (lambda key: key[2], lambda key: key[3])


def _causes(
    held: _Group, seen: _Billed | None, *, cost: int, prices: set[Whole], unit: Nanodollars
) -> Iterator[tuple[Cause, int, int]]:
    """Amounts that sum to the seller's cost beyond our charge, each with how many requests it is about."""
    rest = cost - held.charge
    if rest == 0:
        return
    if held.requests == 0:
        yield Cause.UNLOGGED, rest, (seen.requests if seen else None) or 0
        return
    if seen is None:
        yield Cause.NOT_AT_PROVIDER, rest, held.requests
        return
    apart = _apart(held, seen)
    for cause, kinds, requests in _token_causes(held, seen, apart):
        amount = _value(kinds, held, prices)
        yield cause, amount, requests
        rest -= amount
    if held.credit and abs(rest + held.credit) < abs(rest):
        yield Cause.CREDIT, -held.credit, 0
        rest += held.credit
    yield _cause_of_rest(held, seen, apart, rest=rest, unit=unit, prices=prices), rest, held.requests


def _token_causes(held: _Group, seen: _Billed, apart: Kinds) -> Iterator[tuple[Cause, Kinds, int]]:
    """The tokens that the two accounts differ by, each of them under one cause."""
    more = 0 if seen.requests is None else seen.requests - held.requests
    if more:
        sign = 1 if more > 0 else -1
        ones = _four(count if count * sign > 0 else 0 for count in apart)
        yield (Cause.UNLOGGED if more > 0 else Cause.NOT_AT_PROVIDER), ones, abs(more)
        apart = _minus(apart, ones)
    if apart == _NONE:
        return
    prompt, cached, written, output = apart
    if output == 0 and prompt + cached + written == 0:
        yield Cause.CACHED, apart, held.requests
        return
    most = [count * _ESTIMATE_OFF_MOST for count in held.estimated_kinds]
    guessed = _four(max(-bound, min(bound, count)) for count, bound in zip(apart, most, strict=True))
    yield Cause.ESTIMATE, guessed, held.estimated
    yield Cause.USAGE, _minus(apart, guessed), held.requests


def _cause_of_rest(
    held: _Group, seen: _Billed, apart: Kinds, *, rest: int, unit: Nanodollars, prices: set[Whole]
) -> Cause:
    # Each line is rounded by the seller, and each of our charges by half a nanodollar.
    if abs(rest) <= unit * seen.lines + held.requests // 2:
        return Cause.ROUNDING
    if not seen.tokens.are_known:
        more = 0 if seen.requests is None else seen.requests - held.requests
        by_count = {(True, True): Cause.UNLOGGED, (False, False): Cause.NOT_AT_PROVIDER}
        return by_count.get((more > 0, rest > 0), Cause.UNEXPLAINED) if more else Cause.UNEXPLAINED
    if apart == _NONE and seen.by_tier is not None and +seen.by_tier != +held.by_tier:
        return Cause.TIER
    # Tokens that differ are valued exactly where all of the day cost the same: what is left is the price then.
    return Cause.PRICE if apart == _NONE or len(prices) == 1 else Cause.UNEXPLAINED


def _apart(held: _Group, seen: _Billed) -> Kinds:
    """The seller's tokens less ours, by kind; 0 for what the export does not say."""
    computed, cached, written, output = held.kinds
    tokens = seen.tokens
    told_cached = cached if tokens.cached is None else tokens.cached
    told_written = written if tokens.cache_write is None else tokens.cache_write
    told_prompt = computed + cached + written if tokens.prompt is None else tokens.prompt
    told_output = output if tokens.output is None else tokens.output
    return (
        told_prompt - told_cached - told_written - computed,
        told_cached - cached,
        told_written - written,
        told_output - output,
    )


def _value(kinds: Kinds, held: _Group, prices: set[Whole]) -> Nanodollars:
    """What these tokens cost here: at the one price of the day, or at each kind's mean."""
    sum_ = Fraction(0)
    for count, tokens, valued, place in zip(kinds, held.kinds, held.valued, _KINDS, strict=True):
        if len(prices) > 1 and tokens:
            sum_ += Fraction(count * valued, tokens)
        elif prices:
            sum_ += count * min(prices)[place]
    return rounded_quotient(sum_.numerator, sum_.denominator * SCALE)


def _valued_at_ours(model: str, held: _Group, seen: _Billed, prices: set[Whole]) -> int:
    if not prices:
        raise BadRequest(
            f"the export says how many tokens of {model[:80]} were used and not what they cost, and the books have no "
            "price of it: give the export of costs beside this one",
            param="file",
        )
    return held.charge + _value(_apart(held, seen), held, prices)


def _prices_of(model: str, ours: OurDays) -> set[Whole]:
    return {price for key, group in ours.groups.items() if key[0] == model for price in group.prices}


def _billed(lines: Sequence[BilledDay], *, ours: OurDays, period: Period) -> dict[tuple[str, date], _Billed]:
    models, names = ours.models, {line.model for line in lines if line.model is not None}
    known = {name: our_name(name, ours=models) for name in names}
    billed: dict[tuple[str, date], _Billed] = {}
    for line in lines:
        if not _is_in(period, line.day):
            continue
        model = ALL_MODELS if ours.all_models or line.model is None else known[line.model]
        cell = billed.setdefault((model, line.day), _Billed(by_tier=Counter()))
        cell.lines += 1
        cell.tokens = cell.tokens + line.tokens
        if line.requests is not None:
            cell.requests = (cell.requests or 0) + line.requests
        if line.cost is not None:
            cell.cost = (cell.cost or 0) + line.cost
        if line.tokens.are_known:
            _count_tier(cell, line)
    return billed


def _count_tier(cell: _Billed, line: BilledDay) -> None:
    if line.tier is None:
        cell.by_tier = None
    elif cell.by_tier is not None:
        tier = "" if line.tier.lower() in STANDARD_TIERS else line.tier.lower()
        cell.by_tier[tier] += (line.tokens.prompt or 0) + (line.tokens.output or 0)


def _added(groups: Sequence[_Group]) -> _Group:
    whole = _Group()
    for group in groups:
        whole.requests += group.requests
        whole.charge += group.charge
        whole.credit += group.credit
        whole.kinds = _plus(whole.kinds, group.kinds)
        whole.by_tier.update(group.by_tier)
        whole.estimated += group.estimated
        whole.estimated_kinds = _plus(whole.estimated_kinds, group.estimated_kinds)
        whole.valued = _plus(whole.valued, group.valued)
        whole.prices |= group.prices
    return whole


def _is_in(period: Period, day: date) -> bool:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return begin < period.until and period.since < begin + timedelta(days=1)


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _plus(one: Kinds, other: Kinds) -> Kinds:
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])


def _minus(one: Kinds, other: Kinds) -> Kinds:
    return (one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3])


def _four(counts: Iterator[int]) -> Kinds:
    one, two, three, four = counts
    return (one, two, three, four)
