"""app.worker.scheduler on the real engine, step by step."""

from __future__ import annotations

import pytest

from app.worker.messages import Sampling
from app.worker.openvino import OpenVinoPipeline
from app.worker.prefix_account import PrefixAccount
from app.worker.scheduler import PROMPT_TOKENS_A_STEP
from tests.worker.engine import ENDLESS, GREEDY, Inside, alone


def numbers(seed: int, count: int) -> tuple[int, ...]:
    """A prompt that nothing else shares."""
    return tuple(100 + (seed * 7919 + index * 31) % 40_000 for index in range(count))


def test_the_capital_of_france_is_paris(inside: Inside) -> None:
    outcome = inside.answer("The capital of France is", max_tokens=4)
    assert outcome.text.startswith(" Paris")
    assert (outcome.tokens, outcome.ending) == (4, "length")


def test_a_model_that_is_done_stops(inside: Inside) -> None:
    sampling = Sampling(temperature=0.0, json_schema='{"enum": ["yes"]}')
    outcome = inside.answer("Is this a question? ", sampling, max_tokens=200)
    assert (outcome.text, outcome.ending, outcome.stopped_by) == ('"yes"', "stop", None)


def test_special_tokens_are_shown_to_those_who_ask(inside: Inside) -> None:
    sampling = Sampling(temperature=0.0, json_schema='{"enum": ["yes"]}', skip_special_tokens=False)
    assert inside.answer("Is this a question? ", sampling, max_tokens=200).text == '"yes"<|im_end|>'


def test_a_stop_string_ends_the_answer_before_itself(inside: Inside) -> None:
    plain = inside.answer("The capital of France is", ENDLESS, max_tokens=12).text
    stop = plain[9:13]
    sampling = Sampling(temperature=0.0, ignore_eos=True, stop=("nowhere", stop))
    outcome = inside.answer("The capital of France is", sampling, max_tokens=12)
    assert (outcome.text, outcome.ending, outcome.stopped_by) == (plain[: plain.index(stop)], "stop", stop)
    assert outcome.tokens < 12
    assert inside.step().running == 0


def test_a_stop_token_ends_the_answer_even_when_the_end_token_does_not(inside: Inside) -> None:
    (paris,) = inside.encode(" Paris")
    sampling = Sampling(temperature=0.0, ignore_eos=True, stop_token_ids=(paris,))
    outcome = inside.answer("The capital of France is", sampling, max_tokens=12)
    assert (outcome.text, outcome.tokens, outcome.ending, outcome.stopped_by) == ("", 1, "stop", paris)
    longer = Sampling(temperature=0.0, ignore_eos=True, stop_token_ids=(paris,), min_tokens=3)
    assert inside.answer("The capital of France is", longer, max_tokens=3).text.startswith(" Paris")


def test_a_seed_makes_the_same_answer_alone_and_in_company(inside: Inside) -> None:
    sampling = Sampling(temperature=1.0, seed=7, ignore_eos=True)
    alone = inside.answer("Once upon a time", sampling, max_tokens=12).text
    together = [
        inside.submit("Once upon a time", Sampling(temperature=1.0, seed=seed, ignore_eos=True), max_tokens=12)
        for seed in (7, 8, 7)
    ]
    inside.run()
    texts = [inside.outcomes[number].text for number in together]
    assert texts[0] == texts[2] == alone
    assert texts[1] != alone


def test_a_prompt_seen_before_is_not_computed_again(inside: Inside) -> None:
    prompt = numbers(1, 300)
    assert inside.answer(prompt).cached_tokens == 0
    assert inside.answer(prompt).cached_tokens == 288


def test_a_long_prompt_is_read_in_pieces_and_answers_in_progress_go_on(inside: Inside) -> None:
    writer = inside.submit(numbers(2, 20), ENDLESS, max_tokens=30)
    inside.step()
    reader = inside.submit(numbers(3, 3 * PROMPT_TOKENS_A_STEP), ENDLESS, max_tokens=2)
    inside.run()
    first = inside.outcomes[reader].steps[0]
    before = [step for step in inside.outcomes[writer].steps if step < first]
    assert len(before) >= 3
    assert inside.outcomes[reader].tokens == 2
    assert inside.step().drifts == 0


def test_pieces_make_the_same_answer_as_a_prompt_at_once(inside: Inside) -> None:
    """What was read in pieces is wholly cached: the second time it is read at once."""
    prompt = inside.encode(" ".join(str(number) for number in range(400)))
    assert len(prompt) > PROMPT_TOKENS_A_STEP
    first, second = inside.answer(prompt), inside.answer(prompt)
    assert second.cached_tokens is not None
    assert second.cached_tokens > len(prompt) - 40
    assert first.text == second.text == " 400 401"


def test_no_more_answers_are_in_progress_than_allowed_and_the_rest_wait_in_order(inside: Inside) -> None:
    first_steps = []
    waiting = [inside.submit(numbers(50 + index, 10), ENDLESS, max_tokens=3) for index in range(11)]
    assert inside.step().running == 8
    inside.run()
    first_steps = [inside.outcomes[number].steps[0] for number in waiting]
    assert first_steps == sorted(first_steps)
    assert first_steps[8] > first_steps[7]


