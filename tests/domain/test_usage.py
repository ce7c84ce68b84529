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


def test_every_part_is_kept_within_its_whole() -> None:
    said = Usage(
        prompt=10, output=5, cached=8, cache_write=8, cache_write_1h=9, audio_prompt=11, audio_output=6, searches=-1
    )
    assert said.believable() == (
        Usage(prompt=10, output=5, cached=8, cache_write=2, cache_write_1h=2, audio_prompt=10, audio_output=5),
        True,
    )


def test_what_is_within_its_whole_stays_as_it_is() -> None:
    said = Usage(prompt=10, output=5, cached=4, cache_write=6, cache_write_1h=6, audio_prompt=3, tier="flex")
    assert said.believable() == (said, False)
    assert said.computed_prompt == 0
