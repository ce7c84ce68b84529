"""Engines are asked how they do while requests flow, and what they serve whenever that may have changed.

Load: every half second, one question at a time for each target, none when no request has come for a while. Models: when
a target is first seen, around a rest after failures, when its counters have gone back, which means that it was started
anew, and before anything is sent where a connection broke. A target that serves another model gets nothing until it
serves the right one. That an engine does not answer says nothing else of it: its signals grow old, and requests will
show.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from math import inf
from typing import Final

from app.domain.engine import EngineReading, Health
from app.domain.signals import EngineSignals, SignalName
from app.domain.target import Hosting, Target
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot
from app.ports import Clock
from app.ports.engines import EngineProbe

#: Between two polls of a target, on average; each is up to a fifth sooner or later.
POLL_EVERY_S: Final = 0.5
POLL_SPREAD: Final = 0.2
#: Without a request for so long nobody is polled.
IDLE_S: Final = 5.0
#: Between looks whether somebody has to be asked: what the first request after a rest waits for signals, at the most.
TICK_S: Final = 0.1
#: Between two questions for the models of a target that rests after failures, while requests flow.
RESTING_EVERY_S: Final = 1.0
#: … and of one that serves another model, or that did not say what it serves.
MODELS_AGAIN_S: Final = 5.0
#: A request waits so long at the most until it is known what a target serves whose connection broke.
SURE_WITHIN_S: Final = 1.0

_NAMES_MOST: Final = 3
_COUNTERS: Final = (
    SignalName.GENERATION_TOKENS,
    SignalName.PROMPT_TOKENS,
    SignalName.TTFT_COUNT,
    SignalName.ITL_COUNT,
    SignalName.TPOT_COUNT,
)


class FleetWatch:
    """Belongs to one event loop. `notice` gets a sentence when a target turns out to serve another model, and when it
    serves the right one again. `jitter` gives numbers in [0, 1)."""

    def __init__(
        self,
        probe: EngineProbe,
        fleet: Fleet,
        slot: PolicySlot,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        notice: Callable[[str], None],
    ) -> None:
        self._probe = probe
        self._fleet = fleet
        self._slot = slot
        self._clock = clock
        self._jitter = jitter
        self._notice = notice
        self._watched: dict[str, _Watched] = {}
        #: Somebody waits for a question.
        self._called = asyncio.Event()

    async def keep(self) -> None:
        """Ask, for ever, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._called.clear()
                for question in self.due():
                    group.create_task(question)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._called.wait()

    async def make_sure(self, target: str) -> None:
        """Before a request is sent to a target in doubt: returns when it is known what it serves, when it was asked and
        does not say, or after SURE_WITHIN_S. All who wait share one question; one that was silent then is not waited
        for again for MODELS_AGAIN_S."""
        watched = self._watched.get(target)
        if watched is None or self._clock.monotonic_s() < watched.silent_until_s:
            return
        ours = watched.looks_begun + 1
        watched.is_wanted = True
        self._called.set()
        try:
            async with asyncio.timeout(SURE_WITHIN_S):
                while self._fleet.is_in_doubt(target) and watched.looks_ended < ours:
                    await watched.answered.wait()
        except TimeoutError:
            watched.silent_until_s = self._clock.monotonic_s() + MODELS_AGAIN_S

    def due(self) -> list[Coroutine[None, None, None]]:
        """The questions that are to be asked now; each is to be awaited, and none of its target follows before."""
        now_s = self._clock.monotonic_s()
        is_busy = self._fleet.is_busy(at_s=now_s, lately_s=IDLE_S)
        resting = self._fleet.resting()
        questions = []
        for watched in self._follow():
            if watched.is_asked:
                continue
            if resting.get(watched.target.name):
                again_s = RESTING_EVERY_S if is_busy else MODELS_AGAIN_S
                watched.models_s = min(watched.models_s, watched.asked_models_s + again_s)
                watched.has_rested = True
            elif watched.has_rested:
                watched.models_s, watched.has_rested = now_s, False
            if is_busy and self._fleet.is_in_doubt(watched.target.name):
                watched.models_s = min(watched.models_s, watched.asked_models_s + RESTING_EVERY_S)
            is_due = now_s >= watched.models_s and (is_busy or not watched.waits_for_traffic)
            if watched.is_wanted or is_due:
                questions.append(self._ask_models(watched))
            elif is_busy and watched.tells_load and now_s >= watched.poll_s:
                questions.append(self._ask_load(watched))
            else:
                continue
            watched.is_asked = True
        return questions

    def _follow(self) -> list[_Watched]:
        """Those of the policy in force. One that is another engine or model now is new."""
        targets = self._slot.current.targets
        for name, target in targets.items():
            if target.hosting is not Hosting.SELF_HOSTED:
                continue
            before = self._watched.get(name)
            if before is None or not _is_same(before.target, target):
                self._watched[name] = _Watched(target=target)
            else:
                before.target = target
        gone = [name for name, each in self._watched.items() if targets.get(name) is not each.target]
        for name in gone:
            del self._watched[name]
        return [*self._watched.values()]

    async def _ask_load(self, watched: _Watched) -> None:
        name = watched.target.name
        try:
            before = self._fleet.in_flight().get(name, 0)
            signals = await self._probe.signals(watched.target)
            self._heard(watched, signals, before=before)
        finally:
            self._asked(watched)

    async def _ask_models(self, watched: _Watched) -> None:
        name, watched.asked_models_s = watched.target.name, self._clock.monotonic_s()
        watched.looks_begun, watched.is_wanted = watched.looks_begun + 1, False
        try:
            before = self._fleet.in_flight().get(name, 0)
            reading = await self._probe.look(watched.target)
            watched.models_s = inf
            self._heard(watched, reading.signals, before=before)
            self._judge(watched, reading)
        finally:
            watched.looks_ended = watched.looks_begun
            self._asked(watched)

    def _asked(self, watched: _Watched) -> None:
        spread = 1 + POLL_SPREAD * (2 * self._jitter() - 1)
        watched.poll_s = self._clock.monotonic_s() + POLL_EVERY_S * spread
        watched.is_asked = False
        answered, watched.answered = watched.answered, asyncio.Event()
        answered.set()
        if watched.is_wanted:
            self._called.set()

    def _heard(self, watched: _Watched, signals: EngineSignals, *, before: int) -> None:
        """`before`: what was in flight there when it was asked. What left or came meanwhile may be counted or not."""
        if self._watched.get(watched.target.name) is not watched:
            return
        ours = max(before, self._fleet.in_flight().get(watched.target.name, 0))
        self._fleet.polled(watched.target.name, signals, ours=ours)
        if signals.numbers:
            if _went_back(watched.signals, signals):
                watched.models_s = self._clock.monotonic_s()
            watched.signals = signals

    def _judge(self, watched: _Watched, reading: EngineReading) -> None:
        """A list of models tells; without one, what was known stands and it is asked again once requests flow."""
        target, is_right = watched.target, reading.model(watched.target.model) is not None
        if self._watched.get(target.name) is not watched:
            return
        self._fleet.runs(target.name, version=reading.version or "")
        if reading.models or reading.health not in (Health.AWAY, Health.NOT_READY):
            self._fleet.is_sure(target.name, at_s=watched.asked_models_s)
        watched.waits_for_traffic = not reading.models
        if not is_right:
            watched.models_s = watched.asked_models_s + MODELS_AGAIN_S
        if not reading.models:
            return
        names = sorted(model.name for model in reading.models)
        instead = "" if is_right else ", ".join(names[:_NAMES_MOST]) + (" and others" if names[_NAMES_MOST:] else "")
        if instead and instead != watched.serves_instead:
            self._notice(
                f"{target.name} serves {instead}, not {target.model}: nothing is sent there until it serves that; "
                "start that model there, or name this one in the policy"
            )
        elif watched.serves_instead and not instead:
            self._notice(f"{target.name} serves {target.model} again, and gets requests again")
        watched.serves_instead = instead
        self._fleet.serves(target.name, instead=instead)


