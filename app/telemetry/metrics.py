"""Metrics as a reading of receipts. On the hot path only plain numbers grow; text is made when somebody scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from app.domain.errors import FaultKind
from app.domain.ledger.receipt import Attempt, HedgeWon, Receipt
from app.domain.metering.measurement import Outcome
from app.domain.routing.facts import Endpoint, RequestFacts
from app.domain.target import Hosting
from app.domain.usage import UsageSource
from app.telemetry import names
from app.telemetry.exposition import Histogram, histograms, label_text, numbers
from app.telemetry.money import MoneyMeter
from app.telemetry.queues import QueueMeter

#: Label sets come from the policy's own names. Should edits of a long life make more than this, the rest is "other".
MOST_SERIES: Final = 1000

_MICROSECONDS: Final = 1_000_000
_OPERATIONS: Final = {Endpoint.CHAT: "chat", Endpoint.COMPLETIONS: "text_completion"}
_FAULTS: Final = frozenset(kind.value for kind in FaultKind)
_OTHER: Final = ("other",) * len(names.ROUTE_LABELS)
_NONE_IN_FLIGHT: Final[Mapping[str, int]] = {}
_NONE_RESTING: Final[Mapping[str, bool]] = {}
_NONE_DROPPED: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is read anew at each scrape."""

    policy_digest: Callable[[], str]
    policy_refused: Callable[[], bool] = lambda: False
    shipped: Callable[[], int] = lambda: 0
    #: None: nobody has asked it yet.
    postgres_up: Callable[[], bool | None] = lambda: None
    in_flight: Callable[[], Mapping[str, int]] = lambda: _NONE_IN_FLIGHT
    resting: Callable[[], Mapping[str, bool]] = lambda: _NONE_RESTING
    queued: Callable[[], Mapping[str, int]] = lambda: _NONE_IN_FLIGHT
    retries_refused: Callable[[], int] = lambda: 0
    shed: Callable[[], int] = lambda: 0
    spool_depth: Callable[[], int] = lambda: 0
    spool_refusing: Callable[[], bool] = lambda: False
    spool_quarantined: Callable[[], int] = lambda: 0
    log_lines_dropped: Callable[[], int] = lambda: 0
    shadows_dropped: Callable[[], Mapping[str, int]] = lambda: _NONE_DROPPED


