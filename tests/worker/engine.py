"""The engine and its scheduler in this process: prompts in, and all that came of them."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

from app.worker.messages import Ending, Sampling, Step
from app.worker.openvino import OpenVinoPipeline
from app.worker.prefix_account import PrefixAccount
from app.worker.scheduler import Progress, Scheduler

GREEDY = Sampling(temperature=0.0)
ENDLESS = Sampling(temperature=0.0, ignore_eos=True)
#: Requests given to the pipeline past the scheduler have numbers from here on, one each.
_NUMBERS = itertools.count(10**6)


@dataclass(slots=True)
class Outcome:
    text: str = ""
    tokens: int = 0
    ending: Ending | None = None
    stopped_by: str | int | None = None
    cached_tokens: int | None = None
    steps: list[int] = field(default_factory=list)


class Inside:
    """`run` lets the engine finish; `step` does one step. Outcomes are by the number that `submit` gave."""

    def __init__(self, pipeline: OpenVinoPipeline, *, max_num_seqs: int) -> None:
        self.pipeline = pipeline
        self.account, self.ready = pipeline.warm_up(lambda *_: None)
        self.scheduler = Scheduler(
            pipeline,
            self.account,
            max_num_seqs=max_num_seqs,
            block_tokens=self.ready.block_tokens,
            clock=time.monotonic,
        )
        self.outcomes: dict[int, Outcome] = {}
        self.steps = 0

    def encode(self, text: str) -> tuple[int, ...]:
        return self.pipeline.encode(text, add_special_tokens=False)

    def submit(self, prompt: str | tuple[int, ...], sampling: Sampling = GREEDY, *, max_tokens: int = 8) -> int:
        number = len(self.outcomes)
        self.outcomes[number] = Outcome()
        tokens = self.encode(prompt) if isinstance(prompt, str) else prompt
        self.scheduler.submit(number, tokens, sampling, max_tokens=max_tokens)
        return number

    def step(self) -> Step:
        step = self.scheduler.step()
        self.steps += 1
        for started in step.started:
            self.outcomes[started.request_id].cached_tokens = started.cached_tokens
        for delta in step.deltas:
            outcome = self.outcomes[delta.request_id]
            outcome.text += delta.text
            outcome.tokens += delta.tokens
            outcome.ending, outcome.stopped_by = delta.ending, delta.stopped_by
            outcome.steps.append(self.steps)
        return step

    def run(self) -> Step:
        step = self.step()
        while self.scheduler.has_work:
            step = self.step()
        return step

    def answer(self, prompt: str | tuple[int, ...], sampling: Sampling = GREEDY, *, max_tokens: int = 8) -> Outcome:
        number = self.submit(prompt, sampling, max_tokens=max_tokens)
        self.run()
        return self.outcomes[number]


def alone(engine: tuple[OpenVinoPipeline, PrefixAccount], prompt: tuple[int, ...], *, max_tokens: int) -> str:
    """What an engine that does nothing else answers, greedily."""
    pipeline, account = engine
    number, said = next(_NUMBERS), list[int]()
    request = pipeline.begin(number, prompt, ENDLESS, max_tokens=max_tokens)
    account.admit(number, prompt)
    while request.progress() is Progress.RUNNING:
        account.begin_step()
        pipeline.step()
        account.end_step()
        tokens = request.new_tokens()
        account.sampled(number, tokens)
        said.extend(tokens)
    account.release(number)
    return b"".join(pipeline.token_bytes(token, skip_special=True) for token in said).decode()
