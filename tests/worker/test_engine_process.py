"""app.worker.engine_process: the desk where messages arrive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.worker.engine_process import Desk, last_words
from app.worker.messages import Accepted, Cancel, Decode, Decoded, Encode, Encoded, Refused, Sampling, Submit
from app.worker.scheduler import EngineUnfit
from tests.worker.engine import Inside

ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(inside: Inside) -> Desk:
    return Desk(inside.pipeline, inside.scheduler, context_tokens=100)


def submit(prompt: str | tuple[int, ...], number: int = 90_001, **sampling: int) -> Submit:
    return Submit(request_id=number, prompt=prompt, add_special_tokens=False, sampling=Sampling(**sampling))  # type: ignore[arg-type]


def test_a_prompt_that_fits_is_accepted_and_computed(inside: Inside, desk: Desk) -> None:
    assert desk.take(submit("The capital of France is", max_tokens=2)) == Accepted(request_id=90_001, prompt_tokens=5)
    deltas = [delta for _ in range(2) for delta in inside.scheduler.step().deltas]
    assert (sum(delta.tokens for delta in deltas), deltas[-1].ending) == (2, "length")


def test_without_a_limit_the_answer_may_fill_the_context(inside: Inside, desk: Desk) -> None:
    assert isinstance(desk.take(submit(tuple(range(100, 197)), ignore_eos=True)), Accepted)
    tokens = 0
    while inside.scheduler.has_work:
        tokens += sum(delta.tokens for delta in inside.scheduler.step().deltas)
    assert tokens == 3


def test_a_prompt_as_long_as_the_context_has_no_room_for_an_answer(desk: Desk) -> None:
    refused = desk.take(submit(tuple(range(100, 200))))
    assert refused == Refused(request_id=90_001, why="prompt_too_long", prompt_tokens=100)


def test_of_a_text_that_the_tokenizer_cut_only_a_lower_bound_is_known(desk: Desk) -> None:
    refused = desk.take(submit("word " * 10_000))
    assert refused == Refused(request_id=90_001, why="prompt_too_long", prompt_tokens=8192, at_least=True)


@pytest.mark.parametrize("asked", [{"max_tokens": 96}, {"min_tokens": 96}])
def test_prompt_and_answer_together_must_fit(desk: Desk, asked: dict[str, int]) -> None:
    refused = desk.take(submit("The capital of France is", **asked))
    assert refused == Refused(request_id=90_001, why="answer_too_long", prompt_tokens=5, max_tokens=96)


@pytest.mark.parametrize(
    ("prompt", "why"), [((), "empty_prompt"), ("", "empty_prompt"), ((1, 49_152), "unknown_token")]
)
def test_what_is_no_prompt_for_this_model_is_refused(desk: Desk, prompt: tuple[int, ...] | str, why: str) -> None:
    assert desk.take(submit(prompt)) == Refused(request_id=90_001, why=why)  # type: ignore[arg-type]


def test_a_cancelled_request_is_never_computed(inside: Inside, desk: Desk) -> None:
    desk.take(submit("The capital of France is"))
    assert desk.take(Cancel(request_id=90_001)) is None
    assert not inside.scheduler.has_work


def test_the_desk_counts_and_spells_tokens(desk: Desk) -> None:
    encoded = desk.take(Encode(call_id=1, text="The capital", add_special_tokens=True))
    assert encoded == Encoded(call_id=1, tokens=(504, 3575), whole=True)
    assert desk.take(Decode(call_id=2, tokens=(504, 3575))) == Decoded(call_id=2, text="The capital")
    assert desk.take(Decode(call_id=3, tokens=(-1,))) == Decoded(call_id=3, text=None)
    cut = desk.take(Encode(call_id=4, text="word " * 10_000, add_special_tokens=True))
    assert isinstance(cut, Encoded)
    assert not cut.whole


def test_an_engine_whose_parent_is_already_gone_ends_at_once() -> None:
    script = "from app.worker.engine_process import die_with; die_with(1 << 22); print('still here')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    script = f"from app.worker.engine_process import die_with; die_with({os.getpid()}); print('still here')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "still here\n"


def test_what_failed_is_said_on_one_line_of_bearable_length() -> None:
    assert last_words(EngineUnfit("ask for\nless")) == "ask for less"
    assert last_words(ValueError("a\n\n b")) == "ValueError: a b"
    assert len(last_words(RuntimeError("x" * 10_000))) < 500
