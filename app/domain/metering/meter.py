"""The meter: fed what passes and when, owns no clock and no socket."""

from __future__ import annotations

from dataclasses import replace

from app.domain.metering import estimate
from app.domain.metering.measurement import Measurement
from app.domain.usage import NOTHING, Usage, UsageSource

USAGE_SUSPECT = "usage_suspect"
USAGE_ESTIMATED = "usage_estimated"
#: JSON around the text of an answer that is not streamed: ids, roles, finish reason.
WHOLE_ENVELOPE_BYTES = 300


class Meter:
    """Measures one attempt. All times are seconds of one monotonic clock, `started_s` being the dispatch."""

    __slots__ = (
        "_content_bytes",
        "_content_events",
        "_first_s",
        "_last_s",
        "_prompt_estimate",
        "_started_s",
        "_usage",
        "_usage_is_final",
    )

    def __init__(self, *, started_s: float, prompt_estimate: int) -> None:
        self._started_s = started_s
        self._prompt_estimate = prompt_estimate
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._content_events = 0
        self._content_bytes = 0
        self._usage: Usage | None = None
        self._usage_is_final = True

    @property
    def content_events(self) -> int:
        """Events with content seen so far."""
        return self._content_events

    def saw_content(self, *, events: int, content_bytes: int, at_s: float) -> None:
        """`events` events with content passed at `at_s`, holding about `content_bytes` bytes of text together."""
        if self._first_s is None:
            self._first_s = at_s
        self._last_s = at_s
        self._content_events += events
        self._content_bytes += content_bytes

    def saw_whole(self, *, body_bytes: int) -> None:
        """A whole answer without usage passed: its size is all we know. It moves no time."""
        self._content_bytes += max(0, body_bytes - WHOLE_ENVELOPE_BYTES)

    def usage_if(self, *, output: int) -> Usage:
        """The usage to assume when `output` tokens came out."""
        return Usage(prompt=self._prompt_estimate, output=output)

    def saw_usage(self, usage: Usage, *, is_final: bool = True) -> None:
        """The target reported usage; the last report stands. `is_final` False: the answer was not at its end yet."""
        self._usage, self._usage_is_final = usage, is_final

    def estimated_output(self) -> int:
        """Output tokens delivered so far, from sizes."""
        return estimate.output_tokens(content_events=self._content_events, content_bytes=self._content_bytes)

    def read(self, *, at_s: float, worked: bool = True) -> Measurement:
        """The measurement if the attempt ended at `at_s`. `worked` False: the target did nothing that it would bill."""
        usage, source, flags = self._counted(worked=worked)
        return Measurement(
            usage=usage,
            usage_source=source,
            ttft_s=None if self._first_s is None else self._first_s - self._started_s,
            tpot_s=self._tpot_s(usage.output),
            duration_s=at_s - self._started_s,
            content_events=self._content_events,
            flags=flags,
        )

    def _counted(self, *, worked: bool) -> tuple[Usage, UsageSource, tuple[str, ...]]:
        if self._usage is not None:
            usage, suspect = self._usage.believable()
            flags = (USAGE_SUSPECT,) if suspect else ()
            if self._usage_is_final:
                return usage, UsageSource.PROVIDER_FINAL, flags
            # What passed after the report is not in it.
            output = max(usage.output, self.estimated_output())
            return replace(usage, output=output), UsageSource.PROVIDER_PARTIAL, (*flags, USAGE_ESTIMATED)
        if not worked:
            return NOTHING, UsageSource.NOTHING_SENT, ()
        guessed = Usage(prompt=self._prompt_estimate, output=self.estimated_output())
        return guessed, UsageSource.GATEWAY_ESTIMATE, (USAGE_ESTIMATED,)

    def _tpot_s(self, output_tokens: int) -> float | None:
        if self._first_s is None or self._last_s is None or output_tokens < 2 or self._content_events < 2:
            return None
        return (self._last_s - self._first_s) / (output_tokens - 1)
