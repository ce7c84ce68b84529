"""What a replay comes to: its receipts, added up by target and over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from app.domain.ledger.receipt import Attempt, Receipt
from app.domain.ledger.report import FEWEST_FOR_P99
from app.domain.metering.measurement import Outcome
from app.domain.money import ZERO, Nanodollars
from app.domain.routing.plan import Plan
from app.domain.target import Hosting

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Percentiles, exact: the smallest time that so many do not exceed. None: nothing was timed, and for p99 of fewer
    than 500, which say nothing about one."""

    p50_s: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None

    @classmethod
    def of(cls, times_s: Sequence[float]) -> Times:
        """Of these."""
        if not times_s:
            return NOT_TIMED
        ordered = sorted(times_s)
        p50_s, p90_s, p99_s = (ordered[ceil(share * len(ordered) / 100) - 1] for share in (50, 90, 99))
        return cls(p50_s=p50_s, p90_s=p90_s, p99_s=p99_s if len(ordered) >= FEWEST_FOR_P99 else None)


NOT_TIMED = Times()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One target, or all together. Predictions are compared where there was one: error is predicted less real."""

    requests: int
    #: Of all requests of the replay.
    share: float
    ttft: Times
    tpot: Times
    #: Of those with a first token; None: no objective was given, or there is none.
    within_objective: float | None
    #: First tokens later than the route's own limit (`timeouts.first_token_s`): a gateway would have given up on them.
    too_late: int
    prompt_tokens: int
    output_tokens: int
    predicted: int
    #: The mean of the error and the median of its size, in seconds.
    error_mean_s: float | None
    error_size_s: float | None
    #: By the rate card, as receipts are charged.
    charge: Nanodollars
    #: What it really costs more than an idle machine.
    marginal: Nanodollars


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of the time, by arrival. `at_s` is its beginning."""

    at_s: float
    requests: int
    managed: int
    refused: int
    #: Of self-hosted targets.
    ttft: Times


class Tally:
    """Fed with receipts, in any order. `objective_s`: what a first token should not exceed."""

    def __init__(self, *, objective_s: float | None) -> None:
        self._objective_s = objective_s
        self._sums: dict[str, _Sum] = {}
        self._arrived: list[tuple[float, str | None, float | None]] = []
        self.spilled = 0
        self.refusals: dict[str, int] = {}
        #: Requests that no target could hold, by what was said of them last.
        self.failures: dict[str, int] = {}

    def saw(self, receipt: Receipt, *, at_s: float, first_token_most_s: float, marginal_ppm: int) -> None:
        """One request, which arrived at `at_s`. `first_token_most_s` is its route's limit; `marginal_ppm` what its
        target really costs, in millionths of the charge."""
        plan, final = receipt.decision, receipt.final
        if final is None:
            self._unserved(self.refusals, plan.rule or "no rule", at_s)
            return
        if receipt.outcome is not Outcome.COMPLETE:
            self._unserved(self.failures, final.fault_message or "failed", at_s)
            return
        managed = final.hosting is Hosting.MANAGED
        self._arrived.append((at_s, final.target, None if managed else final.ttft_s))
        self.spilled += isinstance(plan, Plan) and plan.spilled
        summed = self._sums.setdefault(final.target, _Sum(hosting=final.hosting))
        summed.saw(final, predicted_s=_predicted_s(receipt, final), too_late_s=first_token_most_s)
        summed.marginal += final.charge * marginal_ppm // _MILLION

    @property
    def requests(self) -> int:
        """All, whatever became of them."""
        return len(self._arrived)

    def lines(self) -> dict[str, Line]:
        """By target, by name."""
        return {name: self._line([summed]) for name, summed in sorted(self._sums.items())}

    def total(self) -> Line:
        """All that were answered."""
        return self._line([*self._sums.values()])

    def of(self, hosting: Hosting) -> Line:
        """All that targets of this hosting answered."""
        return self._line([summed for summed in self._sums.values() if summed.hosting is hosting])

    def slices(self, count: int) -> tuple[Slice, ...]:
        """The time from the first arrival to the last in `count` even parts; none without a request."""
        if not self._arrived:
            return ()
        step_s = max(at_s for at_s, _, _ in self._arrived) / count or 1.0
        parts: list[list[tuple[str | None, float | None]]] = [[] for _ in range(count)]
        for at_s, target, ttft_s in self._arrived:
            parts[min(int(at_s / step_s), count - 1)].append((target, ttft_s))
        return tuple(self._slice(part, at_s=place * step_s) for place, part in enumerate(parts))

    def _slice(self, part: Sequence[tuple[str | None, float | None]], *, at_s: float) -> Slice:
        served = [target for target, _ in part if target is not None]
        return Slice(
            at_s=at_s,
            requests=len(part),
            managed=sum(self._sums[target].hosting is Hosting.MANAGED for target in served),
            refused=len(part) - len(served),
            ttft=Times.of([ttft_s for _, ttft_s in part if ttft_s is not None]),
        )

    def _unserved(self, into: dict[str, int], why: str, at_s: float) -> None:
        into[why] = into.get(why, 0) + 1
        self._arrived.append((at_s, None, None))

    def _line(self, sums: Sequence[_Sum]) -> Line:
        ttfts_s = [each for one in sums for each in one.ttfts_s]
        errors_s = [each for one in sums for each in one.errors_s]
        requests, objective_s = sum(one.requests for one in sums), self._objective_s
        within = None
        if objective_s is not None and ttfts_s:
            within = sum(each <= objective_s for each in ttfts_s) / len(ttfts_s)
        return Line(
            requests=requests,
            share=requests / self.requests if self.requests else 0.0,
            ttft=Times.of(ttfts_s),
            tpot=Times.of([each for one in sums for each in one.tpots_s]),
            within_objective=within,
            too_late=sum(one.too_late for one in sums),
            prompt_tokens=sum(one.prompt_tokens for one in sums),
            output_tokens=sum(one.output_tokens for one in sums),
            predicted=len(errors_s),
            error_mean_s=sum(errors_s) / len(errors_s) if errors_s else None,
            error_size_s=Times.of([abs(each) for each in errors_s]).p50_s,
            charge=Nanodollars(sum(one.charge for one in sums)),
            marginal=Nanodollars(sum(one.marginal for one in sums)),
        )


@dataclass(slots=True, kw_only=True)
class _Sum:
    """One target so far."""

    hosting: Hosting
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    too_late: int = 0
    charge: int = ZERO
    marginal: int = ZERO
    ttfts_s: list[float] = field(default_factory=list)
    tpots_s: list[float] = field(default_factory=list)
    errors_s: list[float] = field(default_factory=list)

    def saw(self, attempt: Attempt, *, predicted_s: float | None, too_late_s: float) -> None:
        self.requests += 1
        self.prompt_tokens += attempt.usage.prompt
        self.output_tokens += attempt.usage.output
        self.charge += attempt.charge
        if attempt.tpot_s is not None:
            self.tpots_s.append(attempt.tpot_s)
        if attempt.ttft_s is None:
            return
        self.ttfts_s.append(attempt.ttft_s)
        self.too_late += attempt.ttft_s > too_late_s
        if predicted_s is not None:
            self.errors_s.append(predicted_s - attempt.ttft_s)


def _predicted_s(receipt: Receipt, final: Attempt) -> float | None:
    """What the gateway predicted of this request at the target that answered."""
    for candidate in receipt.decision.candidates:
        if candidate.target == final.target:
            ms = candidate.expected_ttft_ms
            return None if ms is None else ms / 1000
    return None
