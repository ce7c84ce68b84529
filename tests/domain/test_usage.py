from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.usage import Usage

COUNTS = st.integers(min_value=-1_000_000, max_value=1_000_000)


@given(prompt=COUNTS, output=COUNTS, cached=COUNTS, reasoning=COUNTS)
def test_a_clamped_usage_is_possible_whatever_was_reported(
    prompt: int, output: int, cached: int, reasoning: int
) -> None:
    said = Usage(prompt=prompt, output=output, cached=cached, reasoning=reasoning)
    usage, suspect = said.believable()
    assert 0 <= usage.cached <= usage.prompt
    assert 0 <= usage.reasoning <= usage.output
    assert usage.computed_prompt >= 0
    assert suspect == (usage != said)


def test_a_sound_usage_is_left_alone() -> None:
    said = Usage(prompt=10, output=5, cached=4, reasoning=5)
    assert said.believable() == (said, False)
