"""Token counts where nobody counted: estimates from sizes, flagged wherever they are used."""

from __future__ import annotations

#: English text in today's vocabularies runs at about four bytes a token; other scripts run shorter.
BYTES_PER_TOKEN = 4
#: JSON around one chat message: role, quotes, braces.
ENVELOPE_BYTES = 40


def prompt_tokens(*, body_bytes: int) -> int:
    """About how many tokens a prompt of this many bytes of JSON has. At least 1."""
    return max(1, (body_bytes - ENVELOPE_BYTES) // BYTES_PER_TOKEN)


def output_tokens(*, content_events: int, content_bytes: int) -> int:
    """About how many tokens were delivered: one an event at least, more where engines bundle tokens into events."""
    return max(content_events, content_bytes // BYTES_PER_TOKEN)
