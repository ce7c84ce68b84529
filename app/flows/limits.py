"""Limits by the minute: nobody is served beyond them, and who has room waits for nobody.

A request spends from this process's slices. Only when those are short does it wait, for one call to Postgres that all
who wait share. While Postgres is away each process gives its share of the limit, never more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final, Protocol

from app.domain.caller import Caller
from app.domain.errors import RateLimited
from app.domain.limits import RateKind, RateStanding
from app.live.limits import SharedLimits, Slice
from app.ports import BooksAway, Clock
from app.ports.deadline import Within
from app.ports.ledger import Compared, LimitBook, RateWanted, TargetSent

#: How often processes tell one another what they sent, and idle slices go back.
TICK_S: Final = 1.0
#: A bucket that has not answered after so long is away.
ANSWER_WITHIN_S: Final = 1.0
#: A request asks again when another one took what it had waited for, but not for longer than this.
WAIT_MOST_S: Final = 2.0


class SentCounter(Protocol):
    """Counts what this process sends to targets that have limits."""

    def sent(self, *, at_s: float) -> Mapping[str, TargetSent]:
        """What went to every target that has limits, within the last minute."""
        ...

    def compared(self, compared: Compared) -> None:
        """Until told again: these are the rooms."""
        ...

    def parted(self) -> None:
        """Nothing is heard of the others: this process keeps to its share of every limit."""
        ...


class Admitted:
    """A request that its limits let in. Tokens are the prompt's estimate until `used` says what it was."""

    __slots__ = ("_gate", "_slices", "_tokens")

    def __init__(self, slices: tuple[Slice, ...], *, tokens: int, gate: LimitGate) -> None:
        self._slices = slices
        self._tokens = tokens
        self._gate = gate

    def used(self, tokens: int) -> None:
        """The request took so many tokens in all; the estimate is made good. Said again, it replaces the first."""
        self._gate.correct(self._slices, tokens - self._tokens)
        self._tokens = tokens

    def rates(self) -> tuple[RateStanding, ...]:
        """How the tightest limit of each kind stands now."""
        return tightest(self._slices, at_s=self._gate.clock.monotonic_s())


