from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.usage import (
    USAGE_NEGATIVE,
    USAGE_OVER_CAP,
    USAGE_OVER_CONTEXT,
    USAGE_PART_OVER_WHOLE,
    USAGE_SUSPECT,
    Usage,
    UsageLimits,
)

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
    assert bool(suspect) == (usage != said)


def test_a_sound_usage_is_left_alone() -> None:
    said = Usage(prompt=10, output=5, cached=4, reasoning=5)
    assert said.believable() == (said, ())


def test_every_part_is_kept_within_its_whole() -> None:
    said = Usage(
        prompt=10, output=5, cached=8, cache_write=8, cache_write_1h=9, audio_prompt=11, audio_output=6, searches=-1
    )
    assert said.believable() == (
        Usage(prompt=10, output=5, cached=8, cache_write=2, cache_write_1h=2, audio_prompt=10, audio_output=5),
        (USAGE_SUSPECT, USAGE_NEGATIVE, USAGE_PART_OVER_WHOLE),
    )


def test_what_is_within_its_whole_stays_as_it_is() -> None:
    said = Usage(prompt=10, output=5, cached=4, cache_write=6, cache_write_1h=6, audio_prompt=3, tier="flex")
    assert said.believable() == (said, ())
    assert said.computed_prompt == 0


def test_flags_say_what_was_wrong_and_nothing_else() -> None:
    limits = UsageLimits(prompt_most=100, output_most=10)
    assert Usage(prompt=100, output=10).believable(limits) == (Usage(prompt=100, output=10), ())
    assert Usage(prompt=101, output=10, cached=101).believable(limits) == (
        Usage(prompt=100, output=10, cached=100),
        (USAGE_SUSPECT, USAGE_OVER_CONTEXT),
    )
    assert Usage(prompt=100, output=11, reasoning=11).believable(limits) == (
        Usage(prompt=100, output=10, reasoning=10),
        (USAGE_SUSPECT, USAGE_OVER_CAP),
    )
    assert Usage(prompt=-1, output=1).believable(limits) == (Usage(prompt=0, output=1), (USAGE_SUSPECT, USAGE_NEGATIVE))
    assert Usage(prompt=5, output=1, cached=6).believable()[1] == (USAGE_SUSPECT, USAGE_PART_OVER_WHOLE)


def test_a_seller_that_searches_may_read_the_context_once_more_for_each_search() -> None:
    limits = UsageLimits(prompt_most=100)
    assert Usage(prompt=300, output=10**6, searches=2).believable(limits)[1] == ()
    assert Usage(prompt=301, output=1, searches=2).believable(limits) == (
        Usage(prompt=300, output=1, searches=2),
        (USAGE_SUSPECT, USAGE_OVER_CONTEXT),
    )
