"""What a self-hosted target has to do now, and how fast it is: own counts are exact, the engine tells the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import count
from math import floor, inf
from typing import Final

from app.domain.capacity.fullness import Fullness, Poll
from app.domain.capacity.service_curve import IDLE, CurveFit, Load, ServiceCurve
from app.domain.engine import STEP_TOKENS
from app.domain.metering.meter import Meter
from app.domain.signals import EngineSignals, SignalName
from app.domain.usage import Usage

#: Signals that are older count for nothing: four polls were missed.
SIGNALS_KNOWN_S: Final = 2.0
#: Over how many polls the most counts, where processes share a limit: what is free for a moment only is not free, as
#: requests come and go between polls.
TOTALS_KEPT: Final = 4
#: A curve of a target from which no whole answer came for so long predicts nothing, so that one that rules left because
#: it was predicted to be slow is asked again.
CURVE_KNOWN_S: Final = 300.0
#: A target at which nothing has been under way for so long is idle.
IDLE_AFTER_S: Final = 10.0
#: How long a prompt that is not streamed is taken to be computed where nothing is predicted.
PREFILL_USUALLY_S: Final = 1.0


#: Of ends that are kept, those of prompts that are computed by now may be half, and so many.
ENDS_LEAST: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a view shows of it. Times in milliseconds, as `TargetSeen` has them."""

    others: int = 0
    share: int | None = None
    waiting: int | None = None
    saturation: float | None = None
    predicted_ttft_ms: float | None = None
    prefill_tokens_per_s: float | None = None
    age_s: float | None = None
    is_idle: bool = False


NOTHING_TOLD: Final = Told()


