"""One target as this process counts it."""

from __future__ import annotations

from math import inf
from typing import Final

from app.domain.capacity.learned import Identity, LearnedCurve, identity_of, is_other_version
from app.domain.engine import STEP_TOKENS
from app.domain.metering.meter import Meter
from app.domain.pricing.rate_card import RateCard
from app.domain.signals import SignalName
from app.domain.target import Hosting, Target, TargetSeen
from app.live.circuits import IN_SERVICE
from app.live.rate_windows import RateWindow
from app.live.target_load import NOTHING_TOLD, TargetLoad
from app.ports.curves import KeptCurve

#: The weight of the newest time to the first token in the smoothed one.
TTFT_WEIGHT: Final = 0.2
#: A speed that nobody has seen for so long is not known any more. Without this, a target that rules leave because it
#: was slow once would never be asked again, and so stay slow for ever.
TTFT_KNOWN_S: Final = 30.0


class TargetPlace:
    """One target, counted. A view shows it as an immutable `TargetSeen`."""

    __slots__ = (
        "broke_s",
        "credential_present",
        "engine_version",
        "in_flight",
        "is_followed",
        "learned_of",
        "load",
        "meters",
        "progressed_s",
        "rate_card",
        "rest",
        "serves_instead",
        "ttft_ms",
        "ttft_until_s",
        "window",
    )

    def __init__(self) -> None:
        self.in_flight = 0
        #: Of the requests in flight.
        self.meters: dict[Meter, None] = {}
        #: When anything came from there last, of requests that are over, and for anybody as the engine tells.
        self.progressed_s = -inf
        self.rest = IN_SERVICE
        self.credential_present = True
        self.rate_card: RateCard | None = None
        self.is_followed = False
        self.ttft_ms: float | None = None
        self.ttft_until_s = 0.0
        #: For targets with limits by the minute only.
        self.window: RateWindow | None = None
        #: For self-hosted targets only.
        self.load: TargetLoad | None = None
        self.learned_of: Identity | None = None
        #: As the engine says, or as what was learned before says; empty: not known.
        self.engine_version = ""
        self.serves_instead = ""
        #: When a connection there broke, so that another engine may have begun since; None: it is known what serves.
        self.broke_s: float | None = None

    def limit(self, target: Target) -> None:
        """Count for the target's limits, if it has any."""
        if target.requests_per_minute is None and target.tokens_per_minute is None:
            self.window = None
            return
        if self.window is None:
            self.window = RateWindow()
        self.window.follow(target)

    def learn(self, target: Target, *, processes: int) -> None:
        """Learn how fast it is, if it is ours. What was learned stands until it is another engine or model."""
        if target.hosting is not Hosting.SELF_HOSTED:
            self.load, self.learned_of, self.serves_instead, self.broke_s = None, None, "", None
            return
        learned_of = identity_of(target)
        if self.load is None or self.learned_of != learned_of:
            self.load, self.learned_of, self.serves_instead = TargetLoad(processes=processes), learned_of, ""
            self.engine_version, self.broke_s = "", None
        family = target.family
        tells_load = family is not None and SignalName.RUNNING in family.signals
        step_tokens = STEP_TOKENS if family is None else family.step_tokens
        self.load.limit(target.in_flight_most, tells_load=tells_load, step_tokens=step_tokens)

    def runs(self, version: str) -> None:
        """The engine says its version. What was learned of another one is void."""
        if self.load is not None and is_other_version(self.engine_version, version):
            self.load.forget_curve()
            self.ttft_ms = None
        self.engine_version = version

    def learned(self) -> LearnedCurve | None:
        """What was learned, to be kept; None: nothing, or of a model that is not the one meant."""
        if self.load is None or self.learned_of is None or self.serves_instead or not self.load.fit.answers:
            return None
        fit = self.load.fit
        return LearnedCurve(of=self.learned_of, fit=fit, engine_version=self.engine_version, ttft_ms=self.ttft_ms)

    def recall(self, kept: KeptCurve, *, at_s: float) -> bool:
        """Take over what this process or another one learned, where that is twice as much as is known here, and of the
        same engine, model and version. False: it is not."""
        curve = kept.curve
        if (
            self.load is None
            or curve.of != self.learned_of
            or is_other_version(self.engine_version, curve.engine_version)
        ):
            return False
        if not self.load.recall(curve.after(kept.age_s).fit, at_s=at_s):
            return False
        self.engine_version = self.engine_version or curve.engine_version
        if self.ttft_ms is None and curve.ttft_ms is not None and kept.age_s < TTFT_KNOWN_S:
            self.ttft_ms, self.ttft_until_s = curve.ttft_ms, at_s + TTFT_KNOWN_S - kept.age_s
        return True

    def has_progressed_since(self, since_s: float) -> bool:
        """Something came from there since: an engine that is slow is not one that hangs."""
        last_s = max((meter.last_content_s for meter in self.meters), default=-inf)
        return max(last_s, self.progressed_s) >= since_s

    def saw_first_token(self, *, after_s: float, at_s: float) -> None:
        ms = 1000 * after_s
        self.ttft_ms = ms if self.ttft_ms is None else self.ttft_ms + TTFT_WEIGHT * (ms - self.ttft_ms)
        self.ttft_until_s = at_s + TTFT_KNOWN_S

    def seen(self, *, at_s: float) -> TargetSeen:
        window = self.window
        told = NOTHING_TOLD if self.load is None else self.load.told(in_flight=self.in_flight, at_s=at_s)
        predicted_ms = self.ttft_ms if told.predicted_ttft_ms is None else told.predicted_ttft_ms
        return TargetSeen(
            in_flight=self.in_flight,
            others=told.others,
            share=told.share,
            circuit=self.rest.circuit,
            rests_after=self.rest.cause,
            is_last_resort=self.rest.last_resort,
            credential_present=self.credential_present,
            rate_card=self.rate_card,
            serves_instead=self.serves_instead,
            waiting=told.waiting,
            saturation=told.saturation,
            predicted_ttft_ms=None if predicted_ms is None else round(predicted_ms, 1),
            prefill_tokens_per_s=told.prefill_tokens_per_s,
            age_s=told.age_s,
            is_idle=told.is_idle,
            requests_left=None if window is None else window.requests_left(at_s=at_s),
            tokens_left=None if window is None else window.tokens_left(at_s=at_s),
        )
