"""A stream becomes pieces: what is said is counted, what only we asked for is hidden, what is broken is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import FaultKind, TargetFailure
from app.domain.usage import Usage
from app.ports import Piece
from app.providers.fault_table import ADVICE
from app.providers.faults import Blame
from app.providers.openai_chunk import read_chunk
from app.providers.openai_stream import PieceReader
from tests.upstream import DONE, NO_USAGE, chunk, event, events_of, usage_chunk, usage_of

WORDS = ("Grüße", " aus", " 東京", " 🚀", " “x”", ' "usage":{', ' "finish_reason":"stop"', " data: [DONE]\n\n")


def a_reader(*, usage_wanted: bool = False, choices: int = 1) -> PieceReader:
    return PieceReader(blame=Blame(target="home", secret="sk-verysecret1"), usage_wanted=usage_wanted, choices=choices)


def fed(reader: PieceReader, *segments: bytes) -> list[Piece]:
    """As a provider feeds it. Raises the reader's failure."""
    pieces = []
    for segment in segments:
        pieces += reader.feed(segment)
        if reader.failure is not None:
            raise reader.failure
    return [*pieces, *([] if reader.ended else reader.feed_end())]


def raw(pieces: Sequence[Piece]) -> bytes:
    return b"".join(piece.raw for piece in pieces)


def a_stream(words: Sequence[str] = WORDS, **named: object) -> bytes:
    return b"".join(each for each, _ in events_of(words, **named))  # type: ignore[arg-type]


def spaced(said: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"


# ── what passes, and how it is counted ───────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.integers(0, 10_000), max_size=20), st.booleans())
def test_any_segmentation_gives_the_same_stream_and_the_same_counts(places: list[int], usage_wanted: bool) -> None:
    stream = a_stream()
    edges = sorted({0, len(stream), *(place % len(stream) for place in places)})
    segments = [stream[begin:end] for begin, end in pairwise(edges)]
    pieces, at_once = (
        fed(a_reader(usage_wanted=usage_wanted), *segments),
        fed(a_reader(usage_wanted=usage_wanted), stream),
    )
    assert raw(pieces) == raw(at_once)
    assert sum(piece.content_events for piece in pieces) == len(WORDS)
    assert sum(piece.content_bytes for piece in pieces) == sum(piece.content_bytes for piece in at_once)
    assert [piece.usage for piece in pieces if piece.usage] == [Usage(prompt=11, output=len(WORDS))]
    assert pieces[-1].last


def test_who_asked_for_usage_gets_every_byte_as_it_came() -> None:
    stream = a_stream()
    assert raw(fed(a_reader(usage_wanted=True), stream)) == stream


def test_who_did_not_ask_gets_the_same_stream_without_the_usage_event() -> None:
    assert raw(fed(a_reader(), a_stream())) == a_stream(usage=NO_USAGE)


def test_words_that_look_like_structure_are_text() -> None:
    stream = a_stream(usage=NO_USAGE)
    pieces = fed(a_reader(), *[each for each, _ in events_of(WORDS, usage=NO_USAGE)])
    assert raw(pieces) == stream
    assert all(piece.usage is None for piece in pieces)
    assert [piece.finished for piece in pieces].count(True) == 2  # the finish reason, and the end after it


def test_the_null_that_our_asking_caused_is_taken_out_again() -> None:
    """OpenAI adds `"usage":null` to every chunk once usage is asked for."""
    events = [chunk(word, usage=None) for word in WORDS] + [
        chunk(finish="stop", usage=None),
        usage_chunk(usage_of(8)),
        DONE,
    ]
    pieces = fed(a_reader(), *events)
    assert raw(pieces) == b"".join([*(chunk(word) for word in WORDS), chunk(finish="stop"), DONE])
    assert raw(fed(a_reader(usage_wanted=True), *events)) == b"".join(events)


@pytest.mark.parametrize("place", ["first", "last", "spaced", "alone"])
def test_the_null_is_found_wherever_it_stands(place: str) -> None:
    choices: dict[str, object] = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
    spelled = {
        "first": event({"usage": None, **choices}),
        "last": event({**choices, "usage": None}),
        "spaced": spaced({**choices, "usage": None}),
        "alone": event({"usage": None}),
    }[place]
    measured = [chunk("a"), chunk("b")]
    out = raw(fed(a_reader(), *measured, spelled, chunk(finish="stop")))
    assert b'"usage"' not in out
    for each in out.split(b"\n\n"):
        json.loads(each.removeprefix(b"data: ") or b"{}")


def test_usage_beside_content_is_told_and_taken_out_of_the_event() -> None:
    """`continuous_usage_stats` of vLLM, and services that report usage in the event with the finish reason."""
    last = chunk("c", finish="stop", usage=usage_of(3))
    pieces = fed(a_reader(), chunk("a", usage=usage_of(1)), chunk("b", usage=usage_of(2)), last, DONE)
    assert [piece.usage.output for piece in pieces if piece.usage] == [1, 2, 3]
    assert raw(pieces) == b"".join([chunk("a"), chunk("b"), chunk("c", finish="stop"), DONE])


def test_two_usage_events_and_the_last_one_stands() -> None:
    pieces = fed(
        a_reader(), chunk("a"), chunk(finish="stop"), usage_chunk(usage_of(1)) + usage_chunk(usage_of(2)) + DONE
    )
    assert [piece.usage.output for piece in pieces if piece.usage] == [2]


@pytest.mark.parametrize(
    "usage", [None, "many", [], {"prompt_tokens": "x"}, {"prompt_tokens": -1, "completion_tokens": 2}]
)
def test_a_lie_about_usage_breaks_nothing(usage: object) -> None:
    pieces = fed(a_reader(), chunk("a"), chunk(finish="stop"), usage_chunk(usage), DONE)
    assert pieces[-1].last


def test_comments_and_named_events_pass_and_say_nothing() -> None:
    keep_alive, named = b": keep-alive\n\n", b"event: ping\nid: 7\n\n"
    reader = a_reader()
    assert [piece.content_events for piece in reader.feed(keep_alive)] == [0]
    assert not reader.begun
    pieces = fed(reader, chunk("a"), chunk("b"), named, chunk("c"), chunk(finish="stop"), DONE)
    assert named in raw(pieces)
    assert sum(piece.content_events for piece in pieces) == 3


@pytest.mark.parametrize("ends", [b"\r\n", b"\r"])
def test_other_line_ends_are_understood_and_kept(ends: bytes) -> None:
    stream = a_stream(["a", "b", "c"], usage=NO_USAGE).replace(b"\n", ends)
    pieces = fed(a_reader(), stream)
    assert raw(pieces).rstrip() == stream.rstrip()
    assert sum(piece.content_events for piece in pieces) == 3
    assert pieces[-1].last


def test_a_byte_order_mark_is_dropped() -> None:
    assert raw(fed(a_reader(), b"\xef\xbb\xbf" + a_stream(usage=NO_USAGE))) == a_stream(usage=NO_USAGE)


def test_data_on_several_lines_is_one_event() -> None:
    parted = b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"x"}}]}\n\n'
    pieces = fed(a_reader(), parted, chunk(finish="stop"), DONE)
    assert pieces[0].content_events == 1
    assert pieces[0].raw == parted