class TargetLoad:
    """Belongs to one target. Times are those of the monotonic clock."""

    __slots__ = (
        "_computing",
        "_computing_until_s",
        "_curve",
        "_curve_until_s",
        "_ends",
        "_fit",
        "_fullness",
        "_idle_from_s",
        "_in_flight_most",
        "_met",
        "_numbered",
        "_numbers",
        "_others",
        "_prefill_tokens",
        "_processes",
        "_read_s",
        "_tells_load",
        "_totals",
    )

    def __init__(self, *, processes: int = 1) -> None:
        """`processes` share the limits: how many they are, as far as this one knows."""
        self._processes = processes
        self._in_flight_most: int | None = None
        self._tells_load = False
        self._fit = CurveFit()
        self._curve: ServiceCurve | None = None
        self._curve_until_s = -inf
        #: By request in flight: what it met when it was sent.
        self._met: dict[Meter, Load] = {}
        #: By request whose first token has not come: tokens of its prompt.
        self._computing: dict[Meter, int] = {}
        #: Of those that are not streamed, whose first token nobody sees: until when they count.
        self._computing_until_s: dict[Meter, float] = {}
        #: The same, soonest first, with those that are computed by now; numbered, so that meters are not compared.
        self._ends: list[tuple[float, int, Meter]] = []
        self._numbered = count()
        self._prefill_tokens = 0
        self._numbers: dict[SignalName, float] = {}
        self._read_s: float | None = None
        self._others = 0
        self._fullness = Fullness()
        #: From when on it is idle, if nothing is sent there before; infinity: something of ours is there.
        self._idle_from_s = -inf
        #: Of the last polls: requests of ours there, and all of them.
        self._totals: deque[tuple[int, int]] = deque(maxlen=TOTALS_KEPT)

    def limit(self, in_flight_most: int | None, *, tells_load: bool, step_tokens: int = STEP_TOKENS) -> None:
        """The policy's limit, which stands for the engine's places where the engine does not tell them. `tells_load`:
        an engine of this family tells what it works on. `step_tokens`: prompt tokens that it computes in one step."""
        if step_tokens != self._fit.step_tokens:
            self._fit = replace(self._fit, step_tokens=step_tokens)
            self._curve = self._fit.curve
        self._in_flight_most = in_flight_most
        self._tells_load = tells_load

    # ── what was learned ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def fit(self) -> CurveFit:
        """What was seen so far."""
        return self._fit

    def recall(self, fit: CurveFit, *, at_s: float) -> bool:
        """Take over what was seen elsewhere, if that is twice as much as was seen here. It predicts for as long as if
        its last first token had come now."""
        if fit.answers <= 2 * self._fit.answers:
            return False
        self._fit = replace(fit, step_tokens=self._fit.step_tokens)
        self._curve, self._curve_until_s = self._fit.curve, at_s + CURVE_KNOWN_S
        return True

    def forget_curve(self) -> None:
        """It is another engine: what was seen of the one before is void."""
        self._fit = CurveFit(step_tokens=self._fit.step_tokens)
        self._curve, self._curve_until_s = None, -inf
        self._fullness = Fullness()

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def entered(self, meter: Meter, *, in_flight: int, prompt_tokens: int, streamed: bool, at_s: float) -> None:
        """A request goes there while `in_flight` others of ours are under way."""
        load = self._load(in_flight, at_s=at_s)
        self._met[meter] = load
        self._idle_from_s = inf
        self._computing[meter] = prompt_tokens
        self._prefill_tokens += prompt_tokens
        if not streamed:
            curve = self._curve_at(at_s)
            takes_s = PREFILL_USUALLY_S if curve is None else curve.ttft_s(load, prompt_tokens=prompt_tokens)
            self._computing_until_s[meter] = at_s + takes_s
            self._ends_at(at_s + takes_s, meter)

    def computed(self, meter: Meter) -> None:
        """Its prompt is computed: its first token came. Nothing when that was known."""
        self._prefill_tokens -= self._computing.pop(meter, 0)
        self._computing_until_s.pop(meter, None)

    def left(
        self,
        meter: Meter,
        *,
        in_flight: int,
        ttft_s: float | None,
        tpot_s: float | None,
        usage: Usage | None,
        at_s: float,
    ) -> None:
        """It ended, while `in_flight` of ours were under way, itself among them. Times and usage: a whole answer's."""
        self.computed(meter)
        met = self._met.pop(meter, None)
        if not self._met:
            self._idle_from_s = at_s + IDLE_AFTER_S
        if met is None or usage is None:
            return
        self._fit = self._fit.saw_output(tokens=usage.output)
        if tpot_s is not None or ttft_s is not None:
            now = self._load(in_flight, at_s=at_s)
            if met.places is None:
                met = replace(met, places=now.places)  # by now it is known that it had to queue
        if tpot_s is not None:
            sequences = (_working(met.in_flight + 1, met) + _working(now.in_flight, now)) / 2
            self._fit = self._fit.saw_step(sequences=sequences, step_s=tpot_s)
        if ttft_s is not None:
            computed_tokens = usage.prompt - usage.cached
            self._fit = self._fit.saw_first_token(load=met, computed_tokens=computed_tokens, ttft_s=ttft_s)
        self._curve_until_s = at_s + CURVE_KNOWN_S
        self._curve = self._fit.curve

    # ── the engine's word ────────────────────────────────────────────────────────────────────────────────────────────

    def polled(self, signals: EngineSignals, *, ours: int, teaches: bool = True) -> float:
        """The engine told its load, of which at most `ours` requests are ours. One that told nothing only grows old.
        `teaches`: it serves the model whose speed is learned.

        Since when tokens have come there for somebody, whoever that is; minus infinity: none, or it does not tell."""
        numbers = dict(signals.numbers)
        if not numbers:
            return -inf
        before_s = self._read_s
        progressed = any(numbers.get(name, -inf) > self._numbers.get(name, inf) for name in _PROGRESS)
        total = int(numbers.get(SignalName.RUNNING, 0) + numbers.get(SignalName.WAITING, 0))
        self._others = max(0, total - ours)
        if not self._is_known(signals.at_s):
            self._totals.clear()
            self._fullness = self._fullness.after_a_gap()
        self._fullness = self._fullness.after(_poll(numbers))
        self._totals.append((ours, max(total, ours)))
        if teaches:
            self._saw_steps(numbers)
        self._numbers, self._read_s = numbers, signals.at_s
        return before_s if progressed and before_s is not None else -inf

    def _saw_steps(self, numbers: dict[SignalName, float]) -> None:
        """What passed since the last poll says how long steps take: the first pair of counters that the engine has."""
        before = self._numbers
        running = before.get(SignalName.RUNNING, 0.0), numbers.get(SignalName.RUNNING, 0.0)
        for sum_s, tokens_of in _STEPS:
            if tokens_of in before and tokens_of in numbers and sum_s in before and sum_s in numbers:
                tokens, took_s = numbers[tokens_of] - before[tokens_of], numbers[sum_s] - before[sum_s]
                if tokens > 0 and took_s > 0 and min(running) >= 1:
                    self._fit = self._fit.saw_step(sequences=sum(running) / 2, step_s=took_s / tokens)
                    self._curve = self._fit.curve
                return

    # ── what follows ─────────────────────────────────────────────────────────────────────────────────────────────────

    def told(self, *, in_flight: int, at_s: float) -> Told:
        """All of it, at `at_s`, with `in_flight` of ours under way."""
        load, is_known = self._load(in_flight, at_s=at_s), self._is_known(at_s)
        curve = self._curve_at(at_s)
        token_s = 0.0 if curve is None else curve.token_s(load)
        waiting = self._numbers.get(SignalName.WAITING) if is_known else None
        return Told(
            others=self._others if is_known else 0,
            share=self._share(is_known=is_known),
            waiting=None if waiting is None else int(waiting),
            saturation=round(load.in_flight / load.places, 3) if is_known and load.places else None,
            predicted_ttft_ms=None if curve is None else round(1000 * curve.ttft_s(load), 1),
            prefill_tokens_per_s=round(1 / token_s, 1) if token_s > _LEAST_S else None,
            age_s=None if self._read_s is None else float(max(0, floor(at_s - self._read_s))),
            is_idle=at_s >= self._idle_from_s and not (is_known and (self._others or waiting)),
        )

    def grow_older(self, *, at_s: float) -> float:
        """Let go of what time alone ends; the moment at which it changes something next."""
        while self._soonest_s() <= at_s:
            self.computed(self._ends[0][2])
        return self.changes_after_s(at_s=at_s)

    def changes_after_s(self, *, at_s: float) -> float:
        """When time alone changes what is told."""
        due_s = self._soonest_s()
        if self._curve is not None and at_s < self._curve_until_s:
            due_s = min(due_s, self._curve_until_s)
        if at_s < self._idle_from_s:
            due_s = min(due_s, self._idle_from_s)
        if self._read_s is not None:
            due_s = min(due_s, self._read_s + floor(at_s - self._read_s) + 1)
        return due_s

    def _ends_at(self, until_s: float, meter: Meter) -> None:
        if len(self._ends) > 2 * len(self._computing_until_s) + ENDS_LEAST:
            self._ends = [each for each in self._ends if each[2] in self._computing_until_s]
            heapify(self._ends)
        heappush(self._ends, (until_s, next(self._numbered), meter))

    def _soonest_s(self) -> float:
        """When the first prompt that is not streamed counts no more. Those that are computed are let go of."""
        while self._ends and self._ends[0][2] not in self._computing_until_s:
            heappop(self._ends)
        return self._ends[0][0] if self._ends else inf

    def _share(self, *, is_known: bool) -> int | None:
        """An even part of the limit at least; and beyond what was ours lately, an even part of what was free all the
        time. When the engine had too many, whoever has more than an even part gives back all that is too much."""
        limit = self._in_flight_most
        if limit is None or not self._tells_load:
            return None
        even = max(1, limit // self._processes)
        if not is_known:
            return even
        ours, total = self._totals[-1]
        if total > limit:
            return max(even, ours - (total - limit))
        most_ours, most = max(each for each, _ in self._totals), max(each for _, each in self._totals)
        if most > limit:
            return max(even, ours)
        return min(limit, max(even, most_ours + (limit - most) // self._processes))

    def _load(self, in_flight: int, *, at_s: float) -> Load:
        if not self._is_known(at_s):
            most = self._fullness.full_with if self._in_flight_most is None else self._in_flight_most
            if not in_flight and most is None:
                return IDLE
            return Load(in_flight=in_flight, prefill_tokens=self._prefill_tokens, places=most)
        slots = self._numbers.get(SignalName.SLOTS)
        return Load(
            in_flight=in_flight + self._others,
            prefill_tokens=self._prefill_tokens,
            places=self._fullness.places(slots=self._in_flight_most if not slots else int(slots)),
        )

    def _is_known(self, at_s: float) -> bool:
        return self._read_s is not None and at_s - self._read_s < SIGNALS_KNOWN_S

    def _curve_at(self, at_s: float) -> ServiceCurve | None:
        return self._curve if at_s < self._curve_until_s else None


def _poll(numbers: Mapping[SignalName, float]) -> Poll:
    """What its counts say of how full it is. One that does not tell who waits lets nobody wait."""
    return Poll(
        running=int(numbers.get(SignalName.RUNNING, 0)),
        waiting=int(numbers.get(SignalName.WAITING, 0)) if SignalName.RUNNING in numbers else 0,
        tokens=next((numbers[name] for name in _TOKENS if name in numbers), None),
        begun=next((numbers[name] for name in _BEGUN if name in numbers), None),
        memory_used=numbers.get(SignalName.KV_USAGE),
    )


def _working(in_flight: int, load: Load) -> int:
    """How many of those in flight are in a step."""
    return in_flight if load.places is None else min(in_flight, load.places)


#: Counters that grow when a token comes, and do not where an engine hangs.
_PROGRESS: Final = (
    SignalName.GENERATION_TOKENS,
    SignalName.TTFT_COUNT,
    SignalName.ITL_COUNT,
    SignalName.TPOT_COUNT,
)
_TOKENS: Final = (SignalName.GENERATION_TOKENS, SignalName.ITL_COUNT)
_BEGUN: Final = (SignalName.TTFT_COUNT, SignalName.QUEUE_COUNT)
_STEPS: Final = (
    (SignalName.ITL_SUM_S, SignalName.ITL_COUNT),
    (SignalName.TPOT_SUM_S, SignalName.TPOT_COUNT),
)
#: A prompt token that takes less is not told apart from nothing.
_LEAST_S: Final = 1e-9
