"""Token counts where nobody counted: estimates from sizes, flagged wherever they are used."""

from __future__ import annotations

#: English text in today's vocabularies runs at about four bytes a token; other scripts run shorter.
BYTES_PER_TOKEN = 4


def prompt_tokens(*, body_bytes: int) -> int:
    """About how many tokens a prompt of this many bytes of JSON has. At least 1.

    The JSON around a chat message counts like its text: some 30 bytes are the 3 to 8 tokens that chat templates put
    around it, as OpenAI counts them (3 a message, 3 before the answer, and the role).
    """
    return max(1, body_bytes // BYTES_PER_TOKEN)


def output_tokens(*, content_events: int, content_bytes: int) -> int:
    """About how many tokens were delivered: one an event at least, more where engines bundle tokens into events."""
    return max(content_events, content_bytes // BYTES_PER_TOKEN)
