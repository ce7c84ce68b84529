"""What became of requests that met full targets, as metrics."""

from __future__ import annotations

from collections.abc import Iterator

from app.telemetry import names
from app.telemetry.exposition import Histogram, histograms, label_text, numbers


class QueueMeter:
    """By target, as many as `most_targets`; what comes beyond is "other"."""

    def __init__(self, *, most_targets: int) -> None:
        self._most_targets = most_targets
        self._waits: dict[str, Histogram] = {}
        self._ended: dict[tuple[str, str], int] = {}

    def waited(self, *, target: str, waited_s: float, ended: str) -> None:
        """So long, and how it ended; without any time it was not let in."""
        waits = self._waits.get(target)
        if waits is None:
            target = target if len(self._waits) < self._most_targets else "other"
            waits = self._waits.setdefault(target, Histogram(names.QUEUE_WAIT.buckets))
        if waited_s:
            waits.saw(waited_s)
        self._ended[target, ended] = self._ended.get((target, ended), 0) + 1

    def lines(self) -> Iterator[str]:
        """In Prometheus' text format."""
        yield from histograms(
            names.QUEUE_WAIT,
            ((label_text(names.QUEUE_WAIT.labels, (name,)), waits) for name, waits in self._waits.items()),
        )
        yield from numbers(
            names.QUEUE_ENDED,
            ((label_text(names.QUEUE_ENDED.labels, key), count) for key, count in self._ended.items()),
        )
