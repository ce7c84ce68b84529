from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.metering.estimate import output_tokens, prompt_tokens


@given(st.integers(min_value=0, max_value=10**9))
def test_no_prompt_is_free(size: int) -> None:
    assert prompt_tokens(body_bytes=size) >= 1


@pytest.mark.parametrize(
    ("messages", "counted"),
    [
        ([{"role": "user", "content": "Hi"}], 8),
        ([{"role": "user", "content": "What is the capital of France?"}], 14),
        ([{"role": "system", "content": "You are helpful."}, {"role": "user", "content": "Hi"}], 16),
    ],
)
def test_a_short_chat_is_not_booked_below_what_a_seller_counts(messages: list[dict[str, str]], counted: int) -> None:
    """Counted with o200k_base and OpenAI's rule for chats: 3 tokens a message, its role, 3 before the answer."""
    said = json.dumps(messages, separators=(",", ":")).encode()
    assert counted <= prompt_tokens(body_bytes=len(said)) <= counted + 4


def test_bundled_tokens_are_counted_by_size() -> None:
    assert output_tokens(content_events=3, content_bytes=400) == 100
    assert output_tokens(content_events=300, content_bytes=400) == 300
