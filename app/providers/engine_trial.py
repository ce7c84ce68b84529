"""One small chat as a caller would send it, and what a target tells of it at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from app.domain.engine import EngineTrial, Reports
from app.domain.errors import TargetFailure
from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Timeouts
from app.domain.target import Target
from app.ports import Clock, Piece, Provider, UpstreamCall
from app.providers.engines.figures import values_at
from app.providers.sse import EventSplitter, payload

OUTPUT_TOKENS: Final = 4
#: Long enough to fill a block of any engine's prefix cache (16 tokens on GPUs, 128 on CPUs), so that a second time
#: shows whether cached tokens are told: SGLang, and vLLM before 0.32, leave the count out where it is 0.
PROMPT: Final = "Please answer with one word. " + "The quick brown fox jumps over the lazy dog. " * 20
TIMEOUTS: Final = Timeouts(connect_s=2, first_token_s=60, idle_s=30, total_s=90)

_CACHED: Final = ("usage", "prompt_tokens_details", "cached_tokens")
_REASONING: Final = (("usage", "completion_tokens_details", "reasoning_tokens"), ("usage", "reasoning_tokens"))


async def tried_out(target: Target, provider: Provider, clock: Clock) -> EngineTrial:
    """What the chat showed; sent a second time where the first one left open whether cached tokens are told."""
    trial = await _chat(target, provider, clock, number=1)
    never = target.family is not None and target.family.cached_tokens is Reports.NEVER
    if trial.failure is not None or not trial.usage or trial.cached_tokens or never:
        return trial
    again = await _chat(target, provider, clock, number=2)
    return again if again.failure is None else trial


async def _chat(target: Target, provider: Provider, clock: Clock, *, number: int) -> EngineTrial:
    call = UpstreamCall(
        attempt_id=f"doctor-{target.name}-{number}",
        target=target,
        endpoint=Endpoint.CHAT,
        fields={
            "messages": msgspec.json.encode([{"role": "user", "content": PROMPT}]),
            "max_tokens": b"%d" % OUTPUT_TOKENS,
            "temperature": b"0",
            "stream_options": b'{"include_usage":true}',
        },
        stream=True,
        usage_wanted=True,
        timeouts=TIMEOUTS,
    )
    began_s = clock.monotonic_s()
    try:
        answer = await provider.open(call)
        ttft_s = clock.monotonic_s() - began_s
        try:
            pieces = [piece async for piece in answer.pieces()]
        finally:
            await answer.close()
    except TargetFailure as failure:
        return EngineTrial(failure=str(failure), fault=failure.kind)
    said = _last_words(pieces)
    return EngineTrial(
        usage=any(piece.usage is not None for piece in pieces),
        cached_tokens=_is_count(said, _CACHED),
        reasoning_tokens=any(_is_count(said, place) for place in _REASONING),
        timings=isinstance(said.get("metrics") or said.get("timings"), dict),
        request_id=answer.provider_request_id == call.attempt_id,
        ttft_s=ttft_s,
    )


def _last_words(pieces: list[Piece]) -> Mapping[str, object]:
    """The members of all chunks after the content, the later ones over the earlier."""
    splitter = EventSplitter()
    said: dict[str, object] = {}
    for event in splitter.feed(b"".join(bytes(piece.raw) for piece in pieces)):
        chunk = _object(payload(event))
        said.update({name: member for name, member in chunk.items() if member is not None})
    return said


def _object(text: bytes | None) -> dict[str, object]:
    try:
        found = msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}  # `[DONE]`
    return found if isinstance(found, dict) else {}


def _is_count(said: Mapping[str, object], place: tuple[str, ...]) -> bool:
    return any(isinstance(each, int) and not isinstance(each, bool) for each in values_at(said, place))
