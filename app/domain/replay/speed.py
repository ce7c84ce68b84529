"""How fast a target is in a replay: what the simulation takes for the truth, and the gateway has to find out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.domain.engine import STEP_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpeed:
    """An engine with continuous batching. A step with n decoding sequences and k prompt tokens beside them takes
    W + H·n + k/P seconds, and no step computes more than `step_tokens` prompt tokens and sequences together."""

    #: W and H. W is above zero.
    step_s: float
    step_per_sequence_s: float
    #: P, prompt tokens computed in a second.
    prefill_tokens_per_s: float
    #: Sequences that it works on at once.
    sequences_most: int
    #: Tokens, of prompts and answers, that its KV cache holds; None: never the bound.
    kv_tokens: int | None = None
    step_tokens: int = STEP_TOKENS

    def step_with_s(self, sequences: int) -> float:
        """tau(n)."""
        return self.step_s + self.step_per_sequence_s * sequences

    @property
    def full_decode_tokens_per_s(self) -> Decimal:
        """Output tokens in a second with every sequence at work and no prompt beside."""
        return Decimal(repr(self.sequences_most / self.step_with_s(self.sequences_most))).quantize(_HUNDREDTH)

    @property
    def full_prefill_tokens_per_s(self) -> Decimal:
        """P, as a rate of measured rates."""
        return Decimal(repr(self.prefill_tokens_per_s)).quantize(_HUNDREDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A seller's target: as quick as ever, however many ask."""

    ttft_s: float
    tpot_s: float


_HUNDREDTH = Decimal("0.01")