class LimitGate:
    """Lets requests in as the limits allow. `keep` beside it does the talking."""

    def __init__(self, *, clock: Clock, limits: SharedLimits | None = None) -> None:
        self.clock = clock
        self.limits = limits or SharedLimits()
        self._wanted: dict[str, Slice] = {}
        self._called = asyncio.Event()
        self._round = asyncio.Event()
        #: How many processes share the limits, as last heard.
        self.processes = 1
        self._is_away = False

    async def admit(self, caller: Caller, *, tokens: int) -> Admitted | None:
        """Count a request of about so many tokens; None: it has no limits. Raises RateLimited, and counts nothing."""
        slices = self.limits.of(caller)
        if not slices:
            return None
        at_s = self.clock.monotonic_s()
        give_up_s = at_s + WAIT_MOST_S
        while True:
            short = self._short(slices, tokens=tokens, at_s=at_s)
            if not short:
                self._spend(slices, tokens=tokens, at_s=at_s)
                return Admitted(slices, tokens=tokens, gate=self)
            if at_s >= give_up_s or self._is_away or any(_is_hopeless(one, tokens, at_s=at_s) for one in short):
                raise _refusal(short, slices, tokens=tokens, at_s=at_s)
            for one in short:
                one.waiting += _need(one, tokens)
                self._want(one)
            await self._round.wait()
            at_s = self.clock.monotonic_s()

    def correct(self, slices: tuple[Slice, ...], tokens: int) -> None:
        """So many tokens more than were counted; fewer, when negative."""
        at_s = self.clock.monotonic_s()
        for one in slices:
            if one.kind is RateKind.TOKENS:
                one.spend(tokens, at_s=at_s)
                if one.is_low() and not self._is_away:
                    self._want(one)

    async def keep(self, book: LimitBook, *, holder: str, counter: SentCounter) -> None:
        """Take, give back and compare, for ever, until cancelled. `holder` names this process."""
        ticked_s = -TICK_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._called.wait()
            at_s = self.clock.monotonic_s()
            if at_s - ticked_s >= TICK_S:
                ticked_s = at_s
                self._return_idle(at_s=at_s)
                await self._compare(book, holder=holder, counter=counter)
            await self._take(book)

    async def give_back(self, book: LimitBook, *, holder: str, counter: SentCounter) -> None:
        """At the end: what is still held goes back, and the others share what this process had. Best effort."""
        held = [one for one in self.limits.all().values() if one.held]
        with contextlib.suppress(BooksAway, TimeoutError):
            async with Within(ANSWER_WITHIN_S):
                await book.take([_wanted(one, -one.held) for one in held])
                await book.leave(holder=holder, sent=counter.sent(at_s=self.clock.monotonic_s()))

    def _short(self, slices: tuple[Slice, ...], *, tokens: int, at_s: float) -> list[Slice]:
        if self._is_away:
            for one in slices:
                if one.held < _need(one, tokens):
                    one.draw_alone(at_s=at_s, processes=self.processes)
        return [one for one in slices if one.held < _need(one, tokens)]

    def _spend(self, slices: tuple[Slice, ...], *, tokens: int, at_s: float) -> None:
        for one in slices:
            one.spend(_need(one, tokens), at_s=at_s)
            if one.is_low() and not self._is_away:
                self._want(one)

    def _want(self, one: Slice) -> None:
        self._wanted[one.name] = one
        self._called.set()

    def _return_idle(self, *, at_s: float) -> None:
        for one in self.limits.all().values():
            if one.name not in self._wanted and one.surplus(at_s=at_s):
                self._wanted[one.name] = one

    async def _take(self, book: LimitBook) -> None:
        """One call for all who wait; whoever comes meanwhile is in the next."""
        self._called.clear()
        asked, self._wanted = list(self._wanted.values()), {}
        arrived, self._round = self._round, asyncio.Event()
        at_s = self.clock.monotonic_s()
        pairs = [(one, one.wish() or -one.surplus(at_s=at_s)) for one in asked]
        for one in asked:
            one.waiting = 0
        pairs = [(one, amount) for one, amount in pairs if amount]
        try:
            if pairs:
                await self._ask(book, pairs)
        finally:
            arrived.set()

    async def _ask(self, book: LimitBook, pairs: list[tuple[Slice, int]]) -> None:
        for one, amount in pairs:
            if amount < 0:  # nobody may spend what is on its way back
                one.held += amount
        try:
            async with Within(ANSWER_WITHIN_S):
                granted = await book.take([_wanted(one, amount) for one, amount in pairs])
        except (BooksAway, TimeoutError):
            self._is_away = True
            return
        self._is_away = False
        at_s = self.clock.monotonic_s()
        for (one, amount), given in zip(pairs, granted, strict=True):
            if amount < 0:
                one.held -= amount
            one.heard(given, at_s=at_s)

    async def _compare(self, book: LimitBook, *, holder: str, counter: SentCounter) -> None:
        at_s = self.clock.monotonic_s()
        sent = counter.sent(at_s=at_s)
        if not sent and not self.limits.all():
            return
        try:
            async with Within(ANSWER_WITHIN_S):
                compared = await book.compare(holder=holder, sent=sent)
        except (BooksAway, TimeoutError):
            self._is_away = True
            counter.parted()
            return
        self._is_away = False
        self.processes = compared.processes
        counter.compared(compared)


def tightest(slices: tuple[Slice, ...], *, at_s: float) -> tuple[RateStanding, ...]:
    """Of each kind the limit that leaves least, requests first."""
    standings = [one.standing(at_s=at_s) for one in slices]
    return tuple(
        min(of_kind, key=lambda standing: standing.left)
        for kind in RateKind
        if (of_kind := [standing for standing in standings if standing.kind is kind])
    )


def _need(one: Slice, tokens: int) -> int:
    return 1 if one.kind is RateKind.REQUESTS else tokens


def _is_hopeless(one: Slice, tokens: int, *, at_s: float) -> bool:
    """Asking is no use: the bucket was empty a moment ago, or is too small when it is full."""
    need = _need(one, tokens)
    return need > one.per_minute or one.is_dry(need, at_s=at_s)


def _wanted(one: Slice, amount: int) -> RateWanted:
    return RateWanted(name=one.name, per_minute=one.per_minute, amount=amount)


def _refusal(short: list[Slice], slices: tuple[Slice, ...], *, tokens: int, at_s: float) -> RateLimited:
    worst = max(short, key=lambda one: one.comes_in_s(_need(one, tokens), at_s=at_s))
    need = _need(worst, tokens)
    rates = tightest(slices, at_s=at_s)
    limit = f"{worst.owner.partition(' ')[0]} {worst.kind}"
    if need > worst.per_minute:
        return RateLimited(
            f"Request too large for the {worst.owner}: about {need} tokens, and its limit is {worst.per_minute} per "
            "minute; send a shorter prompt, or have its operator raise the limit",
            limit=limit,
            rates=rates,
        )
    wait_s = worst.comes_in_s(need, at_s=at_s)
    left = worst.standing(at_s=at_s).left
    return RateLimited(
        f"Rate limit reached for the {worst.owner}: {worst.per_minute} {worst.kind} per minute over all processes of "
        f"this gateway, {left} left, {need} asked; try again in {wait_s:.1f} s, or have its operator raise the limit",
        limit=limit,
        rates=rates,
        retry_after_s=wait_s,
    )