def test_a_cancelled_answer_is_gone_after_one_step(inside: Inside) -> None:
    number = inside.submit(numbers(4, 20), ENDLESS, max_tokens=500)
    assert inside.step().running == 1
    inside.scheduler.cancel(number)
    assert inside.step().running == 0
    assert not inside.scheduler.has_work
    assert inside.outcomes[number].tokens == 1


def test_a_cancelled_prompt_never_leaves_the_queue(inside: Inside) -> None:
    numbers_in = [inside.submit(numbers(20 + index, 10), ENDLESS, max_tokens=4) for index in range(9)]
    inside.step()
    inside.scheduler.cancel(numbers_in[8])
    inside.run()
    assert inside.outcomes[numbers_in[8]].cached_tokens is None
    assert all(inside.outcomes[number].tokens == 4 for number in numbers_in[:8])


def test_cancelling_an_answer_that_ended_does_nothing(inside: Inside) -> None:
    number = inside.submit("The capital of France is", max_tokens=1)
    inside.run()
    inside.scheduler.cancel(number)
    inside.scheduler.cancel(10**9)
    assert not inside.scheduler.has_work


def test_a_prompt_given_up_half_way_leaves_no_rubbish_in_the_cache(
    inside: Inside, one_token_a_step: tuple[OpenVinoPipeline, PrefixAccount]
) -> None:
    """The engine alone would stop inside the block that has the question, and keep it as if it were whole."""
    question = inside.encode(" red blue" * 20)
    prompt = (*inside.encode("one two three four " * 200)[: PROMPT_TOKENS_A_STEP + 7], *question)
    expected = alone(one_token_a_step, prompt, max_tokens=4)
    company = inside.submit(numbers(5, 33), ENDLESS, max_tokens=6)
    inside.step()
    given_up = inside.submit(prompt)
    inside.step()
    inside.scheduler.cancel(given_up)
    inside.run()
    assert inside.outcomes[company].tokens == 6
    assert inside.outcomes[given_up].tokens == 0
    again = inside.answer(prompt, ENDLESS, max_tokens=4)
    assert again.cached_tokens == PROMPT_TOKENS_A_STEP
    assert again.text == expected


def test_two_that_continue_one_text_do_not_write_into_each_other(
    inside: Inside, one_token_a_step: tuple[OpenVinoPipeline, PrefixAccount]
) -> None:
    """The engine alone lets both fill the same half-filled block, and one answer continues the other's text."""
    story = "In a small town by the sea there lived an old clockmaker who kept every clock he had ever built in a room "
    opening = inside.encode(story * 2)[:43]
    ends = (" red blue red blue red blue red blue red blue red", " 1 2 3 4 5 6 7 8 9 10 11 12")
    prompts = [(*opening, *inside.encode(end)) for end in ends]
    expected = [alone(one_token_a_step, prompt, max_tokens=2) for prompt in prompts]
    inside.answer(opening, max_tokens=1)
    together = [inside.submit(prompt, ENDLESS, max_tokens=2) for prompt in prompts]
    inside.run()
    assert [inside.outcomes[number].text for number in together] == expected
    assert inside.outcomes[together[0]].cached_tokens == len(opening)
    assert inside.outcomes[together[0]].steps[0] < inside.outcomes[together[1]].steps[0]


def test_a_text_that_is_still_being_written_can_be_continued_by_another(
    inside: Inside, one_token_a_step: tuple[OpenVinoPipeline, PrefixAccount]
) -> None:
    opening = inside.encode("These are the numbers in their order: " + " ".join(str(number) for number in range(1, 8)))
    prompt = (*opening, *inside.encode(" 8. The capital of France is"))
    expected = [alone(one_token_a_step, tokens, max_tokens=4) for tokens in (opening, prompt)]
    writer = inside.submit(opening, ENDLESS, max_tokens=4)
    inside.step()
    follower = inside.submit(prompt, ENDLESS, max_tokens=4)
    inside.run()
    assert [inside.outcomes[number].text for number in (writer, follower)] == expected


def test_answers_interrupted_for_lack_of_cache_are_taken_up_again(inside: Inside) -> None:
    """Eight prompts of seven blocks leave eight of 64 blocks, and each answer wants two more."""
    before = inside.account.preemptions
    answers = [inside.submit(numbers(100 + index, 200), ENDLESS, max_tokens=70) for index in range(8)]
    step = inside.run()
    assert [inside.outcomes[number].tokens for number in answers] == [70] * 8
    assert step.preemptions > before
    assert step.drifts == 0, "the account no longer follows the engine"


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(min_p=0.99), Sampling(temperature=1e-6), GREEDY])
def test_settings_that_leave_one_choice_give_the_likeliest_answer(inside: Inside, sampling: Sampling) -> None:
    assert inside.answer("The capital of France is", sampling, max_tokens=2).text.startswith(" Paris")
