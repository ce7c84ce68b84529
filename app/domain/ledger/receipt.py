"""The receipt: one immutable record of a request; its attempts are what costs money."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final

from app.domain.ledger.hold import Hold
from app.domain.metering.measurement import Outcome
from app.domain.money import ZERO, Nanodollars
from app.domain.quick import quickly_made
from app.domain.routing.facts import RequestFacts
from app.domain.routing.plan import Plan, Refusal
from app.domain.target import Hosting
from app.domain.usage import NOTHING, Usage, UsageSource

#: A flag may say a sentence behind its word. Of requests that were not dispatched: what they were told instead.
BUDGET_REFUSED: Final = "budget_refused"
LEDGER_UNAVAILABLE: Final = "ledger_unavailable"
#: The attempts began behind the plan's first choice.
PASSED_OVER: Final = "passed_over"
#: It waited in the gateway's queue; once for each target that it waited for.
WAITED: Final = "waited"
#: Its first attempt had not begun to answer in time, so that a second target was asked beside it. Of a receipt.
HEDGED: Final = "hedged"
#: Of the two, this one was broken off as the other began to answer, or failed while the first went on. Of an attempt;
#: of one of a request at most.
HEDGE_LOST: Final = "hedge_lost"
_SAYING: Final = ": "
_IN_VAIN: Final = ", in vain: "
_WAITED_MS: Final = re.compile(r"it waited (\d+) ms")


def flagged(word: str, sentence: str) -> str:
    """A flag that says why."""
    return f"{word}{_SAYING}{sentence}"


def waited_flag(*, target: str, waited_s: float, in_vain: str = "") -> str:
    """That it waited so long for a place at this target; `in_vain`: why it got none."""
    why = f"{_IN_VAIN}{in_vain}" if in_vain else ""
    return flagged(WAITED, f"it waited {round(1000 * waited_s)} ms for a place at {target}{why}")


def hedged_flag(*, first: str, second: str, after_s: float) -> str:
    """That the second target was asked too, as the first had not begun to answer after so long."""
    return flagged(HEDGED, f"after {1000 * after_s:g} ms without an answer from {first}, {second} was asked too")


class HedgeWon(StrEnum):
    """Whose answer a hedged request has."""

    FIRST = "first"
    HEDGE = "hedge"
    #: Both failed, or nobody waited for either.
    NEITHER = "neither"


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One dispatch to one target. `attempt_id` is the request id and the attempt's number, from 1."""

    attempt_id: str
    number: int
    target: str
    hosting: Hosting
    kind: str
    upstream_model: str
    outcome: Outcome
    #: The fault's kind where it failed.
    fault: str | None = None
    fault_message: str | None = None
    status: int | None = None
    provider_request_id: str | None = None
    #: Unix microseconds of the dispatch.
    started_us: int
    usage: Usage = NOTHING
    usage_source: UsageSource = UsageSource.NOTHING_SENT
    content_events: int = 0
    ttft_s: float | None = None
    tpot_s: float | None = None
    duration_s: float = 0.0
    rate_card_digest: str
    price_prompt: Decimal
    price_cached_prompt: Decimal
    price_output: Decimal
    charge: Nanodollars = ZERO
    flags: tuple[str, ...] = ()


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A request and all that became of it. Ledger rows, log line, metrics and explanation are readings of it."""

    request_id: str
    #: Unix microseconds, fixed when the id was made; the ledger's partition key.
    at_us: int
    facts: RequestFacts
    #: The caller's own id for the request: a label, never a key.
    caller_label: str | None = None
    policy_digest: str
    decision: Plan | Refusal
    outcome: Outcome
    #: HTTP status the caller saw; 499 when the caller left before one was sent. Without meaning where the outcome is
    #: interrupted: nobody knows what that caller saw.
    status: int
    attempts: tuple[Attempt, ...] = ()
    #: From the first byte of the request to the last of the answer.
    duration_s: float = 0.0
    #: Our own part of it before the first dispatch, without what it waited for a place at a full target.
    overhead_s: float = 0.0
    #: Each a word, or a word and a sentence (`flagged`).
    flags: tuple[str, ...] = field(default=())
    #: The request that this one is a copy of, sent to a shadow, whose answer nobody sees; None for what callers asked.
    shadow_of: str | None = None
    #: What was held of budgets for it; a request under no budget holds nothing.
    holds: tuple[Hold, ...] = ()

    @property
    def charge(self) -> Nanodollars:
        """What all attempts together cost."""
        if len(self.attempts) == 1:
            return self.attempts[0].charge
        return Nanodollars(sum(attempt.charge for attempt in self.attempts))

    @property
    def waited_s(self) -> float:
        """Seconds in the gateway's queue, for all targets together; 0 for what never had to wait."""
        if not self.flags:
            return 0.0
        waits = (_WAITED_MS.match(flag, len(WAITED) + len(_SAYING)) for flag in self.flags if flag.startswith(WAITED))
        return sum(int(wait[1]) for wait in waits if wait) / 1000

    def waited_at(self, target: str) -> float:
        """Seconds in the queue of this target alone; 0 where it did not wait there."""
        place = f" ms for a place at {target}"
        for flag in self.flags:
            wait = _WAITED_MS.match(flag, len(WAITED) + len(_SAYING)) if flag.startswith(WAITED) else None
            if wait is not None and flag[wait.end(1) :].partition(_IN_VAIN)[0] == place:
                return int(wait[1]) / 1000
        return 0.0

    @property
    def flag_words(self) -> frozenset[str]:
        """Its flags and its attempts', without what they say."""
        flags = (*self.flags, *(flag for attempt in self.attempts for flag in attempt.flags))
        return frozenset(flag.partition(_SAYING)[0] for flag in flags)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What its flags say, each a sentence."""
        said = (flag.partition(_SAYING)[2].rstrip(".") for flag in self.flags)
        return tuple(f"{sentence[0].upper()}{sentence[1:]}." for sentence in said if sentence)

    @property
    def final(self) -> Attempt | None:
        """The attempt that gave the answer, or the last one that tried; None when nothing was dispatched.

        It is the last but where that one was a hedge that ended before the first."""
        if not self.attempts:
            return None
        last = self.attempts[-1]
        return last if not last.flags or HEDGE_LOST not in last.flags else self.attempts[-2]

    @property
    def hedge_won(self) -> HedgeWon | None:
        """Which of the two attempts that raced has the answer, by what the receipt says; None: there was no hedge.
        The two are the request's first, as no other attempt is hedged."""
        if len(self.attempts) < 2 or not any(flag.startswith(HEDGED + _SAYING) for flag in self.flags):
            return None
        first, hedge = self.attempts[:2]
        if HEDGE_LOST in first.flags or hedge.outcome is Outcome.COMPLETE:
            return HedgeWon.HEDGE
        was_broken_off = HEDGE_LOST in hedge.flags and hedge.fault is None
        if was_broken_off or first.outcome is Outcome.COMPLETE:
            return HedgeWon.FIRST
        return HedgeWon.NEITHER
