"""Usage is read without trust: every spelling, every lie, never a crash."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.usage import Usage
from app.providers.openai_usage import MOST_TOKENS, usage_from


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ('{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}', Usage(prompt=9, output=4)),
        ('{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":null}', Usage(prompt=9, output=4)),
        (
            '{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":8},'  # noqa: ISC004
            '"completion_tokens_details":{"reasoning_tokens":3}}',
            Usage(prompt=9, output=4, cached=8, reasoning=3),
        ),
        (
            '{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":null}}',
            Usage(prompt=9, output=4),
        ),
        ('{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":[8]}', Usage(prompt=9, output=4)),
        ('{"prompt_tokens":9,"completion_tokens":4,"prompt_cache_hit_tokens":5}', Usage(prompt=9, output=4, cached=5)),
        ('{"prompt_tokens":9,"completion_tokens":4,"reasoning_tokens":2}', Usage(prompt=9, output=4, reasoning=2)),
        ('{"prompt_tokens":9.0,"completion_tokens":4}', Usage(prompt=9, output=4)),
        ('{"prompt_tokens":9,"completion_tokens":4,"total_tokens":"many"}', Usage(prompt=9, output=4)),
    ],
)
def test_the_spellings_of_engines_and_services(said: str, usage: Usage) -> None:
    assert usage_from(said.encode()) == usage


@pytest.mark.parametrize(
    "said",
    [
        "null",
        "[]",
        '"7"',
        "{}",
        '{"prompt_tokens":9}',
        '{"prompt_tokens":"9","completion_tokens":"4"}',
        '{"prompt_tokens":null,"completion_tokens":4}',
        '{"prompt_tokens":true,"completion_tokens":4}',
        '{"prompt_tokens":9.5,"completion_tokens":4}',
        '{"prompt_tokens":1e400,"completion_tokens":4}',
        '{"prompt_tokens":123456789012345678901234567890,"completion_tokens":4}',
        '{"prompt_tokens":9,',
        "",
    ],
)
def test_what_cannot_be_read_as_counts_is_no_usage(said: str) -> None:
    assert usage_from(said.encode()) is None


@pytest.mark.parametrize(
    "said",
    [
        '{"prompt_tokens":-9,"completion_tokens":4}',
        '{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":90}}',
    ],
)
def test_an_impossible_count_is_kept_so_that_it_can_be_flagged(said: str) -> None:
    usage = usage_from(said.encode())
    assert usage is not None
    assert usage.believable()[1]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["cached_tokens", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": JSON,
            "completion_tokens": JSON,
            "prompt_tokens_details": JSON,
            "completion_tokens_details": JSON,
        },
    )
)
def test_no_usage_object_crashes_and_no_count_leaves_its_bounds(said: dict[str, object]) -> None:
    usage = usage_from(msgspec.json.encode(said))
    if usage is not None:
        assert all(abs(count) <= MOST_TOKENS for count in (usage.prompt, usage.output, usage.cached, usage.reasoning))


def test_written_audio_and_searched_parts_are_read_where_sellers_put_them() -> None:
    said = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 20, "audio_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 7},
        "cache_creation": {"ephemeral_1h_input_tokens": 4},
        "server_tool_use": {"web_search_requests": 2},
    }
    assert usage_from(msgspec.json.encode(said)) == Usage(
        prompt=100,
        output=50,
        cached=10,
        reasoning=5,
        cache_write=20,
        cache_write_1h=4,
        audio_prompt=30,
        audio_output=7,
        searches=2,
    )


@pytest.mark.parametrize(
    ("said", "tier"),
    [
        (b'"flex"', "flex"),
        (b'"Priority"', "priority"),
        (b'"default"', ""),
        (b'"auto"', ""),
        (b"null", ""),
        (b"7", ""),
        (b'"' + b"x" * 41 + b'"', ""),
    ],
)
def test_the_tier_of_the_answer_is_the_one_that_counts(said: bytes, tier: str) -> None:
    usage = usage_from(b'{"prompt_tokens":1,"completion_tokens":1}', service_tier=msgspec.Raw(said))
    assert usage is not None
    assert usage.tier == tier
