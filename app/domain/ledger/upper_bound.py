"""The most that an attempt can cost: what a hard budget sets aside before it is dispatched.

Why it holds. A tokenizer that knows every byte makes at most one token of a byte of UTF-8, and JSON needs no fewer
bytes than the text in it; so a body's bytes bound the tokens of its prompt, tools and schemas included. What a chat
template adds by itself is in `TEMPLATE_TOKENS`. Pictures and sounds are not bounded by their bytes (a link is short),
so there the target's context is the bound, as it is for the output of a request without a cap. Every token counts as
the dearest kind it can be (`RateCard.bound`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.facts import RequestFacts
from app.domain.target import Target
from app.domain.usage import Usage

#: What a model's chat template adds to a prompt: its markers, and the system message it has of its own.
TEMPLATE_TOKENS: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of one attempt's usage, and the cap that has to be sent with it, None: it needs none of ours."""

    prompt_tokens_most: int
    #: Of all answers together.
    output_tokens_most: int
    cap_to_send: int | None

    def worst(self, price: RateCard) -> Nanodollars:
        """The highest charge within these limits."""
        return price.bound(prompt_tokens_most=self.prompt_tokens_most, output_tokens_most=self.output_tokens_most)

    def likely(self, price: RateCard, *, facts: RequestFacts, output_tokens: int) -> Nanodollars:
        """The charge of the estimated prompt and of `output_tokens` an answer, and never above the worst."""
        output = min(output_tokens * facts.n, self.output_tokens_most)
        prompt = min(facts.prompt_tokens, self.prompt_tokens_most)
        return min(charge(usage=Usage(prompt=prompt, output=output), price=price), self.worst(price))


def bounds_of(
    facts: RequestFacts,
    *,
    target: Target,
    body_bytes: int,
    prompts_most: int,
    output_tokens_most: int | None,
    output_tokens_default: int,
) -> Bounds | None:
    """The limits of this request at this target; None: it has none, and a hard budget cannot take it.

    `body_bytes`: of all its fields; `prompts_most`: how many prompts it holds, each with `n` answers;
    `output_tokens_most`: what the route allows at the most, sent as a cap where the caller names none;
    `output_tokens_default`: sent as one where nothing else bounds an answer.
    """
    context = target.context_tokens
    prompt: int | None = body_bytes + TEMPLATE_TOKENS * prompts_most
    if facts.has_images or facts.has_audio:
        prompt = None if context is None else context * prompts_most
    elif context is not None:
        prompt = min(body_bytes + TEMPLATE_TOKENS * prompts_most, context * prompts_most)
    cap = facts.output_tokens_most
    to_send = None
    if cap is None:
        cap = to_send = output_tokens_most
    if cap is None and context is None:
        cap = to_send = output_tokens_default
    # A context bounds prompt and output together, so that an answer without a cap ends there.
    each = min(bound for bound in (cap, context) if bound is not None)
    if prompt is None:
        return None
    return Bounds(prompt_tokens_most=prompt, output_tokens_most=each * facts.n * prompts_most, cap_to_send=to_send)
