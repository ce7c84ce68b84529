"""`app.domain.ledger.upper_bound`: nothing that a request may become costs more than was held for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ledger.upper_bound import TEMPLATE_TOKENS, Bounds, bounds_of
from app.domain.pricing.charge import charge
from app.domain.usage import Usage
from tests.makers import CARD, a_target, some_facts


def bounds(*, body_bytes: int = 1_000, most: int | None = None, context: int | None = None, **facts: object) -> Bounds:
    found = bounds_or_none(body_bytes=body_bytes, most=most, context=context, **facts)
    assert found is not None
    return found


def bounds_or_none(
    *, body_bytes: int = 1_000, most: int | None = None, context: int | None = None, prompts: int = 1, **facts: object
) -> Bounds | None:
    return bounds_of(
        some_facts(**facts),
        target=a_target(context_tokens=context),
        body_bytes=body_bytes,
        prompts_most=prompts,
        output_tokens_most=most,
        output_tokens_default=700,
    )


def test_a_callers_cap_bounds_each_of_its_answers() -> None:
    found = bounds(output_tokens_most=50, n=3)
    assert (found.prompt_tokens_most, found.output_tokens_most, found.cap_to_send) == (
        1_000 + TEMPLATE_TOKENS,
        150,
        None,
    )


def test_without_a_cap_the_routes_most_bounds_it_and_has_to_be_sent() -> None:
    found = bounds(most=4_096)
    assert (found.output_tokens_most, found.cap_to_send) == (4_096, 4_096)


def test_without_either_the_context_bounds_it_and_nothing_is_sent() -> None:
    found = bounds(context=8_192)
    assert (found.output_tokens_most, found.cap_to_send) == (8_192, None)


def test_where_nothing_else_bounds_it_the_routes_default_has_to_be_sent() -> None:
    found = bounds()
    assert (found.output_tokens_most, found.cap_to_send) == (700, 700)


def test_a_context_bounds_the_prompt_too() -> None:
    assert bounds(body_bytes=10**6, context=8_192).prompt_tokens_most == 8_192


@pytest.mark.parametrize("facts", [{"has_images": True, "output_tokens_most": 5}, {"has_audio": True, "n": 2}])
def test_what_nothing_bounds_has_no_bounds(facts: dict[str, object]) -> None:
    assert bounds_or_none(**facts) is None


def test_pictures_count_as_a_whole_context() -> None:
    assert bounds(has_images=True, context=8_192, output_tokens_most=5).prompt_tokens_most == 8_192


def test_each_prompt_of_a_completion_has_its_answers() -> None:
    found = bounds_or_none(prompts=4, n=2, output_tokens_most=10)
    assert found is not None
    assert found.output_tokens_most == 80


@given(
    prompt=st.integers(0, 1_512),
    cached=st.integers(0, 1_512),
    output=st.integers(0, 100),
)
def test_no_usage_within_the_bounds_costs_more_than_the_worst(prompt: int, cached: int, output: int) -> None:
    worst = bounds(output_tokens_most=100).worst(CARD)
    usage = Usage(prompt=prompt, cached=min(cached, prompt), output=output)
    assert charge(usage=usage, price=CARD) <= worst


@given(expected=st.integers(0, 10_000))
def test_the_likely_charge_is_never_above_the_worst(expected: int) -> None:
    found = bounds(output_tokens_most=100)
    assert found.likely(CARD, facts=some_facts(prompt_tokens=5_000), output_tokens=expected) <= found.worst(CARD)
