"""What the caller was told, and what of a second target's answer is new to it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.telling import KEPT_MOST_CHARS, News, Rest, Said, Telling


def content(text: str, *, index: int = 0, finish: str | None = None, opaque: bool = False) -> Said:
    return Said(index=index, texts={"content": text}, finish=finish, opaque=opaque)


def told(*said: Said) -> Telling:
    """Told these, and asked anew."""
    telling = Telling()
    for each in said:
        assert telling.hear(each) is News.ALL
    telling.begin_anew()
    return telling


def test_what_was_told_is_no_news_and_what_follows_is() -> None:
    telling = told(content("Hello "), content("there"))
    assert telling.hear(content("Hell")) is News.NOTHING
    assert telling.is_behind
    assert telling.hear(content("o there, you")) == Rest({"content": ", you"})
    assert not telling.is_behind
    assert telling.hear(content("!")) is News.ALL


@pytest.mark.parametrize("text", ["J", "Hello!", "hello", "Hello  "])
def test_a_letter_that_differs_is_not_what_was_told(text: str) -> None:
    assert told(content("Hello there")).hear(content(text)) is News.UNLIKE


def test_an_answer_may_not_end_before_all_that_was_told() -> None:
    telling = told(content("Hello"))
    assert telling.hear(content("Hell", finish="stop")) is News.UNLIKE
    telling = told(content("Hello"))
    assert telling.hear(content("Hello", finish="stop")) == Rest({"content": ""})


def test_a_choice_that_has_ended_ends_alike_and_says_no_more() -> None:
    def ended() -> Telling:
        return told(content("yes", finish="stop"), content("per", index=1))

    assert ended().hear(content("yes")) is News.NOTHING
    assert ended().hear(content("yes, but")) is News.UNLIKE
    telling = ended()
    telling.hear(content("yes"))
    assert telling.hear(Said(index=0, finish="stop")) is News.NOTHING
    assert telling.hear(Said(index=0, finish="length")) is News.UNLIKE
    assert telling.hear(content("perhaps", index=1)) == Rest({"content": "haps"})


def test_choices_and_members_are_compared_each_with_its_own() -> None:
    telling = told(Said(index=0, texts={"reasoning_content": "hm"}), content("a", index=1))
    assert telling.hear(content("b", index=2)) is News.ALL
    assert telling.hear(Said(index=0, texts={"reasoning_content": "hmm"})) == Rest({"reasoning_content": "m"})
    assert telling.hear(content("b", index=1)) is News.UNLIKE


def test_a_thought_that_was_told_is_thought_to_its_end_before_anything_new_is_said() -> None:
    thought = Said(index=0, texts={"reasoning": "hmm"})
    assert told(thought).hear(content("yes")) is News.UNLIKE
    telling = told(thought)
    assert telling.hear(Said(index=0, texts={"reasoning": "hm"})) is News.NOTHING
    assert telling.hear(content("yes")) is News.UNLIKE
    assert told(thought).hear(Said(index=0, texts={"reasoning": "hmm", "content": "yes"})) == Rest(
        {"reasoning": "", "content": "yes"}
    )
    assert told(content("yes")).hear(Said(index=0, texts={"reasoning": "hm"})) is News.UNLIKE


def test_what_is_no_text_comes_behind_all_that_was_told_or_not_at_all() -> None:
    assert told(content("Let me")).hear(Said(index=0, opaque=True)) is News.UNLIKE
    assert told(content("Let me")).hear(content("Let me look", opaque=True)) is News.UNLIKE
    telling = told(content("Let me"))
    telling.hear(content("Let me look"))
    assert telling.hear(Said(index=0, opaque=True)) is News.ALL
    assert telling.opaque


def test_who_goes_on_says_only_news() -> None:
    telling = Telling()
    telling.hear(content("Hello"))
    telling.go_on()
    assert telling.hear(content("")) is News.NOTHING
    assert telling.hear(content("Hello")) is News.ALL
    assert telling.plain_text == "HelloHello"


@pytest.mark.parametrize(
    "said",
    [
        [Said(index=0, texts={"content": "a"}, opaque=True)],
        [content("a", index=1)],
        [content("a"), content("b", index=1)],
        [content("a", finish="stop")],
        [Said(index=0, texts={"reasoning": "hm"})],
        [Said(index=0, texts={"reasoning": "hm", "content": "a"})],
        [],
    ],
)
def test_only_the_one_text_of_one_open_choice_is_plain(said: list[Said]) -> None:
    telling = Telling()
    for each in said:
        telling.hear(each)
    assert telling.plain_text is None


def test_no_more_than_the_limit_is_kept_and_that_is_said() -> None:
    telling = Telling()
    telling.hear(content("a" * KEPT_MOST_CHARS))
    assert not telling.overflowed
    telling.hear(content("b"))
    assert telling.overflowed
    assert telling.plain_text is None


@given(st.text(max_size=30), st.integers(0, 30), st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30)))
def test_however_it_is_cut_the_caller_has_the_whole_text_once(
    text: str, broke_at: int, first: list[int], second: list[int]
) -> None:
    def cut(places: list[int], until: int) -> list[str]:
        edges = sorted({0, until, *(place for place in places if place < until)})
        return [text[begin:end] for begin, end in pairwise(edges)]

    telling, got = Telling(), ""
    for piece in cut(first, min(broke_at, len(text))):
        telling.hear(content(piece))
        got += piece
    telling.begin_anew()
    for piece in cut(second, len(text)):
        news = telling.hear(content(piece))
        assert news is not News.UNLIKE
        got += news.texts["content"] if isinstance(news, Rest) else piece if news is News.ALL else ""
    assert got == text
    assert not telling.is_behind