def test_what_follows_done_is_not_read() -> None:
    reader = a_reader()
    pieces = reader.feed(chunk("a") + chunk(finish="stop") + DONE + b"data: {broken\n\n" + chunk("b"))
    assert [piece.last for piece in pieces] == [False, True]
    assert raw(pieces) == chunk("a") + chunk(finish="stop") + DONE


def test_pretty_printed_chunks_are_read_one_by_one() -> None:
    """An envelope spelled in no known way is never guessed at."""

    def odd(said: dict[str, object]) -> bytes:
        return b"data: " + json.dumps(said, separators=(" , ", " : ")).encode() + b"\n\n"

    def word(text: str | None, finish: str | None = None) -> bytes:
        return odd({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})

    pieces = fed(
        a_reader(), *[word(text) for text in "abcd"], word(None, "stop"), odd({"choices": [], "usage": usage_of(4)})
    )
    assert sum(piece.content_events for piece in pieces) == 4
    assert any(piece.finished for piece in pieces)
    assert [piece.usage for piece in pieces if piece.usage] == [Usage(prompt=11, output=4)]
    assert b"usage" not in raw(pieces)


# ── when an answer has begun, and when it has finished ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("delta", "begins"),
    [
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"content": None}, False),
        ({"tool_calls": []}, False),
        ({}, False),
        ({"content": " "}, True),
        ({"reasoning_content": "hm"}, True),
        ({"reasoning": "hm"}, True),
        ({"refusal": "no"}, True),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}, True),
        ({"tool_calls": [{"index": 0, "function": "odd"}]}, True),
        ({"audio": {"data": "AAAA"}}, True),
    ],
)
def test_an_answer_begins_with_anything_said_and_not_with_a_role(delta: object, begins: bool) -> None:
    reader = a_reader()
    reader.feed(event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
    assert reader.begun is begins


@pytest.mark.parametrize("said", [{"choices": [{"index": 0, "text": "x"}]}, {"choices": [], "usage": usage_of(0)}])
def test_a_completions_text_and_a_usage_begin_an_answer(said: object) -> None:
    reader = a_reader()
    reader.feed(event(said))
    assert reader.begun


def test_an_answer_of_several_choices_finishes_with_the_last_of_them() -> None:
    reader = a_reader(choices=2)
    first = fed(reader, chunk("a"), chunk("b", index=1), chunk(finish="stop"))
    assert not any(piece.finished for piece in first)
    second = reader.feed(chunk(finish="length", index=1))
    assert second[0].finished
    assert reader.finished


@pytest.mark.parametrize(("rest", "last"), [(b"data: [DONE]", True), (b"data: [DONE]\n", True), (b"data: [DO", False)])
def test_a_last_event_that_lacks_only_its_blank_line_counts(rest: bytes, last: bool) -> None:
    pieces = fed(a_reader(), chunk("a"), chunk(finish="stop"), rest)
    assert pieces[-1].last is last
    assert raw(pieces).endswith(b"\n\n")


def test_the_size_of_what_is_said_is_about_right() -> None:
    words = ["word"] * 100
    pieces = fed(a_reader(), *[each for each, _ in events_of(words)])
    assert 380 <= sum(piece.content_bytes for piece in pieces) <= 420


def test_padding_is_not_taken_for_text() -> None:
    """OpenAI pads chunks (`obfuscation`), so that their sizes tell nothing."""
    events = [chunk("ab", obfuscation="x" * (7 * number % 16)) for number in range(50)]
    assert sum(piece.content_bytes for piece in fed(a_reader(), *events, chunk(finish="stop"))) <= 8


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"error": {"message": "The request queue is full.", "type": "x", "code": 503}}, FaultKind.OVERLOADED),
        ({"error": {"message": "maximum context length is 9", "code": 400}}, FaultKind.CONTEXT_OVERFLOW),
        ({"error": "server busy, please try again.  maximum pending requests exceeded"}, FaultKind.OVERLOADED),
        ({"error": "Model is overloaded", "error_type": "overloaded"}, FaultKind.OVERLOADED),
        ({"object": "error", "message": "out of luck", "code": 400}, FaultKind.BAD_REQUEST),
        ({"error": {"message": "boom"}}, FaultKind.SERVER_ERROR),
    ],
)
def test_an_error_before_anything_was_said_is_the_targets_refusal(said: object, kind: FaultKind) -> None:
    with pytest.raises(TargetFailure) as caught:
        fed(a_reader(), chunk() + event(said))
    assert caught.value.kind is kind


