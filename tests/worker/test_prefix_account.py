"""The account of the prefix cache, app.worker.prefix_account, against the engine it accounts for."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from app.worker.messages import Sampling
from app.worker.openvino import OpenVinoPipeline, OpenVinoRequest
from app.worker.prefix_account import PrefixAccount
from app.worker.scheduler import Progress

GREEDY = Sampling(temperature=0.0, ignore_eos=True)
Engine = tuple[OpenVinoPipeline, PrefixAccount]


@dataclass(slots=True)
class Run:
    """`computed` is how many tokens the engine computed, `expected` how many it should by the account."""

    computed: int = 0
    expected: int = 0
    differences: int = 0


class Workload:
    """Prompts that often continue or repeat earlier ones, from a fixed chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.earlier: list[list[int]] = []
        self.number = 1000 * (seed + 1)

    def prompt(self) -> list[int]:
        fresh = [self.chance.randint(100, 3000) for _ in range(self.chance.choice((0, 1, 5, 20)))]
        if self.earlier and self.chance.random() < 0.7:
            text = self.chance.choice(self.earlier)
            return (text[: self.chance.choice((len(text), len(text) - 1, len(text) // 2))] + fresh)[:110] or [7]
        return [self.chance.randint(100, 3000) for _ in range(self.chance.randint(1, 70))]


def run_together(engine: Engine, workload: Workload, prompts: list[list[int]]) -> Run:
    """Give the engine these prompts at once and let it finish, one token a step."""
    pipeline, account = engine
    run, inside = Run(), dict[int, tuple[OpenVinoRequest, list[int]]]()
    left = list(prompts)
    while left or inside:
        while left and not account.must_wait(left[0]):
            prompt, answer_tokens = left.pop(0), workload.chance.randint(1, 6)
            workload.number += 1
            request = pipeline.begin(workload.number, prompt, GREEDY, max_tokens=answer_tokens)
            cached_tokens = account.admit(workload.number, prompt)
            run.expected += len(prompt) - cached_tokens + answer_tokens - 1
            inside[workload.number] = (request, list(prompt))
        account.begin_step()
        pipeline.step()
        account.end_step()
        run.computed += 1
        run.differences += abs(pipeline.cache_used - account.used_share) > 1e-4
        for number, (request, text) in list(inside.items()):
            tokens = request.new_tokens()
            account.sampled(number, tokens)
            text.extend(tokens)
            if request.progress() is not Progress.RUNNING:
                account.release(number)
                workload.earlier.append(text)
                del inside[number]
    return run


@pytest.mark.parametrize(("seed", "together", "rounds"), [(1, 1, 18), (2, 3, 8)])
def test_the_account_says_exactly_what_the_engine_reuses(
    one_token_a_step: Engine, seed: int, together: int, rounds: int
) -> None:
    """With one token a step, steps are computed tokens. 24 blocks are soon full, so old ones are overwritten."""
    workload = Workload(seed)
    for _ in range(rounds):
        prompts = [workload.prompt() for _ in range(together)]
        run = run_together(one_token_a_step, workload, prompts)
        assert run.computed == run.expected, [len(prompt) for prompt in prompts]
        assert run.differences == 0


def test_a_prompt_seen_before_is_reused_up_to_its_last_whole_block(one_token_a_step: Engine) -> None:
    _, account = one_token_a_step
    prompt = [11 + index for index in range(75)]
    workload = Workload(3)
    first = run_together(one_token_a_step, workload, [prompt])
    assert account.cached_tokens(prompt) == 64
    again = run_together(one_token_a_step, workload, [prompt])
    assert (first.computed, again.computed) == (first.expected, again.expected)


def test_a_prompt_found_whole_is_still_computed_from_its_last_token() -> None:
    account = PrefixAccount(blocks=8, block_tokens=4, step_tokens=100)
    account.admit(1, [1, 2, 3, 4])
    step(account)
    account.release(1)
    assert account.cached_tokens([1, 2, 3, 4]) == 3


def test_what_differs_in_its_first_token_shares_nothing() -> None:
    account = PrefixAccount(blocks=8, block_tokens=4, step_tokens=100)
    account.admit(1, [1, 2, 3, 4, 5])
    step(account)
    account.release(1)
    assert account.cached_tokens([9, 2, 3, 4, 5]) == 0
    assert account.cached_tokens([1, 2, 3, 4, 9]) == 4


def test_the_block_used_longest_ago_is_overwritten_first() -> None:
    account = PrefixAccount(blocks=3, block_tokens=4, step_tokens=100)
    for number, prompt in enumerate(([1] * 4, [2] * 4, [3] * 4)):
        account.admit(number, prompt)
        step(account)
        account.release(number)
    account.admit(7, [1, 1, 1, 1])
    account.release(7)
    account.admit(8, [4] * 4)
    step(account)
    account.release(8)
    assert [account.cached_tokens([n] * 5) for n in (1, 2, 3, 4)] == [4, 0, 4, 4]


def test_two_prompts_that_continue_one_half_filled_block_must_not_read_it_together() -> None:
    account = PrefixAccount(blocks=8, block_tokens=4, step_tokens=100)
    account.admit(1, [1, 2, 3, 4, 5, 6])
    step(account)
    account.release(1)
    assert account.cached_tokens([1, 2, 3, 4, 5, 6, 7]) == 6
    account.admit(2, [1, 2, 3, 4, 5, 6, 7])
    assert account.must_wait([1, 2, 3, 4, 5, 6, 9])
    assert not account.must_wait([1, 2, 3, 4, 9])
    step(account)
    assert not account.must_wait([1, 2, 3, 4, 5, 6, 9])


def test_a_request_may_be_dropped_only_between_blocks_or_while_it_answers() -> None:
    account = PrefixAccount(blocks=8, block_tokens=4, step_tokens=6)
    account.admit(1, list(range(20)))
    assert account.may_drop(1)
    step(account)
    assert not account.may_drop(1)
    for _ in range(3):
        step(account)
    assert account.may_drop(1)


def test_the_share_in_use_counts_blocks_of_requests_in_progress_only() -> None:
    account = PrefixAccount(blocks=4, block_tokens=4, step_tokens=100)
    account.admit(1, [1, 2, 3, 4, 5])
    step(account)
    assert account.used_share == 0.5
    account.release(1)
    assert account.used_share == 0.0


def test_room_is_counted_without_the_blocks_that_are_reused_by_others() -> None:
    account = PrefixAccount(blocks=4, block_tokens=4, step_tokens=100)
    account.admit(1, [1] * 8)
    step(account)
    assert account.has_room([1] * 8, spare=1)
    assert not account.has_room([2] * 8, spare=0)


def test_when_blocks_run_out_the_youngest_answer_gives_way() -> None:
    account = PrefixAccount(blocks=4, block_tokens=2, step_tokens=100)
    account.admit(1, [1, 1, 1, 1])
    account.admit(2, [2, 2, 2, 2])
    step(account)
    for number in (1, 2):
        account.sampled(number, [5])
    step(account)
    assert account.preemptions == 1
    assert account.used_share <= 1.0


def test_a_cancelled_request_gets_no_further_block() -> None:
    account = PrefixAccount(blocks=4, block_tokens=2, step_tokens=2)
    account.admit(1, [1, 2, 3, 4])
    step(account)
    account.cancelled(1)
    step(account)
    assert account.used_share == 0.25


def step(account: PrefixAccount) -> None:
    account.begin_step()
    account.end_step()
