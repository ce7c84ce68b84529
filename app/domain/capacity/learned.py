"""What was learned of a self-hosted target, as it outlives the process that learned it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from app.domain.capacity.line import MOST
from app.domain.capacity.service_curve import CurveFit
from app.domain.target import Target

#: After so long what was learned counts for half: a hundred answers are forgotten within a week.
HALF_LIFE_S: Final = 86_400.0
#: Versions are what engines say, and kept no longer than this.
VERSION_MOST: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which engine and model something was learned of: another address, model or family is another machine."""

    target: str
    url: str
    model: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedCurve:
    """The samples of one target's curve, and its smoothed time to the first token."""

    of: Identity
    fit: CurveFit
    #: As the engine says, see `version_kept`; empty: it did not say.
    engine_version: str = ""
    ttft_ms: float | None = None

    @property
    def is_sane(self) -> bool:
        """It may have been learned: nobody learns a weight, a time or a count beyond reason."""
        return self.fit.is_sane and (self.ttft_ms is None or 0 <= self.ttft_ms <= 1000 * MOST)

    def after(self, age_s: float) -> LearnedCurve:
        """What it is worth so long after its last sample."""
        return replace(self, fit=self.fit.faded(0.5 ** (max(0.0, age_s) / HALF_LIFE_S)))


def identity_of(target: Target) -> Identity:
    """Which engine and model the policy means by this target."""
    return Identity(target=target.name, url=target.url, model=target.model, kind=target.kind)


def version_kept(said: str) -> str:
    """A version as an engine says it, as it can be kept: printable and not long."""
    return "".join(sign for sign in said if sign.isprintable())[:VERSION_MOST]


def is_other_version(one: str, other: str) -> bool:
    """Both are known, and they differ."""
    return bool(one) and bool(other) and one != other