@dataclass(slots=True, kw_only=True, eq=False)
class _Watched:
    """One self-hosted target, and when it is asked what."""

    target: Target
    is_asked: bool = False
    poll_s: float = -inf
    #: When it is asked for its models next.
    models_s: float = -inf
    asked_models_s: float = -inf
    #: That question waits until requests flow.
    waits_for_traffic: bool = False
    has_rested: bool = False
    #: Somebody waits until it is known what it serves.
    is_wanted: bool = False
    #: It did not answer that in time: nobody waits for it before this.
    silent_until_s: float = -inf
    #: Questions for its models, one at a time.
    looks_begun: int = 0
    looks_ended: int = 0
    #: Set when the question that is out now, or else the next one, has its answer.
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    serves_instead: str = ""
    signals: EngineSignals | None = None

    @property
    def tells_load(self) -> bool:
        return self.target.family is not None and bool(self.target.family.signals)


def _is_same(one: Target, other: Target) -> bool:
    return (one.url, one.model, one.kind) == (other.url, other.model, other.kind)


def _went_back(before: EngineSignals | None, now: EngineSignals) -> bool:
    """A counter is smaller than it was: the engine was started anew."""
    if before is None:
        return False
    return any(now.numbers.get(name, inf) < before.numbers.get(name, -inf) for name in _COUNTERS)
