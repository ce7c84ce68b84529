from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.metering.estimate import output_tokens, prompt_tokens


@given(st.integers(min_value=0, max_value=10**9))
def test_no_prompt_is_free(size: int) -> None:
    assert prompt_tokens(body_bytes=size) >= 1


def test_bundled_tokens_are_counted_by_size() -> None:
    assert output_tokens(content_events=3, content_bytes=400) == 100
    assert output_tokens(content_events=300, content_bytes=400) == 300
