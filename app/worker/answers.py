"""The answers in progress, as the HTTP process knows them: what has come of each, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from app.worker.messages import Delta, Ending, Started
from app.worker.metrics import Metrics
from app.worker.refusals import Refusal, given_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """More of an answer: all that came since the last piece was taken."""

    text: str
    tokens: int
    ending: Ending | None
    stopped_by: str | int | None


class OpenAnswer:
    """One answer. The link tells it what happens; its reader takes pieces. All times are seconds of one clock."""

    def __init__(self, number: int, *, arrived_s: float, news: asyncio.Event) -> None:
        self.number = number
        self.arrived_s = arrived_s
        self.started_s: float | None = None
        self.first_token_s: float | None = None
        self.last_token_s: float | None = None
        self.prompt_tokens: int | None = None
        self.cached_tokens = 0
        self.tokens = 0
        self.ending: Ending | None = None
        self.fault: Refusal | None = None
        self._stopped_by: str | int | None = None
        self._news = news
        self._text: list[str] = []
        self._tokens_taken = 0
        self._end_taken = False

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.ending is not None or self.fault is not None

    @property
    def wholly_taken(self) -> bool:
        return self._end_taken

    def take(self) -> Piece | None:
        """What is new, or None. Raises Refusal when the answer failed."""
        if self.fault is not None:
            raise self.fault
        tokens = self.tokens - self._tokens_taken
        if self._end_taken or not (tokens or self.ending):
            return None
        text = "".join(self._text)
        self._text.clear()
        self._tokens_taken = self.tokens
        self._end_taken = self.ending is not None
        return Piece(text=text, tokens=tokens, ending=self.ending, stopped_by=self._stopped_by)

    def accepted(self, prompt_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens
        self._news.set()

    def failed(self, fault: Refusal) -> None:
        if not self.over:
            self.fault = fault
        self._news.set()

    def started(self, started: Started, *, at_s: float) -> None:
        self.started_s, self.cached_tokens = max(at_s - started.ago_s, self.arrived_s), started.cached_tokens

    def grew(self, delta: Delta, *, at_s: float) -> None:
        if delta.ending == "error":
            self.failed(given_up())
            return
        if delta.tokens:
            self.first_token_s = self.first_token_s or at_s
            self.last_token_s = at_s
        self.tokens += delta.tokens
        self._text.append(delta.text)
        self.ending, self._stopped_by = delta.ending, delta.stopped_by
        self._news.set()


class AnswerGroup:
    """The choices of one request. Leaving the `with` cancels in the engine whatever is not over."""

    def __init__(
        self, answers: Sequence[OpenAnswer], *, news: asyncio.Event, cancel: Callable[[OpenAnswer], None]
    ) -> None:
        self.answers = tuple(answers)
        self._news = news
        self._cancel = cancel

    def __enter__(self) -> AnswerGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for answer in self.answers:
            self._cancel(answer)

    async def accepted(self) -> int:
        """The prompt's tokens, once the engine has taken every choice. Raises Refusal."""
        while True:
            for answer in self.answers:
                if answer.fault is not None:
                    raise answer.fault
            counts = [answer.prompt_tokens for answer in self.answers if answer.prompt_tokens is not None]
            if len(counts) == len(self.answers):
                return counts[0]
            await self._more()

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Every choice's pieces as they come, until all are over. Raises Refusal."""
        while not all(answer.wholly_taken for answer in self.answers):
            taken = list(self._take_all())
            for index, piece in taken:
                yield index, piece
            if not taken:
                await self._more()

    def _take_all(self) -> Iterator[tuple[int, Piece]]:
        for index, answer in enumerate(self.answers):
            piece = answer.take()
            if piece is not None:
                yield index, piece

    async def _more(self) -> None:
        await self._news.wait()
        self._news.clear()


def observe(answer: OpenAnswer, metrics: Metrics, delta: Delta, *, before_s: float | None, at_s: float) -> None:
    """Put what a delta says into the metrics. `before_s` is when the answer's last token before it came."""
    if delta.tokens:
        metrics.generation_tokens.inc(delta.tokens)
        if before_s is None:
            metrics.prompt_tokens.inc(answer.prompt_tokens or 0)
            metrics.cached_tokens.inc(answer.cached_tokens)
            metrics.ttft_s.observe(at_s - answer.arrived_s)
        else:
            metrics.itl_s.observe(at_s - before_s)
    if delta.ending is None:
        return
    metrics.finished(delta.ending)
    first_s, started_s = answer.first_token_s, answer.started_s
    if delta.ending == "error" or first_s is None or started_s is None:
        return
    metrics.e2e_s.observe(at_s - answer.arrived_s)
    metrics.queue_s.observe(started_s - answer.arrived_s)
    metrics.prefill_s.observe(first_s - started_s)
    metrics.decode_s.observe(at_s - first_s)
    metrics.inference_s.observe(at_s - started_s)
    if answer.tokens > 1:
        metrics.tpot_s.observe((at_s - first_s) / (answer.tokens - 1))
