"""How fast an engine with continuous batching is under load, and when a request sent now gets its first token.

One decode step with n sequences takes tau(n) = W + H·n: the weights are read once for all, each sequence adds its part.
The time to the first token of a request sent now, with n requests in flight there and room for c at once:

    overhead + tau(n) + p·k + max(PF·k, max(0, n + 1 - c)·(O/c)·tau(c))        k = 1/P + tau(n)/B

p are the tokens of its own prompt that have to be computed, PF those of the prompts ahead of it, P the prompt tokens
computed in a second, B those that go into one step, O the mean of output tokens. n counts no more than c in tau. k is
prefill, which shares its steps with decoding. What is ahead is prefill or the queue, whichever takes longer: every step
of a full engine brings c tokens, and each request ahead holds its place for O of them; the time per token of a full
engine, as it is learned, has the prefill of those who take the places in it, so the two are not added. The formula is
our own derivation from how such engines schedule; of the number of steps, ceil((PF + p)/B), it takes 1 + (PF + p)/B,
so that what a request's own prompt adds can be told apart.

The numbers are learned from answers and from what engines count: see `CurveFit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Final

from app.domain.capacity.line import MOST, NO_SAMPLES, Line
from app.domain.engine import STEP_TOKENS

#: H/W of an A100 with a model of 70 B (0.65 ms to 8 ms): the shape of a curve that was seen under one load only.
USUAL_SHAPE: Final = 0.65 / 8
#: Answers whose first token was timed, before anything is predicted.
ANSWERS_LEAST: Final = 3
#: The weight of the newest answer in the mean of output tokens.
OUTPUT_WEIGHT: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a request meets that is sent to an engine now, without that request itself."""

    #: Requests in flight there, whoever sent them: running and waiting.
    in_flight: int = 0
    #: Of their prompts, tokens that are not computed yet.
    prefill_tokens: int = 0
    #: How many it works on at once; None: not known, so that none is taken to wait.
    places: int | None = None

    @property
    def beyond(self) -> int:
        """Places that have to become free before a request sent now can begin."""
        return 0 if self.places is None else max(0, self.in_flight + 1 - self.places)


IDLE: Final = Load()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCurve:
    """The numbers of the formula above, for one model on one engine."""

    #: W and H.
    step_s: float
    step_per_sequence_s: float
    #: 1/P.
    prefill_s_per_token: float
    #: What every first token takes besides: the way there and back, and whatever the engine does before.
    overhead_s: float = 0.0
    output_tokens: float = 0.0
    #: B.
    step_tokens: int = STEP_TOKENS

    def step_with_s(self, sequences: float) -> float:
        """tau(n)."""
        return self.step_s + self.step_per_sequence_s * sequences

    def token_s(self, load: Load) -> float:
        """What each prompt token to compute adds."""
        return self.prefill_s_per_token + self._step_s(load) / self.step_tokens

    def queue_s(self, load: Load) -> float:
        """What the requests ahead hold their places for."""
        if load.places is None or not load.beyond:
            return 0.0
        return load.beyond * self.output_tokens / load.places * self.step_with_s(load.places)

    def ttft_s(self, load: Load, *, prompt_tokens: int = 0, cached_tokens: int = 0) -> float:
        """When the first token of a request sent now comes. Without its prompt, what `token_s` adds for it is left."""
        token_s = self.token_s(load)
        ahead_s = max(load.prefill_tokens * token_s, self.queue_s(load))
        own_s = max(0, prompt_tokens - cached_tokens) * token_s
        return self.overhead_s + self._step_s(load) + ahead_s + own_s

    def _step_s(self, load: Load) -> float:
        return self.step_with_s(load.in_flight if load.places is None else min(load.in_flight, load.places))


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveFit:
    """What was seen of an engine so far, and the curve through it. Samples are forgotten bit by bit, as engines are
    restarted, models swapped and machines shared."""

    #: Seconds of a decode step over the sequences in it.
    steps: Line = NO_SAMPLES
    #: Seconds to the first token, less the step's, over the prompt tokens that were to be computed until then.
    prefill: Line = NO_SAMPLES
    output_tokens: float = 0.0
    #: Prompt tokens of one step; not learned, but told by who knows the engine.
    step_tokens: int = STEP_TOKENS

    def saw_step(self, *, sequences: float, step_s: float) -> CurveFit:
        """A decode step took so long with so many sequences."""
        return self._with(steps=self.steps.saw(x=sequences, y=step_s))

    def saw_output(self, *, tokens: float) -> CurveFit:
        """An answer was so long."""
        if not 0 < tokens <= MOST:
            return self
        weight = OUTPUT_WEIGHT if self.output_tokens else 1.0
        mean = self.output_tokens + weight * (tokens - self.output_tokens)
        return self._with(output_tokens=mean)

    def saw_first_token(self, *, load: Load, computed_tokens: int, ttft_s: float) -> CurveFit:
        """A request whose prompt had so many tokens to compute was sent under `load`; its first token came then. One
        that had to queue says nothing of prefill."""
        if load.beyond or not isfinite(ttft_s) or ttft_s < 0:
            return self
        tokens = load.prefill_tokens + max(0, computed_tokens)
        step_s = self._decode.step_with_s(load.in_flight)
        in_prefill_s = max(0.0, ttft_s - step_s * (1 + tokens / self.step_tokens))
        return self._with(prefill=self.prefill.saw(x=tokens, y=in_prefill_s))

    def faded(self, share: float) -> CurveFit:
        """With samples that count only for so much of what they did."""
        return self._with(steps=self.steps.faded(share), prefill=self.prefill.faded(share))

    @property
    def is_sane(self) -> bool:
        """Samples may have made it, see `Line.is_sane`."""
        return self.steps.is_sane and self.prefill.is_sane and 0 <= self.output_tokens <= MOST

    @property
    def answers(self) -> float:
        """How many first tokens it rests on, of which older ones count for less."""
        return self.prefill.weight

    @property
    def curve(self) -> ServiceCurve | None:
        """None: too little was seen to predict anything."""
        if self.prefill.weight < ANSWERS_LEAST - 0.5:
            return None
        per_token_s, overhead_s = self.prefill.slope_and_intercept
        decode = self._decode
        return ServiceCurve(
            step_s=decode.step_s,
            step_per_sequence_s=decode.step_per_sequence_s,
            prefill_s_per_token=per_token_s,
            overhead_s=overhead_s,
            output_tokens=self.output_tokens,
            step_tokens=self.step_tokens,
        )

    def _with(
        self, *, steps: Line | None = None, prefill: Line | None = None, output_tokens: float | None = None
    ) -> CurveFit:
        """Made by hand: every answer makes three, and `replace` costs more than all their arithmetic."""
        return CurveFit(
            steps=self.steps if steps is None else steps,
            prefill=self.prefill if prefill is None else prefill,
            output_tokens=self.output_tokens if output_tokens is None else output_tokens,
            step_tokens=self.step_tokens,
        )

    @property
    def _decode(self) -> ServiceCurve:
        """The curve's decoding alone."""
        per_sequence_s, alone_s = self.steps.slope_and_intercept
        if not self.steps.has_spread and self.steps.weight:
            alone_s = self.steps.y / (1 + USUAL_SHAPE * self.steps.x)
            per_sequence_s = alone_s * USUAL_SHAPE
        return ServiceCurve(step_s=alone_s, step_per_sequence_s=per_sequence_s, prefill_s_per_token=0.0)