@pytest.mark.parametrize("named", [b"", b"event: error\n"])
def test_an_error_after_something_was_said_breaks_the_answer(named: bytes) -> None:
    reader = a_reader()
    reader.feed(chunk("a") + chunk("b") + chunk("c"))
    with pytest.raises(TargetFailure) as caught:
        fed(reader, named + event({"error": {"message": "the engine died, key sk-verysecret1"}}))
    assert caught.value.kind is FaultKind.INVALID_ANSWER
    assert "the engine died" in str(caught.value)
    assert "verysecret" not in str(caught.value)


def test_an_engine_that_fails_in_the_middle_is_told_from_a_server_of_another_kind() -> None:
    reader = a_reader()
    reader.feed(chunk("a") + chunk("b"))
    said = {"message": "The engine failed and is being started again.", "type": "server_error", "code": "engine_failed"}
    with pytest.raises(TargetFailure) as caught:
        fed(reader, event({"error": said}))
    assert caught.value.kind is FaultKind.CUT
    assert caught.value.may_have_worked
    assert str(caught.value).endswith(f"being started again; {ADVICE[FaultKind.SERVER_ERROR]}")


def test_a_null_error_is_none() -> None:
    pieces = fed(a_reader(), *[chunk(word, error=None) for word in "abc"], chunk(finish="stop"), DONE)
    assert sum(piece.content_events for piece in pieces) == 3


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"choices":[{"index":0,"del\n\n',
        b"data: {]}\n\n",
        b"data: nonsense\n\n",
        b"data: [1]\n\n",
        b"data: 7\n\n",
    ],
)
@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_event_that_is_no_chunk_breaks_the_answer_after_the_good_ones(broken: bytes, after: int) -> None:
    good = b"".join(chunk(word) for word in "abcde"[:after])
    reader = a_reader()
    assert raw(reader.feed(good + broken + chunk("never"))) == good
    assert reader.failure is not None
    assert reader.failure.kind is FaultKind.INVALID_ANSWER


def test_a_broken_event_that_looks_like_those_measured_passes_unread() -> None:
    """The price of not parsing: only what must be read is checked."""
    broken = b'data: {"choices":[{"index":0,"delta":{"content":"x"]}}\n\n'
    pieces = fed(a_reader(), chunk("a"), chunk("b"), broken, chunk(finish="stop"), DONE)
    assert broken in raw(pieces)


def test_an_event_without_end_breaks_the_answer() -> None:
    with pytest.raises(TargetFailure) as caught:
        fed(a_reader(), b"data: " + b"x" * 2_000_000)
    assert caught.value.kind is FaultKind.INVALID_ANSWER


@given(st.binary(max_size=300), st.integers(0, 3))
def test_no_bytes_crash_the_reader(noise: bytes, before: int) -> None:
    reader = a_reader()
    try:
        fed(reader, *[chunk("w")] * before, noise, b"\n\n")
    except TargetFailure as failure:
        assert failure.kind in set(FaultKind)  # noqa: PT017  either way is right, a crash is not


def test_a_chunk_of_another_shape_does_not_decode() -> None:
    with pytest.raises(ValueError, match="choices"):
        read_chunk(b'{"choices":"none"}')
