"""What every provider does, the one over HTTP and the scripted one: the same scripts, the same pieces and faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import pytest

from app.domain.errors import CALLERS_FAULT, MAY_HAVE_WORKED, FaultKind, TargetFailure
from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Timeouts
from app.domain.target import Target
from app.domain.telling import Said, Telling
from app.domain.usage import Usage
from app.ports import Piece, Provider, UpstreamAnswer, UpstreamCall
from app.providers.scripted import Script

ATTEMPT_ID = "019ab000-0000-7000-8000-000000000001/1"
PATIENT = Timeouts(connect_s=20, first_token_s=20, idle_s=20, total_s=60)
IMPATIENT_FOR_THE_FIRST = replace(PATIENT, first_token_s=0.2)
IMPATIENT_FOR_THE_NEXT = replace(PATIENT, idle_s=0.2)

#: What a target says before any work; each has a status of its own.
REFUSALS = (
    FaultKind.BAD_REQUEST,
    FaultKind.CONTEXT_OVERFLOW,
    FaultKind.AUTH,
    FaultKind.MONEY_GONE,
    FaultKind.NOT_FOUND,
    FaultKind.RATE_LIMITED,
    FaultKind.SERVER_ERROR,
    FaultKind.OVERLOADED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """What the target itself knows of one attempt."""

    attempt_id: str
    billed: Usage | None
    hung_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAtHand:
    """A provider and the target it speaks to, which plays these scripts, one an attempt."""

    provider: Provider
    play: Callable[[Script], None]
    #: What the target knows of the attempts so far.
    oracle: Callable[[], list[Oracle]]
    target: Target


def a_call(
    at_hand: ProviderAtHand, *, stream: bool = True, usage_wanted: bool = False, **named: object
) -> UpstreamCall:
    fields = {"model": b'"chat"', "messages": b'[{"role":"user","content":"hi"}]', "stream": b"true"}
    values: dict[str, object] = {
        "attempt_id": ATTEMPT_ID,
        "target": at_hand.target,
        "endpoint": Endpoint.CHAT,
        "fields": fields if stream else {name: fields[name] for name in ("model", "messages")},
        "stream": stream,
        "usage_wanted": usage_wanted,
        "timeouts": PATIENT,
        **named,
    }
    return UpstreamCall(**values)  # type: ignore[arg-type]


async def pieces_of(answer: UpstreamAnswer) -> list[Piece]:
    return [piece async for piece in answer.pieces()]


async def drain(answer: UpstreamAnswer, *, into: list[Piece]) -> None:
    """What came stays there when the stream breaks."""
    async for piece in answer.pieces():
        into.append(piece)  # noqa: PERF401  what came must stay


def said(raw: bytes) -> list[dict[str, object]]:
    """The JSON of each event."""
    events = [event.removeprefix(b"data: ") for event in raw.split(b"\n\n") if event]
    return [msgspec.json.decode(event) for event in events if event != b"[DONE]"]


class ProviderSuite:
    """Inherit, and give a fixture `at_hand`."""

    async def test_a_stream_is_passed_in_order_and_its_end_comes_alone(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(words=("One", " two", " three")))
        answer = await at_hand.provider.open(a_call(at_hand))
        assert answer.status == 200
        assert answer.content_type.startswith("text/event-stream")
        pieces = await pieces_of(answer)
        await answer.close()
        assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert pieces[-1].raw == b"data: [DONE]\n\n"
        assert all(piece.raw.endswith(b"\n\n") for piece in pieces if piece.raw)
        deltas = [event["choices"][0]["delta"] for event in said(b"".join(piece.raw for piece in pieces))]  # type: ignore[index]
        assert "".join(delta.get("content", "") for delta in deltas) == "One two three"

    async def test_every_word_is_counted_once(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(words=tuple(f" word{number}" for number in range(40))))
        answer = await at_hand.provider.open(a_call(at_hand))
        pieces = await pieces_of(answer)
        await answer.close()
        assert sum(piece.content_events for piece in pieces) == 40
        text_bytes = sum(len(f" word{number}") for number in range(40))
        assert abs(sum(piece.content_bytes for piece in pieces) - text_bytes) <= text_bytes * 0.25

    async def test_an_answer_opens_with_its_first_word_and_not_before(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(first_s=0.2, between_s=10))
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await at_hand.provider.open(a_call(at_hand))
        assert loop.time() - began >= 0.19
        pieces = answer.pieces()
        first = await anext(pieces)
        while not first.content_events:
            first = await anext(pieces)
        assert b"Hello" in first.raw
        assert b" there" not in first.raw
        await answer.close()

    async def test_usage_is_told_and_hidden_from_who_did_not_ask(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(words=("a", "b", "c"), prompt_tokens=11, cached_tokens=4))
        answer = await at_hand.provider.open(a_call(at_hand))
        pieces = await pieces_of(answer)
        await answer.close()
        told = [piece.usage for piece in pieces if piece.usage is not None]
        assert told == [Usage(prompt=11, output=3, cached=4)]
        assert b"usage" not in b"".join(piece.raw for piece in pieces)

    async def test_usage_is_passed_on_to_who_asked(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script())
        answer = await at_hand.provider.open(a_call(at_hand, usage_wanted=True))
        pieces = await pieces_of(answer)
        await answer.close()
        last = said(b"".join(piece.raw for piece in pieces))[-1]
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] == 13  # type: ignore[index]
        assert [piece.usage for piece in pieces if piece.usage] == [Usage(prompt=11, output=2)]

    async def test_a_stream_without_usage_is_whole_all_the_same(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(reports_usage=False))
        answer = await at_hand.provider.open(a_call(at_hand))
        pieces = await pieces_of(answer)
        await answer.close()
        assert all(piece.usage is None for piece in pieces)
        assert pieces[-1].last
        assert any(piece.finished for piece in pieces)

    async def test_a_stream_that_has_finished_may_end_without_done(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(says_done=False))
        answer = await at_hand.provider.open(a_call(at_hand))
        pieces = await pieces_of(answer)
        await answer.close()
        assert not any(piece.last for piece in pieces)
        assert any(piece.finished for piece in pieces)
        assert not at_hand.oracle()[0].hung_up

    async def test_who_was_told_the_beginning_hears_only_what_follows(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(words=("One", " two", " three"), fault=FaultKind.CUT, fault_after=2))
        at_hand.play(Script(words=("One t", "wo th", "ree")))
        telling, came = Telling(), list[Piece]()
        answer = await at_hand.provider.open(a_call(at_hand, telling=telling))
        with pytest.raises(TargetFailure):
            await drain(answer, into=came)
        await answer.close()
        telling.begin_anew()
        answer = await at_hand.provider.open(a_call(at_hand, telling=telling))
        again = await pieces_of(answer)
        await answer.close()
        deltas = [
            choice["delta"]
            for event in said(b"".join(piece.raw for piece in [*came, *again]))
            for choice in event["choices"]  # type: ignore[attr-defined]
        ]
        assert [delta["content"] for delta in deltas if delta.get("content")] == ["One", " two", " th", "ree"]
        assert sum(piece.content_events for piece in again) == 3
        assert again[-1].last

    async def test_what_is_not_what_the_caller_was_told_is_a_failure_and_a_hang_up(
        self, at_hand: ProviderAtHand
    ) -> None:
        telling = Telling()
        telling.hear(Said(index=0, texts={"content": "One two"}))
        telling.begin_anew()
        at_hand.play(Script(words=("One", " three", *([" more"] * 50)), between_s=0.05))
        came: list[Piece] = []
        answer = await at_hand.provider.open(a_call(at_hand, telling=telling))
        with pytest.raises(TargetFailure) as caught:
            await drain(answer, into=came)
        await answer.close()
        assert caught.value.kind is FaultKind.NOT_REPRODUCED
        assert b"three" not in b"".join(piece.raw for piece in came)
        await self._hung_up(at_hand)

    @pytest.mark.parametrize("words", [1, 2, 5])
    async def test_a_stream_that_is_cut_breaks_after_the_words_that_came(
        self, at_hand: ProviderAtHand, words: int
    ) -> None:
        at_hand.play(Script(words=("w",) * 8, fault=FaultKind.CUT, fault_after=words))
        answer = await at_hand.provider.open(a_call(at_hand))
        came: list[Piece] = []
        with pytest.raises(TargetFailure) as caught:
            await drain(answer, into=came)
        await answer.close()
        assert sum(piece.content_events for piece in came) == words
        assert not any(piece.last for piece in came)
        assert caught.value.kind is FaultKind.CUT
        assert at_hand.oracle()[0].billed == Usage(prompt=11, output=words)

    @pytest.mark.parametrize("kind", REFUSALS)
    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_refusal_is_told_before_anything_opens(
        self, at_hand: ProviderAtHand, kind: FaultKind, stream: bool
    ) -> None:
        at_hand.play(Script(fault=kind, retry_after_s=7.0))
        with pytest.raises(TargetFailure) as caught:
            await at_hand.provider.open(a_call(at_hand, stream=stream))
        failure = caught.value
        assert (failure.kind, failure.target, failure.retry_after_s) == (kind, at_hand.target.name, 7.0)
        assert failure.status is not None
        assert failure.status >= 400
        assert (failure.body is not None) is (kind in CALLERS_FAULT)
        assert str(failure).startswith(f"{at_hand.target.name}: ")
        assert at_hand.oracle()[0].billed is None

    @pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.INVALID_ANSWER])
    async def test_an_answer_that_breaks_before_its_first_word_may_have_worked(
        self, at_hand: ProviderAtHand, kind: FaultKind
    ) -> None:
        at_hand.play(Script(fault=kind))
        with pytest.raises(TargetFailure) as caught:
            await at_hand.provider.open(a_call(at_hand))
        assert caught.value.kind is kind
        assert caught.value.kind in MAY_HAVE_WORKED

    async def test_no_first_word_in_time_is_a_time_out_and_a_hang_up(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(first_s=30))
        with pytest.raises(TargetFailure) as caught:
            await at_hand.provider.open(a_call(at_hand, timeouts=IMPATIENT_FOR_THE_FIRST))
        assert caught.value.kind is FaultKind.FIRST_TOKEN_TIMEOUT
        await self._hung_up(at_hand)

    async def test_a_stall_in_the_middle_is_a_time_out_and_a_hang_up(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(between_s=30))
        answer = await at_hand.provider.open(a_call(at_hand, timeouts=IMPATIENT_FOR_THE_NEXT))
        with pytest.raises(TargetFailure) as caught:
            await pieces_of(answer)
        await answer.close()
        assert caught.value.kind is FaultKind.IDLE_TIMEOUT
        await self._hung_up(at_hand)

    async def test_a_whole_answer_comes_with_its_usage(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(words=("Hello", " there"), cached_tokens=3))
        answer = await at_hand.provider.open(a_call(at_hand, stream=False))
        assert answer.content_type.startswith("application/json")
        body, usage = await answer.body()
        await answer.close()
        assert msgspec.json.decode(body)["choices"][0]["message"]["content"] == "Hello there"
        assert usage == Usage(prompt=11, output=2, cached=3)
        assert at_hand.oracle() == [
            Oracle(attempt_id=ATTEMPT_ID, billed=Usage(prompt=11, output=2), hung_up=False),
        ]

    async def test_a_whole_answer_may_be_silent_about_usage(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(reports_usage=False))
        answer = await at_hand.provider.open(a_call(at_hand, stream=False))
        body, usage = await answer.body()
        await answer.close()
        assert body
        assert usage is None

    @pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.INVALID_ANSWER, FaultKind.IDLE_TIMEOUT])
    async def test_half_of_a_whole_answer_is_never_given(self, at_hand: ProviderAtHand, kind: FaultKind) -> None:
        at_hand.play(Script(fault=kind, fault_after=1))
        timeouts = IMPATIENT_FOR_THE_NEXT if kind is FaultKind.IDLE_TIMEOUT else PATIENT
        answer = await at_hand.provider.open(a_call(at_hand, stream=False, timeouts=timeouts))
        with pytest.raises(TargetFailure) as caught:
            await answer.body()
        await answer.close()
        assert caught.value.kind is kind

    @pytest.mark.parametrize("stream", [True, False])
    async def test_cancelling_an_opening_ends_the_work(self, at_hand: ProviderAtHand, stream: bool) -> None:
        at_hand.play(Script(first_s=30))
        opening = asyncio.get_running_loop().create_task(at_hand.provider.open(a_call(at_hand, stream=stream)))
        async with asyncio.timeout(20):
            while not at_hand.oracle():
                await asyncio.sleep(0.01)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await self._hung_up(at_hand)

    async def test_closing_a_stream_in_the_middle_ends_the_work(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(words=("w",) * 50, between_s=0.05))
        answer = await at_hand.provider.open(a_call(at_hand))
        await anext(answer.pieces())
        await answer.close()
        await self._hung_up(at_hand)
        billed = at_hand.oracle()[0].billed
        assert billed is not None
        assert billed.output < 10, "the target saw it long before a second had passed"

    async def test_what_came_and_was_not_asked_for_is_told_to_whoever_leaves(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(words=("w",) * 50, between_s=10))
        answer = await at_hand.provider.open(a_call(at_hand))
        assert sum(piece.content_events for piece in answer.unread()) == 1
        assert not answer.unread()
        await answer.close()
        assert not answer.unread()

    async def test_nothing_of_a_whole_answer_lies_unread_before_it_comes(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(words=("w",) * 50, between_s=0.05))
        answer = await at_hand.provider.open(a_call(at_hand, stream=False))
        assert not answer.unread()
        await answer.close()

    async def test_closing_a_whole_answer_before_its_body_ends_the_work(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script(words=("w",) * 50, between_s=0.05))
        answer = await at_hand.provider.open(a_call(at_hand, stream=False))
        await answer.close()
        await self._hung_up(at_hand)

    async def test_an_attempt_carries_its_id_to_the_target(self, at_hand: ProviderAtHand) -> None:
        at_hand.play(Script())
        answer = await at_hand.provider.open(a_call(at_hand))
        await pieces_of(answer)
        await answer.close()
        assert [each.attempt_id for each in at_hand.oracle()] == [ATTEMPT_ID]

    async def test_attempts_at_once_do_not_meet(self, at_hand: ProviderAtHand) -> None:
        for number in range(20):
            at_hand.play(Script(words=(f"<{number}>",) * 20, between_s=0.001))

        async def texts() -> set[bytes]:
            answer = await at_hand.provider.open(a_call(at_hand))
            raw = b"".join([piece.raw async for piece in answer.pieces()])
            await answer.close()
            return {part.partition(b">")[0] for part in raw.split(b"<")[1:]}

        seen = await asyncio.gather(*[texts() for _ in range(20)])
        assert all(len(each) == 1 for each in seen)
        assert len(set[bytes]().union(*seen)) == 20

    async def _hung_up(self, at_hand: ProviderAtHand) -> None:
        """The target sees the connection end before the answer would have."""
        async with asyncio.timeout(20):
            while not at_hand.oracle()[0].hung_up:
                await asyncio.sleep(0.01)