class PrometheusReadings:
    """ports.Readings, and who is told of what no receipt says. One instance a process; belongs to the thread of its
    event loop. No registry is shared with anybody."""

    def __init__(self, gauges: Gauges, *, most_series: int = MOST_SERIES) -> None:
        #: What budgets and limits did; told by those who know.
        self.money = MoneyMeter()
        self._gauges = gauges
        self._most_series = most_series
        self._series: dict[tuple[object, ...], _Series] = {}
        self._dispatched: dict[str, int] = {}
        self._overhead = Histogram(names.OVERHEAD.buckets)
        self._ttft_errors: dict[str, Histogram] = {}
        self._queue = QueueMeter(most_targets=most_series)
        self._loop_lag = Histogram(names.LOOP_LAG.buckets)
        self._copies: dict[str, int] = {}
        self._hedges: dict[tuple[str, str, str], int] = {}
        self._reloads = {"accepted": 0, "refused": 0}
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    def dispatched(self, *, target: str) -> None:
        """An attempt began at this target."""
        self._dispatched[target] = self._dispatched.get(target, 0) + 1

    def waited(self, *, target: str, waited_s: float, ended: str) -> None:
        """A request met a full target that it was to wait for."""
        self._queue.waited(target=target, waited_s=waited_s, ended=ended)

    def settled(self, receipt: Receipt) -> None:
        """The receipt is final. About 10 µs for a request with one attempt."""
        facts, attempts = receipt.facts, receipt.attempts
        series: _Series | None = None
        for attempt in attempts:
            series = self._of(facts, attempt)
            series.saw_attempt(attempt)
        if attempts:
            self._saw_prediction(receipt, attempts[0])
        if receipt.shadow_of is not None:
            # Its attempts are a target's work like any others; nobody's request was answered by it.
            self._copies[receipt.outcome.value] = self._copies.get(receipt.outcome.value, 0) + 1
            return
        final = attempts[-1] if attempts else None
        if receipt.flags and (won := receipt.hedge_won) is not None:
            self._saw_hedge(receipt, won)
            final = receipt.final
            series = self._of(facts, final)
        (series or self._of(facts, None)).saw_request(receipt, final)
        if final is not None:
            self._overhead.saw(receipt.overhead_s)

    def loop_lagged(self, lag_s: float) -> None:
        """The event loop woke its watcher this much later than asked for."""
        self._loop_lag.saw(lag_s)

    def policy_edited(self, *, accepted: bool) -> None:
        """An edit of the policy was swapped in, or refused."""
        self._reloads["accepted" if accepted else "refused"] += 1

    def text(self) -> bytes:
        """Everything in Prometheus' text format (`exposition.CONTENT_TYPE`)."""
        ours = "".join(f"{line}\n" for line in self._lines())
        return ours.encode() + generate_latest(self._process)

    def _saw_hedge(self, receipt: Receipt, won: HedgeWon) -> None:
        key = (receipt.facts.model, receipt.attempts[1].target, won.value)
        if key not in self._hedges and len(self._hedges) >= self._most_series:
            key = ("other", "other", won.value)
        self._hedges[key] = self._hedges.get(key, 0) + 1

    def _saw_prediction(self, receipt: Receipt, first: Attempt) -> None:
        """What was predicted for its first target when it was decided on, held against what came there."""
        candidates = receipt.decision.candidates
        asked = next((one for one in candidates if one.target == first.target), None)
        predicted_ms = None if asked is None else asked.expected_ttft_ms
        if first.ttft_s is None or not predicted_ms:
            return
        errors = self._ttft_errors.get(first.target)
        if errors is None:
            name = first.target if len(self._ttft_errors) < self._most_series else "other"
            errors = self._ttft_errors.setdefault(name, Histogram(names.TTFT_ERROR.buckets))
        errors.saw(1000 * (receipt.waited_at(first.target) + first.ttft_s) / predicted_ms)

    def _of(self, facts: RequestFacts, attempt: Attempt | None) -> _Series:
        # Enumerations hash slowly, so the key holds plain values.
        chat = facts.endpoint is Endpoint.CHAT
        if attempt is None:
            key: tuple[object, ...] = (chat, facts.model)
        else:
            key = (chat, facts.model, attempt.target, attempt.kind, attempt.hosting is Hosting.SELF_HOSTED)
        series = self._series.get(key)
        return self._new_series(key, facts, attempt) if series is None else series

    def _new_series(self, key: tuple[object, ...], facts: RequestFacts, attempt: Attempt | None) -> _Series:
        if len(self._series) >= self._most_series:
            return self._series.setdefault(_OTHER, _Series(_OTHER))
        where = ("", "", "") if attempt is None else (attempt.kind, attempt.target, attempt.hosting.value)
        labels = (_OPERATIONS[facts.endpoint], where[0], facts.model, where[1], where[2])
        return self._series.setdefault(key, _Series(labels))

    def _lines(self) -> Iterator[str]:
        every = [*self._series.values()]
        for family, read in _HISTOGRAMS:
            yield from histograms(family, ((series.labels, read(series)) for series in every))
        yield from histograms(names.TOKENS, (row for series in every for row in series.token_rows()))
        yield from numbers(names.REQUESTS, (row for series in every for row in series.request_rows()))
        yield from numbers(names.ATTEMPTS, (row for series in every for row in series.attempt_rows()))
        for family, count in _COUNTS:
            yield from numbers(family, ((series.labels, value) for series in every if (value := count(series))))
        yield from numbers(names.DISPATCHED, _by_target(self._dispatched))
        hedges = self._hedges.items()
        yield from numbers(names.HEDGES, ((label_text(names.HEDGES.labels, key), count) for key, count in hedges))
        yield from histograms(names.OVERHEAD, [("", self._overhead)])
        yield from histograms(
            names.TTFT_ERROR,
            ((label_text(names.TTFT_ERROR.labels, (name,)), errors) for name, errors in self._ttft_errors.items()),
        )
        yield from self._queue.lines()
        yield from histograms(names.LOOP_LAG, [("", self._loop_lag)])
        yield from self._gauge_lines()

    def _gauge_lines(self) -> Iterator[str]:
        gauges = self._gauges
        yield from numbers(names.IN_FLIGHT, _by_target(gauges.in_flight()))
        yield from numbers(names.RESTING, _by_target({name: int(is_so) for name, is_so in gauges.resting().items()}))
        yield from numbers(names.QUEUED, _by_target(gauges.queued()))
        yield from numbers(names.RETRIES_REFUSED, [("", gauges.retries_refused())])
        yield from numbers(names.SHED, [("", gauges.shed())])
        yield from numbers(names.SPOOL_DEPTH, [("", gauges.spool_depth())])
        yield from numbers(names.SPOOL_REFUSING, [("", int(gauges.spool_refusing()))])
        yield from numbers(names.SPOOL_QUARANTINED, [("", gauges.spool_quarantined())])
        yield from numbers(names.SHIPPED, [("", self._gauges.shipped())])
        if (is_up := self._gauges.postgres_up()) is not None:
            yield from numbers(names.POSTGRES_UP, [("", int(is_up))])
        yield from numbers(names.POLICY, [(label_text(names.POLICY.labels, (gauges.policy_digest(),)), 1)])
        reloads = self._reloads.items()
        yield from numbers(
            names.POLICY_RELOADS,
            ((label_text(names.POLICY_RELOADS.labels, (result,)), count) for result, count in reloads),
        )
        yield from numbers(names.POLICY_REFUSED, [("", int(gauges.policy_refused()))])
        copies = {**self._copies, **gauges.shadows_dropped()}
        yield from numbers(
            names.SHADOWS, ((label_text(names.SHADOWS.labels, (result,)), count) for result, count in copies.items())
        )
        yield from numbers(names.LOG_DROPPED, [("", gauges.log_lines_dropped())])
        yield from self.money.lines()


