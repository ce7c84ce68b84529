"""app.worker.text: what may be shown of an answer, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.worker.text import AnswerText, StopHolder

FEW = st.text(alphabet="ab ", max_size=30)


def show(holder: StopHolder, chunks: list[str]) -> tuple[str, str | None]:
    text = ""
    for chunk in chunks:
        shown = holder.add(chunk)
        text += shown.text
        if shown.stopped_by is not None:
            return text, shown.stopped_by
    return text + holder.rest(), None


@given(
    chunks=st.lists(st.text(alphabet="ab ", min_size=1, max_size=1), max_size=30),
    stop=st.text("ab ", min_size=1, max_size=5),
)
def test_one_stop_string_ends_the_text_where_a_search_of_the_whole_would(chunks: list[str], stop: str) -> None:
    whole = "".join(chunks)
    at = whole.find(stop)
    assert show(StopHolder((stop,)), chunks) == ((whole, None) if at < 0 else (whole[:at], stop))
    assert show(StopHolder((stop,), include=True), chunks) == (
        (whole, None) if at < 0 else (whole[: at + len(stop)], stop)
    )


@given(chunks=st.lists(FEW, max_size=10), stops=st.lists(st.text("ab ", min_size=1, max_size=4), max_size=3))
def test_no_stop_string_is_ever_shown(chunks: list[str], stops: list[str]) -> None:
    text, _ = show(StopHolder(stops), chunks)
    assert not any(stop in text for stop in stops)


@given(chunks=st.lists(FEW, max_size=10))
def test_without_stop_strings_nothing_is_held_back(chunks: list[str]) -> None:
    holder = StopHolder(())
    assert [holder.add(chunk).text for chunk in chunks] == chunks


def test_the_end_of_a_text_is_held_only_while_it_may_begin_a_stop_string() -> None:
    holder = StopHolder(("END",))
    assert [holder.add(part).text for part in ("an E", "N", "vy", " E")] == ["an ", "", "ENvy", " "]
    assert holder.rest() == "E"


def test_a_stop_string_before_the_minimum_length_is_ordinary_text() -> None:
    holder = StopHolder(("stop",))
    assert holder.add("a stop", may_stop=False).text == "a stop"
    assert holder.add(" stop").stopped_by == "stop"


@given(text=st.text(max_size=40), sizes=st.lists(st.integers(1, 5), max_size=60))
def test_characters_cut_into_tokens_anywhere_come_out_whole(text: str, sizes: list[int]) -> None:
    raw, answer, shown = text.encode(), AnswerText(), ""
    for size in [*sizes, len(raw) + 1]:
        part = answer.add(raw[:size]).text
        assert "�" not in part or "�" in text
        shown, raw = shown + part, raw[size:]
    assert shown + answer.end().text == text


def test_bytes_that_are_no_character_show_as_the_replacement_character_at_the_end() -> None:
    answer = AnswerText()
    assert answer.add("é".encode()[:1]).text == ""
    assert answer.end().text == "�"


def test_a_stop_string_of_more_than_one_byte_a_character_is_found_across_tokens() -> None:
    answer = AnswerText(("终",))
    raw = "前终后".encode()
    shown = [answer.add(raw[index : index + 1]) for index in range(6)]
    assert "".join(part.text for part in shown) == "前"
    assert shown[-1].stopped_by == "终"
