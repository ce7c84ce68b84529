"""What an answer looks like on the wire, whole or in chunks: vLLM's bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from app.worker.answers import OpenAnswer, Piece
from app.worker.wire import Ask

DONE = b"data: [DONE]\n\n"


def event(body: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Everything about one request's reply that does not change. `created_s` is Unix time."""

    ask: Ask
    reply_id: str
    created_s: int
    prompt_tokens: int
    answers: Sequence[OpenAnswer]

    def opening(self, index: int) -> bytes:
        """The first chunk of a choice in a chat, which only says who speaks."""
        return self._chunk(index, {"delta": {"role": "assistant", "content": ""}}, ending=None)

    def chunk(self, index: int, piece: Piece) -> bytes:
        part = {"delta": {"content": piece.text}} if self.ask.chat else {"text": piece.text}
        stopped = {"stop_reason": piece.stopped_by} if piece.ending else {}
        return self._chunk(index, {**part, **stopped}, ending=piece.ending)

    def last(self) -> bytes:
        """The chunk without choices that carries the usage."""
        return event({**self._head(chunk=True), "choices": [], "usage": self.usage(), "metrics": self._timings()})

    def whole(self, texts: Sequence[str], pieces: Sequence[Piece]) -> dict[str, Any]:
        """The body of a reply that is not streamed; `pieces` are the last ones of each choice."""
        choices = [self._choice(index, *pair) for index, pair in enumerate(zip(texts, pieces, strict=True))]
        return {**self._head(chunk=False), "choices": choices, "usage": self.usage(), "metrics": self._timings()}

    def usage(self) -> dict[str, Any]:
        completion_tokens = sum(answer.tokens for answer in self.answers)
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
            "completion_tokens": completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.answers[0].cached_tokens},
        }

    def _choice(self, index: int, text: str, piece: Piece) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "tool_calls": []}
        return {
            "index": index,
            **({"message": message} if self.ask.chat else {"text": text}),
            "logprobs": None,
            "finish_reason": piece.ending,
            "stop_reason": piece.stopped_by,
        }

    def _chunk(self, index: int, part: dict[str, Any], *, ending: str | None) -> bytes:
        choice = {"index": index, **part, "logprobs": None, "finish_reason": ending}
        usage = {"usage": self.usage()} if self.ask.usage_on_each else {}
        return event({**self._head(chunk=True), "choices": [choice], **usage})

    def _head(self, *, chunk: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.ask.chat else "text_completion"
        return {"id": self.reply_id, "object": kind, "created": self.created_s, "model": self.ask.model}

    def _timings(self) -> dict[str, float | None]:
        """vLLM's `metrics` block, of the first choice."""
        answer = self.answers[0]
        first_s, last_s, started_s = answer.first_token_s, answer.last_token_s, answer.started_s
        if first_s is None or last_s is None or started_s is None:
            return {}
        generation_s, gaps = last_s - first_s, answer.tokens - 1
        return {
            "time_to_first_token_ms": 1000 * (first_s - answer.arrived_s),
            "generation_time_ms": 1000 * generation_s,
            "queue_time_ms": 1000 * (started_s - answer.arrived_s),
            "mean_itl_ms": 1000 * generation_s / gaps if gaps else None,
            "tokens_per_second": gaps / generation_s if gaps and generation_s > 0 else None,
        }
