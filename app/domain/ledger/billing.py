"""Two accounts of the same calls: what a seller says that it bills, and what the books hold."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from typing import Final

from app.domain.money import ZERO, Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import Usage, UsageSource

#: What sellers add to a model's name when they say which day it was made: gpt-5-mini-2025-08-07, claude-x-20250929.
_MADE_ON = re.compile(r"[-@](\d{4}-\d\d-\d\d|\d{8})$", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledTokens:
    """Tokens as the seller counts them, what was read from a cache or written to one inside the prompt; None: its
    export does not say."""

    prompt: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    output: int | None = None

    @property
    def are_known(self) -> bool:
        """Prompt and output are told, so that their price can be."""
        return self.prompt is not None and self.output is not None

    def over(self, usage: Usage) -> Usage:
        """The usage with what the seller says in the place of ours, no part larger than its whole."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(usage, **{name: count for name, count in told.items() if count is not None}).believable()[0]

    def __add__(self, other: BilledTokens) -> BilledTokens:
        """Both together; what one of them does not say is what the other says."""
        return BilledTokens(
            prompt=_sum(self.prompt, other.prompt),
            cached=_sum(self.cached, other.cached),
            cache_write=_sum(self.cache_write, other.cache_write),
            output=_sum(self.output, other.output),
        )


#: An export that says nothing of tokens.
UNTOLD: Final = BilledTokens()
_FINEST: Final = Nanodollars(1)


def _sum(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledCall:
    """One request as the seller's export has it."""

    #: Of the file, from 1.
    line: int
    #: What the request is called: the seller's own id first, then the one that we sent.
    ids: tuple[str, ...]
    at: datetime
    model: str
    tokens: BilledTokens = UNTOLD
    #: None: the export does not say.
    tier: str | None = None
    cost: Nanodollars


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledDay:
    """Requests of one UTC day together, or only their tokens, or only their money."""

    day: date
    #: None: all models together.
    model: str | None
    project: str = ""
    tier: str | None = None
    requests: int | None = None
    tokens: BilledTokens = UNTOLD
    cost: Nanodollars | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What a seller's file says: requests one by one, or days."""

    calls: tuple[BilledCall, ...] = ()
    days: tuple[BilledDay, ...] = ()
    #: The kind of the targets that it is about, such as "openai"; empty: the file does not tell.
    provider: str = ""
    #: The smallest step of its money: nothing smaller can be told from its rounding.
    unit: Nanodollars = _FINEST

    @property
    def has_money(self) -> bool:
        """Some line says what it costs."""
        return bool(self.calls) or any(line.cost is not None for line in self.days)

    @property
    def has_tokens(self) -> bool:
        """Some line says how many tokens it is of."""
        return any(line.tokens.are_known for line in self.calls) or any(line.tokens.are_known for line in self.days)


@dataclass(frozen=True, slots=True, kw_only=True)
class OurCall:
    """One attempt as the books have it now, with all its adjustments."""

    attempt_id: str
    provider_request_id: str | None
    target: str
    #: As the target knows it.
    model: str
    began_at: datetime
    ended_at: datetime
    usage: Usage
    usage_source: UsageSource
    #: The three prices on its row, under the digest of the card that its charge goes by.
    price: RateCard
    #: As it stands; `credit` is the part of it that adjustments gave without any tokens or prices.
    charge: Nanodollars
    credit: Nanodollars = ZERO
    #: What of the charge counts for the period that was asked for, by UTC day; empty: nothing.
    counted: tuple[tuple[date, Nanodollars], ...] = ()

    @property
    def is_something(self) -> bool:
        """It has tokens or money; a seller counts no request that never reached it."""
        counted = (amount for _, amount in self.counted)
        return any((self.usage.prompt, self.usage.output, self.charge, *counted))

    @property
    def is_estimated(self) -> bool:
        """The seller's own count is not on the row."""
        return self.usage_source is not UsageSource.PROVIDER_FINAL


def our_name(model: str, *, ours: Collection[str]) -> str:
    """What the books call a model of an export: the same but for capitals, a seller before it, or the day that it was
    made after it, on either side. A model that fits none of ours, or more than one, keeps its name."""
    wanted = _bare(model)
    for alike in (
        lambda name: name == model,
        lambda name: _bare(name) == wanted,
        lambda name: _MADE_ON.sub("", _bare(name)) == _MADE_ON.sub("", wanted),
    ):
        found = [name for name in ours if alike(name)]
        if len(found) == 1:
            return found[0]
    return model


def _bare(model: str) -> str:
    return model.lower().rpartition("/")[2]
