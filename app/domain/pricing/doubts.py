"""Prices that a person should look at before money moves by them: odd in themselves, changed much, or disputed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from app.domain.pricing.rate_card import RateCard

#: A change of a price by more than this share of it needs a person.
CHANGE_MOST: Final = Decimal("0.2")
#: Two lists agree within this share of a price: one of them was written in binary fractions.
SAME_WITHIN: Final = Decimal("0.000001")

#: A price within a list: service tier ("" the standard one), threshold (-1 none), kind of token.
Place = tuple[str, int, str]


class DoubtKind(StrEnum):
    """What is the matter."""

    CACHED_ABOVE_PROMPT = "cached_above_prompt"
    OUTPUT_BELOW_PROMPT = "output_below_prompt"
    ZERO = "zero"
    TIER_ABOVE_STANDARD = "tier_above_standard"
    CHANGED = "changed"
    DISPUTED = "disputed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One thing to look at. `name` is the catalogue's `seller/model`, `message` a sentence without it."""

    name: str
    kind: DoubtKind
    message: str


def odd_prices(name: str, card: RateCard) -> Iterator[Doubt]:
    """What is odd whatever it was before: a cached token dearer than a computed one, output below prompt, nothing to
    pay, a batch or flex tier above the standard one."""
    for tier, above_tokens, sheet in card.whole_list().sheets():
        where = _where(tier, above_tokens)
        prompt, cached, output = (_digits(price) for price in (sheet.prompt, sheet.cached_prompt, sheet.output))
        if sheet.cached_prompt > sheet.prompt:
            message = f"a cached prompt token{where} costs {cached}, a computed one {prompt}"
            yield Doubt(name=name, kind=DoubtKind.CACHED_ABOVE_PROMPT, message=message)
        if sheet.output < sheet.prompt:
            message = f"an output token{where} costs {output}, less than the {prompt} of a prompt token"
            yield Doubt(name=name, kind=DoubtKind.OUTPUT_BELOW_PROMPT, message=message)
        if not sheet.prompt or not sheet.output:
            message = f"prompt tokens{where} cost {prompt} and output tokens {output}"
            yield Doubt(name=name, kind=DoubtKind.ZERO, message=message)
        standard = card.sheet(prompt_tokens=above_tokens + 1)
        if tier in {"batch", "flex"} and (sheet.prompt > standard.prompt or sheet.output > standard.output):
            message = f"the prices{where} are above the standard ones"
            yield Doubt(name=name, kind=DoubtKind.TIER_ABOVE_STANDARD, message=message)


def much_changed(name: str, *, before: RateCard, after: RateCard) -> Iterator[Doubt]:
    """Every price that moved by more than a fifth, or became nothing."""
    old, new = prices_by_place(before), prices_by_place(after)
    for place in sorted(old.keys() & new.keys()):
        moved = abs(new[place] - old[place])
        if moved > old[place] * CHANGE_MOST or (old[place] and not new[place]):
            message = f"{_said(place)} went from {_digits(old[place])} to {_digits(new[place])}"
            yield Doubt(name=name, kind=DoubtKind.CHANGED, message=message)


def disputed(name: str, card: RateCard, *, second: Mapping[Place, Decimal], second_name: str) -> Iterator[Doubt]:
    """Every price on which a second list says something else, where both say something."""
    ours = prices_by_place(card)
    for place in sorted(ours.keys() & second.keys()):
        if abs(ours[place] - second[place]) > max(ours[place], second[place]) * SAME_WITHIN:
            message = f"{_said(place)} is {_digits(ours[place])} here and {_digits(second[place])} in {second_name}"
            yield Doubt(name=name, kind=DoubtKind.DISPUTED, message=message)


def prices_by_place(card: RateCard) -> Mapping[Place, Decimal]:
    """Every price that the list gives."""
    return {
        (tier, above_tokens, kind): price
        for tier, above_tokens, sheet in card.whole_list().sheets()
        for kind, price in sheet.prices()
    }


def _said(place: Place) -> str:
    tier, above_tokens, kind = place
    return f"the price of {kind.replace('_', ' ')}{_where(tier, above_tokens)}"


def _where(tier: str, above_tokens: int) -> str:
    within = f" in the tier {tier}" if tier else ""
    return within + (f" of prompts over {above_tokens:,} tokens" if above_tokens >= 0 else "")


def _digits(price: Decimal) -> str:
    return f"{price.normalize():f}"
