"""The meter: fed what passes and when, owns no clock and no socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from app.domain.metering import estimate
from app.domain.metering.measurement import Measurement
from app.domain.usage import NOTHING, Usage, UsageLimits, UsageSource

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
        "_limits",
        "_prompt_estimate",
        "_reported_bytes",
        "_reported_events",
        "_started_s",
        "_usage",
        "_usage_is_final",
        "_when_first",
    )

    def __init__(self, *, started_s: float, prompt_estimate: int, limits: UsageLimits | None = None) -> None:
        self._started_s = started_s
        self._limits = limits
        self._prompt_estimate = prompt_estimate
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._content_events = 0
        self._content_bytes = 0
        self._usage: Usage | None = None
        self._usage_is_final = True
        self._reported_events = 0
        self._reported_bytes = 0
        self._when_first: Callable[[], None] | None = None

    @property
    def started_s(self) -> float:
        """The dispatch."""
        return self._started_s

    @property
    def last_content_s(self) -> float:
        """When content passed last; minus infinity before any has."""
        return -inf if self._last_s is None else self._last_s

    @property
    def content_events(self) -> int:
        """Events with content seen so far."""
        return self._content_events

    def tell_first(self, told: Callable[[], None]) -> None:
        """Call `told` once the first content passes: one listener, and none for what is not streamed."""
        self._when_first = told

    def saw_content(self, *, events: int, content_bytes: int, at_s: float) -> None:
        """`events` events with content passed at `at_s`, holding about `content_bytes` bytes of text together."""
        self._last_s = at_s
        if self._first_s is None:
            self._first_s = at_s
            told, self._when_first = self._when_first, None
            if told is not None:
                told()
        self._content_events += events
        self._content_bytes += content_bytes

    def saw_whole(self, *, body_bytes: int, text_bytes: int = 0) -> None:
        """A whole answer without usage passed, or a part of one, of which so much was seen to be text: its size is all
        we know. It moves no time."""
        self._content_bytes += max(text_bytes, body_bytes - WHOLE_ENVELOPE_BYTES)

    def usage_if(self, *, output: int) -> Usage:
        """The usage to assume when `output` tokens came out."""
        return Usage(prompt=self._prompt_estimate, output=output)

    def saw_usage(self, usage: Usage, *, is_final: bool = True) -> None:
        """The target reported usage; the last report stands. `is_final` False: the answer was not at its end yet."""
        self._usage, self._usage_is_final = usage, is_final
        self._reported_events, self._reported_bytes = self._content_events, self._content_bytes

    def estimated_output(self) -> int:
        """Output tokens delivered so far, from sizes."""
        return estimate.output_tokens(content_events=self._content_events, content_bytes=self._content_bytes)

    def read(self, *, at_s: float, worked: bool = True, unseen: tuple[int, UsageSource] | None = None) -> Measurement:
        """The measurement if the attempt ended at `at_s`. `worked` False: the target did nothing that it would bill.

        `unseen`: output tokens to assume, and whose count that is, of an answer of which no event was seen; what came
        of it in one piece counts if it is more.
        """
        usage, source, flags = self._counted(worked=worked, unseen=unseen)
        return Measurement(
            usage=usage,
            usage_source=source,
            ttft_s=None if self._first_s is None else self._first_s - self._started_s,
            tpot_s=self._tpot_s(usage.output),
            duration_s=at_s - self._started_s,
            content_events=self._content_events,
            flags=flags,
        )

    def _counted(
        self, *, worked: bool, unseen: tuple[int, UsageSource] | None
    ) -> tuple[Usage, UsageSource, tuple[str, ...]]:
        if self._usage is not None:
            usage, flags = self._usage.believable(self._limits)
            if self._usage_is_final:
                return usage, UsageSource.PROVIDER_FINAL, flags
            # What passed after the report is not in it; and an event is a token at least.
            since = estimate.output_tokens(
                content_events=self._content_events - self._reported_events,
                content_bytes=self._content_bytes - self._reported_bytes,
            )
            passed = replace(usage, output=max(usage.output + since, self._content_events))
            return self._possible(passed), UsageSource.PROVIDER_PARTIAL, (*flags, USAGE_ESTIMATED)
        if not worked:
            return NOTHING, UsageSource.NOTHING_SENT, ()
        output, source = self.estimated_output(), UsageSource.GATEWAY_ESTIMATE
        if unseen is not None and self._content_events == 0 and output < unseen[0]:
            output, source = unseen
        guessed = Usage(prompt=self._prompt_estimate, output=output)
        return self._possible(guessed), source, (USAGE_ESTIMATED,)

    def _possible(self, guessed: Usage) -> Usage:
        """An estimate is no larger than what can have been used, and so than what was held."""
        if self._limits is None or self._limits.hold(guessed):
            return guessed
        prompt, output = self._limits.within(guessed)
        return replace(guessed, prompt=prompt, output=max(output, min(guessed.output, self._content_events)))

    def _tpot_s(self, output_tokens: int) -> float | None:
        if self._first_s is None or self._last_s is None or output_tokens < 2 or self._content_events < 2:
            return None
        return (self._last_s - self._first_s) / (output_tokens - 1)
