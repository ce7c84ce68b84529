"""Two targets tell one caller: of what the second says only the news passes, however both cut it into events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import FaultKind, TargetFailure
from app.domain.telling import Telling
from app.ports import Piece
from app.providers.faults import Blame
from app.providers.openai_stream import PieceReader
from tests.providers.test_openai_stream import raw
from tests.upstream import DONE, chunk, event, usage_chunk, usage_of


def heard(telling: Telling, *events: bytes, choices: int = 1, usage_wanted: bool = False) -> list[Piece]:
    """Fed as one target's stream. Raises the reader's failure."""
    reader = PieceReader(blame=Blame(target="home"), usage_wanted=usage_wanted, choices=choices, telling=telling)
    pieces = []
    for each in events:
        pieces += reader.feed(each)
        if reader.failure is not None:
            raise reader.failure
    return pieces


def told(*events: bytes, choices: int = 1) -> Telling:
    telling = Telling()
    assert raw(heard(telling, *events, choices=choices)) == b"".join(events)
    telling.begin_anew()
    return telling


def texts(sent: bytes) -> dict[int, str]:
    """The caller's text of each choice."""
    got: dict[int, str] = {}
    for line in sent.decode().split("\n\n"):
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                got[choice["index"]] = got.get(choice["index"], "") + (choice["delta"].get("content") or "")
    return got


def cut(text: str, places: Sequence[int], *, index: int = 0) -> list[bytes]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [chunk(text[begin:end], index=index) for begin, end in pairwise(edges)]


@given(st.text(min_size=1, max_size=40), st.data())
def test_for_any_split_of_the_text_the_caller_has_the_second_targets_whole_text(text: str, data: Any) -> None:
    places = st.lists(st.integers(0, 40), max_size=8)
    broke_at = data.draw(st.integers(0, len(text)))
    first = [chunk(), *cut(text[:broke_at], data.draw(places))]
    second = [chunk(), *cut(text, data.draw(places)), chunk(finish="stop"), DONE]
    telling = told(*first)
    sent = b"".join(first) + raw(heard(telling, *second))
    assert texts(sent)[0] == text
    assert sent.endswith(DONE)
    assert sent.count(b'"role"') == 1
    assert sent.count(b'"finish_reason":"stop"') == 1


@given(st.lists(st.integers(0, 1), min_size=12, max_size=12), st.integers(1, 10))
def test_choices_that_come_in_another_order_are_each_told_once(order: list[int], broke_at: int) -> None:
    def woven(order: Sequence[int]) -> list[bytes]:
        at = [0, 0]
        events = []
        for index in [*order, *([0] * 12), *([1] * 12)]:
            if at[index] < 12:
                events.append(chunk(f"{index}{at[index]:x} ", index=index))
                at[index] += 1
        return events

    ends = [chunk(finish="stop"), chunk(finish="stop", index=1), DONE]
    first, second = woven(order)[:broke_at], [*woven(order[::-1]), *ends]
    telling = told(*first, choices=2)
    sent = b"".join(first) + raw(heard(telling, *second, choices=2))
    assert texts(sent) == {index: "".join(f"{index}{at:x} " for at in range(12)) for index in (0, 1)}


def test_the_event_over_the_border_keeps_everything_but_what_was_told() -> None:
    telling = told(chunk(), chunk("Grü"))
    pieces = heard(telling, chunk(), chunk("Grüße", system_fingerprint="fp"), chunk("!"))
    assert raw(pieces) == chunk("ße", system_fingerprint="fp") + chunk("!")
    assert sum(piece.content_events for piece in pieces) == 2


def test_both_choices_of_one_event_are_cut_each_at_its_own_border() -> None:
    def both(first: str, second: str) -> bytes:
        return event(
            {"choices": [{"index": index, "delta": {"content": text}} for index, text in enumerate((first, second))]}
        )

    def one(index: int, text: str) -> bytes:
        return event({"choices": [{"index": index, "delta": {"content": text}}]})

    telling = told(both("ab", "x"), choices=2)
    assert raw(heard(telling, both("a", "xyz"), choices=2)) == one(1, "yz")
    assert raw(heard(telling, both("bc", ""), choices=2)) == one(0, "c")


def test_usage_of_who_ends_the_answer_passes_to_who_asked_for_it() -> None:
    telling = told(chunk("a"))
    last = usage_chunk(usage_of(2))
    assert raw(heard(telling, chunk("a"), chunk("b"), chunk(finish="stop"), last, DONE, usage_wanted=True)).endswith(
        last + DONE
    )


@pytest.mark.parametrize(
    "events",
    [
        [chunk("Hello!")],
        [chunk("Hell"), chunk(finish="stop")],
        [chunk("Hell"), DONE],
        [event({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]})],
        [event({"choices": [{"index": 0, "delta": {"content": "Hello"}, "logprobs": {"content": [{"token": "H"}]}}]})],
    ],
    ids=["other words", "an early end", "no end", "a tool call", "logprobs over the border"],
)
def test_what_is_not_what_was_told_is_a_failure_of_its_own(events: list[bytes]) -> None:
    telling = told(chunk("Hello t"))
    with pytest.raises(TargetFailure) as caught:
        heard(telling, *events)
    assert caught.value.kind is FaultKind.NOT_REPRODUCED
    assert "answers otherwise" in str(caught.value)
    assert "buffer" in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        {"delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}},
        {"delta": {"function_call": {"name": "f"}}},
        {"delta": {"audio": {"data": "AAAA"}}},
        {"delta": {"content": ["a", "list"]}},
        {"delta": {"content": "a", "pictures": [{"url": "data:"}]}},
        {"delta": {"content": "a"}, "token_ids": [17]},
        {"delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}},
    ],
)
def test_what_is_no_text_is_known_for_it(said: dict[str, object]) -> None:
    assert told(event({"choices": [{"index": 0, **said}]})).opaque


@pytest.mark.parametrize("delta", [b'{"\xff":"a"}', b'["a"]', b'"a"'])
def test_a_delta_that_is_none_breaks_the_stream_as_ever(delta: bytes) -> None:
    broken = chunk("X").replace(b'{"content":"X"}', delta)
    with pytest.raises(TargetFailure) as caught:
        heard(Telling(), chunk("a"), broken)
    assert caught.value.kind is FaultKind.INVALID_ANSWER


def test_members_that_say_nothing_are_no_obstacle() -> None:
    empty = {"role": "assistant", "tool_calls": [], "audio": None, "pictures": {}, "refusal": None}
    telling = told(event({"choices": [{"index": 0, "delta": {**empty, "content": "a"}, "logprobs": None}]}))
    assert (telling.opaque, telling.plain_text) == (False, "a")


def test_bytes_that_are_no_character_are_no_text() -> None:
    assert told(chunk("X").replace(b"X", "🚀".encode()[:2])).opaque


def test_a_completion_is_told_like_a_chat() -> None:
    def completion(text: str) -> bytes:
        return event({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": None}]})

    telling = told(completion("one, t"))
    assert raw(heard(telling, completion("one"), completion(", two"))) == completion("wo")


def test_what_nobody_will_be_sent_is_counted_and_not_taken_for_told() -> None:
    telling = Telling()
    reader = PieceReader(blame=Blame(target="home"), usage_wanted=False, choices=1, telling=telling)
    reader.feed(chunk("one"))
    reader.stop_telling()
    (piece,) = reader.feed(chunk(" two"))
    assert piece.content_events == 1
    assert telling.plain_text == "one"