class _Series:
    """The figures of one label set."""

    __slots__ = (
        *("labels", "_labels", "client_duration", "first_chunk", "each_chunk", "server_duration", "first_token"),
        *("each_token", "input", "output", "cached", "fallbacks", "usage_missing", "charge", "_requests", "_attempts"),
    )

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self.labels = label_text(names.ROUTE_LABELS, labels)
        self.client_duration = Histogram(names.CLIENT_DURATION.buckets)
        self.first_chunk = Histogram(names.CLIENT_FIRST_CHUNK.buckets)
        self.each_chunk = Histogram(names.CLIENT_EACH_CHUNK.buckets)
        self.server_duration = Histogram(names.SERVER_DURATION.buckets)
        self.first_token = Histogram(names.SERVER_FIRST_TOKEN.buckets)
        self.each_token = Histogram(names.SERVER_EACH_TOKEN.buckets)
        self.input = Histogram(names.TOKENS.buckets)
        self.output = Histogram(names.TOKENS.buckets)
        self.cached = Histogram(names.TOKENS.buckets)
        self.fallbacks = 0
        self.usage_missing = 0
        self.charge = 0
        self._requests: dict[Outcome, int] = {}
        self._attempts: dict[tuple[Outcome, str], int] = {}

    def saw_attempt(self, attempt: Attempt) -> None:
        fault = attempt.fault
        counted = (attempt.outcome, "" if fault is None else fault if fault in _FAULTS else "other")
        self._attempts[counted] = self._attempts.get(counted, 0) + 1
        self.charge += attempt.charge
        if attempt.number > 1:
            self.fallbacks += 1
        self.client_duration.saw(attempt.duration_s)
        if attempt.ttft_s is not None:
            self.first_chunk.saw(attempt.ttft_s)
        if attempt.usage_source is not UsageSource.NOTHING_SENT:
            self._saw_usage(attempt)

    def saw_request(self, receipt: Receipt, final: Attempt | None) -> None:
        outcome = receipt.outcome
        self._requests[outcome] = self._requests.get(outcome, 0) + 1
        self.server_duration.saw(receipt.duration_s)
        if final is None or outcome is not Outcome.COMPLETE:
            return
        if final.ttft_s is not None:
            before_s = (final.started_us - receipt.at_us) / _MICROSECONDS
            # The wall clock may have been set meanwhile: never less than the target took, nor more than all of it.
            self.first_token.saw(max(final.ttft_s, min(before_s + final.ttft_s, receipt.duration_s)))
        if final.tpot_s is not None:
            self.each_token.saw(final.tpot_s)

    def token_rows(self) -> Iterator[tuple[str, Histogram]]:
        for word, histogram in (("input", self.input), ("output", self.output), ("cached", self.cached)):
            yield label_text(names.TOKENS.labels, (*self._labels, word)), histogram

    def request_rows(self) -> Iterator[tuple[str, float]]:
        for outcome, count in self._requests.items():
            yield label_text(names.REQUESTS.labels, (*self._labels, outcome.value)), count

    def attempt_rows(self) -> Iterator[tuple[str, float]]:
        for (outcome, fault), count in self._attempts.items():
            yield label_text(names.ATTEMPTS.labels, (*self._labels, outcome.value, fault)), count

    def _saw_usage(self, attempt: Attempt) -> None:
        usage = attempt.usage
        self.input.saw(usage.prompt)
        self.output.saw(usage.output)
        self.cached.saw(usage.cached)
        if attempt.usage_source is not UsageSource.PROVIDER_FINAL:
            self.usage_missing += 1
        gaps = attempt.content_events - 1
        if attempt.tpot_s is not None and gaps > 0:
            self.each_chunk.saw(attempt.tpot_s * (usage.output - 1) / gaps, times=gaps)


def _by_target(counts: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    for target, count in counts.items():
        yield label_text((names.TARGET,), (target,)), count


_HISTOGRAMS: Final[tuple[tuple[names.Family, Callable[[_Series], Histogram]], ...]] = (
    (names.CLIENT_DURATION, lambda series: series.client_duration),
    (names.CLIENT_FIRST_CHUNK, lambda series: series.first_chunk),
    (names.CLIENT_EACH_CHUNK, lambda series: series.each_chunk),
    (names.SERVER_DURATION, lambda series: series.server_duration),
    (names.SERVER_FIRST_TOKEN, lambda series: series.first_token),
    (names.SERVER_EACH_TOKEN, lambda series: series.each_token),
)
_COUNTS: Final[tuple[tuple[names.Family, Callable[[_Series], int]], ...]] = (
    (names.FALLBACKS, lambda series: series.fallbacks),
    (names.USAGE_MISSING, lambda series: series.usage_missing),
    (names.CHARGE, lambda series: series.charge),
)
