"""app.worker.answers: an answer as the HTTP process knows it."""

from __future__ import annotations

import asyncio

import pytest

from app.worker.answers import AnswerGroup, OpenAnswer, Piece, observe
from app.worker.messages import Delta, Ending, Started
from app.worker.metrics import Metrics
from app.worker.refusals import Refusal, busy


def opened(number: int = 1, news: asyncio.Event | None = None) -> OpenAnswer:
    return OpenAnswer(number, arrived_s=100.0, news=news or asyncio.Event())


def delta(text: str, tokens: int = 1, ending: Ending | None = None) -> Delta:
    return Delta(request_id=1, text=text, tokens=tokens, ending=ending)


def test_a_slow_reader_gets_what_came_meanwhile_in_one_piece() -> None:
    answer = opened()
    assert answer.take() is None
    answer.grew(delta("a"), at_s=101.0)
    answer.grew(delta("b"), at_s=102.0)
    assert answer.take() == Piece(text="ab", tokens=2, ending=None, stopped_by=None)
    assert answer.take() is None


def test_the_end_is_taken_once_even_without_text() -> None:
    answer = opened()
    answer.grew(delta("", tokens=0, ending="stop"), at_s=101.0)
    assert answer.over
    assert answer.take() == Piece(text="", tokens=0, ending="stop", stopped_by=None)
    assert answer.wholly_taken
    assert answer.take() is None


def test_an_answer_that_the_engine_gave_up_is_an_error() -> None:
    answer = opened()
    answer.grew(delta("", tokens=0, ending="error"), at_s=101.0)
    with pytest.raises(Refusal, match="gave this request up"):
        answer.take()


def test_a_failure_after_the_end_changes_nothing() -> None:
    answer = opened()
    answer.grew(delta("a", ending="stop"), at_s=101.0)
    answer.failed(busy())
    assert answer.take() is not None


def test_work_never_began_before_the_request_arrived() -> None:
    answer = opened()
    answer.started(Started(request_id=1, cached_tokens=5, ago_s=7.0), at_s=101.0)
    assert (answer.started_s, answer.cached_tokens) == (100.0, 5)
    answer.started(Started(request_id=1, cached_tokens=5, ago_s=0.25), at_s=101.0)
    assert answer.started_s == 100.75


async def test_a_group_gives_the_pieces_of_all_its_answers_and_cancels_them_at_the_end() -> None:
    news, cancelled = asyncio.Event(), []
    answers = [opened(1, news), opened(2, news)]
    with AnswerGroup(answers, news=news, cancel=cancelled.append) as group:
        for answer in answers:
            answer.accepted(9)
        assert await group.accepted() == 9
        answers[1].grew(delta("b", ending="length"), at_s=1.0)
        answers[0].grew(delta("a", ending="stop"), at_s=1.0)
        seen = [(index, piece.text, piece.ending) async for index, piece in group.pieces()]
    assert seen == [(0, "a", "stop"), (1, "b", "length")]
    assert cancelled == answers


async def test_a_group_waits_until_every_answer_is_accepted() -> None:
    news = asyncio.Event()
    answers = [opened(1, news), opened(2, news)]
    with AnswerGroup(answers, news=news, cancel=lambda _: None) as group:
        answers[0].accepted(9)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(group.accepted(), 0.05)
        answers[1].failed(busy())
        with pytest.raises(Refusal, match="currently busy"):
            await group.accepted()


async def test_an_answer_that_fails_half_way_ends_the_pieces_with_its_error() -> None:
    news = asyncio.Event()
    answer = opened(1, news)
    texts: list[str] = []

    async def read(group: AnswerGroup) -> None:
        async for _, piece in group.pieces():
            texts.append(piece.text)
            answer.failed(busy())

    with AnswerGroup([answer], news=news, cancel=lambda _: None) as group:
        answer.grew(delta("a"), at_s=1.0)
        with pytest.raises(Refusal):
            await read(group)
    assert texts == ["a"]


def test_times_go_where_vllm_puts_them() -> None:
    metrics, answer = Metrics("m"), opened()
    answer.accepted(50)
    answer.started(Started(request_id=1, cached_tokens=32, ago_s=0.5), at_s=102.0)
    for at_s, ending in ((102.0, None), (103.0, None), (105.0, "length")):
        before_s, change = answer.last_token_s, delta("x", ending=ending)  # type: ignore[arg-type]
        answer.grew(change, at_s=at_s)
        observe(answer, metrics, change, before_s=before_s, at_s=at_s)
    text = metrics.text().decode()
    labels = '{engine="0",model_name="m"}'
    for name, value in (
        ("time_to_first_token_seconds_sum", 2.0),
        ("inter_token_latency_seconds_sum", 3.0),
        ("inter_token_latency_seconds_count", 2.0),
        ("request_time_per_output_token_seconds_sum", 1.5),
        ("e2e_request_latency_seconds_sum", 5.0),
        ("request_queue_time_seconds_sum", 1.5),
        ("request_prefill_time_seconds_sum", 0.5),
        ("request_decode_time_seconds_sum", 3.0),
        ("request_inference_time_seconds_sum", 3.5),
        ("prompt_tokens_total", 50.0),
        ("prompt_tokens_cached_total", 32.0),
        ("generation_tokens_total", 3.0),
    ):
        assert f"vllm:{name}{labels} {value}" in text, name
