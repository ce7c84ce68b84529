"""Which prompt goes to the engine when: one queue, first come first served, no prompt cut in two by the engine.

The engine's own prompt splitting is not used. A long prompt is given as ever longer beginnings that end with a whole
block, each small enough for one step; the prefix cache makes each continue where the last one ended. So no request is
ever cancelled half-way through a block, two prompts never write into one half-filled block, and callers who are being
answered wait for one piece only. `prefix_account` says why the first two matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from app.worker.messages import Delta, Ending, Sampling, Started, Step
from app.worker.prefix_account import PrefixAccount
from app.worker.text import AnswerText

#: How many prompt tokens one step computes at most: what others wait when a long prompt comes.
PROMPT_TOKENS_A_STEP: Final = 448


class EngineUnfit(Exception):
    """The engine or the model is not what this worker can serve; the message says what to do."""


class Progress(Enum):
    RUNNING = "running"
    STOPPED = "stopped"
    FULL_LENGTH = "full length"
    OUT_OF_MEMORY = "out of memory"


class Request(Protocol):
    """One request inside the engine."""

    def new_tokens(self) -> list[int]:
        """What was added since this was last asked."""
        ...

    def progress(self) -> Progress: ...

    def cancel(self) -> None:
        """The next step drops it."""
        ...


class Pipeline(Protocol):
    """The engine as the scheduler needs it."""

    @property
    def cache_used(self) -> float:
        """The share of the cache in use during the last step, 0 to 1."""
        ...

    def token_bytes(self, token: int, *, skip_special: bool) -> bytes: ...

    def begin(self, number: int, tokens: Sequence[int], sampling: Sampling, *, max_tokens: int) -> Request:
        """Raises ValueError when the engine refuses the settings."""
        ...

    def step(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Answer:
    """`inside` is its request in the engine: a beginning of the prompt (`reading`) or all of it."""

    request_id: int
    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    text: AnswerText
    started: bool = False
    reading: bool = False
    tokens: int = 0
    leaving: bool = False


@dataclass(slots=True)
class _Inside:
    number: int
    request: Request
    answer: _Answer
    cancelled: bool = False


@dataclass(slots=True)
class _News:
    started: list[tuple[int, int]] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)


class Scheduler:
    """All answers of one engine. One thread; every method returns at once but `step`, which computes."""

    def __init__(
        self,
        pipeline: Pipeline,
        account: PrefixAccount,
        *,
        max_num_seqs: int,
        block_tokens: int,
        clock: Callable[[], float],
        first_number: int = 2,
    ) -> None:
        """`clock` counts seconds. `first_number`: the numbers below it were used up by the engine's warm-up."""
        self._pipeline = pipeline
        self._account = account
        self._max_num_seqs = max_num_seqs
        self._block_tokens = block_tokens
        self._clock = clock
        self._waiting: deque[_Answer] = deque()
        self._inside: dict[int, _Inside] = {}
        self._next_number = first_number
        self._drifts = 0

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._inside)

    def submit(self, request_id: int, prompt: Sequence[int], sampling: Sampling, *, max_tokens: int) -> None:
        """Queue a prompt. Whether it fits the context is the caller's business."""
        text = AnswerText(sampling.stop, include_stop=sampling.include_stop)
        self._waiting.append(
            _Answer(request_id=request_id, prompt=tuple(prompt), sampling=sampling, max_tokens=max_tokens, text=text)
        )

    def cancel(self, request_id: int) -> None:
        """Forget an answer; nothing more is told of it. Unknown numbers are answers that ended already."""
        self._waiting = deque(answer for answer in self._waiting if answer.request_id != request_id)
        for inside in self._inside.values():
            if inside.answer.request_id == request_id:
                inside.answer.leaving = True

    def step(self) -> Step:
        """Let in what fits, compute one step, and tell what came of it."""
        news, began_s = _News(), self._clock()
        self._cancel_leavers()
        self._let_in(news)
        if self._inside:
            self._account.begin_step()
            self._pipeline.step()
            self._account.end_step()
            self._drifts += abs(self._pipeline.cache_used - self._account.used_share) > 1e-4
            self._collect(news)
        ago_s = self._clock() - began_s
        return Step(
            started=tuple(Started(request_id=n, cached_tokens=cached, ago_s=ago_s) for n, cached in news.started),
            deltas=tuple(news.deltas),
            running=len(self._inside),
            cache_used=self._account.used_share,
            preemptions=self._account.preemptions,
            drifts=self._drifts,
        )

    def _cancel_leavers(self) -> None:
        for inside in self._inside.values():
            if inside.answer.leaving and not inside.cancelled and self._account.may_drop(inside.number):
                self._drop(inside)

    def _drop(self, inside: _Inside) -> None:
        inside.cancelled = True
        inside.request.cancel()
        self._account.cancelled(inside.number)

    def _let_in(self, news: _News) -> None:
        room = PROMPT_TOKENS_A_STEP
        while self._waiting and len(self._inside) < self._max_num_seqs:
            answer = self._waiting[0]
            cached_tokens = self._account.cached_tokens(answer.prompt)
            end = self._end_of_piece(answer, cached_tokens=cached_tokens, room=room)
            piece = answer.prompt[:end]
            if end <= cached_tokens or self._account.must_wait(piece):
                return
            if self._inside and not self._account.has_room(piece, spare=len(self._inside)):
                return
            if not answer.started:
                news.started.append((answer.request_id, cached_tokens))
                answer.started = True
            answer.reading = end < len(answer.prompt)
            self._waiting.popleft()
            self._begin(answer, piece, news)
            if answer.reading:
                return
            room -= end - cached_tokens

    def _end_of_piece(self, answer: _Answer, *, cached_tokens: int, room: int) -> int:
        if len(answer.prompt) - cached_tokens <= room:
            return len(answer.prompt)
        return (cached_tokens + room) // self._block_tokens * self._block_tokens

    def _begin(self, answer: _Answer, piece: tuple[int, ...], news: _News) -> None:
        number, self._next_number = self._next_number, self._next_number + 1
        sampling, max_tokens = (Sampling(), 1) if answer.reading else (answer.sampling, answer.max_tokens)
        try:
            request = self._pipeline.begin(number, piece, sampling, max_tokens=max_tokens)
        except ValueError:
            news.deltas.append(Delta(request_id=answer.request_id, text="", tokens=0, ending="error"))
            return
        self._account.admit(number, piece)
        self._inside[number] = _Inside(number=number, request=request, answer=answer)

    def _collect(self, news: _News) -> None:
        """Take what the step made. The engine frees the finished before the cancelled, and so does the account."""
        for number, inside in list(self._inside.items()):
            tokens = [] if inside.cancelled else inside.request.new_tokens()
            self._account.sampled(number, tokens)
            progress = inside.request.progress()
            if not inside.answer.reading and not inside.answer.leaving:
                self._tell(inside, tokens, progress, news)
            if progress is not Progress.RUNNING and not inside.cancelled:
                self._leave(inside)
        for inside in [inside for inside in self._inside.values() if inside.cancelled]:
            if inside.request.progress() is not Progress.RUNNING:
                self._leave(inside)

    def _leave(self, inside: _Inside) -> None:
        del self._inside[inside.number]
        self._account.release(inside.number)
        if inside.answer.reading and not inside.answer.leaving:
            self._waiting.appendleft(inside.answer)

    def _tell(self, inside: _Inside, tokens: list[int], progress: Progress, news: _News) -> None:
        delta = self._delta(inside.answer, tokens, progress)
        if delta.tokens or delta.ending:
            news.deltas.append(delta)
        if delta.ending is not None:
            inside.answer.leaving = True

    def _delta(self, answer: _Answer, tokens: list[int], progress: Progress) -> Delta:
        text, before = "", answer.tokens
        sampling = answer.sampling
        for token in tokens:
            answer.tokens += 1
            long_enough = answer.tokens >= sampling.min_tokens
            if long_enough and token in sampling.stop_token_ids:
                text += answer.text.end().text
                return self._last(answer, text, before, "stop", stopped_by=token)
            shown = answer.text.add(
                self._pipeline.token_bytes(token, skip_special=sampling.skip_special_tokens), may_stop=long_enough
            )
            text += shown.text
            if shown.stopped_by is not None:
                return self._last(answer, text, before, "stop", stopped_by=shown.stopped_by)
        if progress is Progress.RUNNING:
            return Delta(request_id=answer.request_id, text=text, tokens=answer.tokens - before)
        shown = answer.text.end()
        ending: Ending = _ENDINGS[progress] if shown.stopped_by is None else "stop"
        return self._last(answer, text + shown.text, before, ending, stopped_by=shown.stopped_by)

    def _last(self, answer: _Answer, text: str, before: int, ending: Ending, *, stopped_by: str | int | None) -> Delta:
        tokens = answer.tokens - before
        return Delta(request_id=answer.request_id, text=text, tokens=tokens, ending=ending, stopped_by=stopped_by)


_ENDINGS: Final[dict[Progress, Ending]] = {
    Progress.STOPPED: "stop",
    Progress.FULL_LENGTH: "length",
    Progress.OUT_OF_MEMORY: "error",
}
