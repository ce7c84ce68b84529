"""Labels in headers: what a caller may say about its request. They steer rules and reports, never identity."""

from __future__ import annotations

import math

from app.api.wire.openai import NO_LABELS, Labels
from app.domain.errors import BadRequest

MOST_TAGS = 16
MOST_LABEL_BYTES = 128
MOST_PRIORITY = 1000

_PREFIX = b"x-breakeven-"
_REQUEST_ID = b"x-request-id"


def read_labels(headers: list[tuple[bytes, bytes]]) -> Labels:
    """The labels among `x-…` headers: x-breakeven-data-class, -deadline-s, -priority, -tags (by commas), -session,
    and the caller's own x-request-id. Raises BadRequest for a value out of bounds; all other headers are ignored."""
    found = {name: value for name, value in headers if name.startswith(_PREFIX) or name == _REQUEST_ID}
    if not found:
        return NO_LABELS
    text = {name.decode("latin-1"): _label(name, value) for name, value in found.items()}
    tags = tuple(tag.strip() for tag in text.get("x-breakeven-tags", "").split(",") if tag.strip())
    if len(tags) > MOST_TAGS:
        raise BadRequest(f"x-breakeven-tags: {len(tags)} tags, at most {MOST_TAGS} are kept", param="x-breakeven-tags")
    priority = _number(text, "x-breakeven-priority") or 0.0
    if abs(priority) > MOST_PRIORITY or priority != int(priority):
        raise BadRequest(
            f"x-breakeven-priority: a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}",
            param="x-breakeven-priority",
        )
    return Labels(
        data_class=text.get("x-breakeven-data-class", ""),
        deadline_s=_number(text, "x-breakeven-deadline-s"),
        priority=int(priority),
        tags=tags,
        caller_label=text.get("x-request-id"),
        session=text.get("x-breakeven-session", ""),
    )


def _label(name: bytes, value: bytes) -> str:
    if len(value) > MOST_LABEL_BYTES or not all(32 <= byte < 127 for byte in value):
        shown = name.decode("latin-1")
        if name == _REQUEST_ID:
            return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in value[:MOST_LABEL_BYTES])
        raise BadRequest(f"{shown}: at most {MOST_LABEL_BYTES} printable ASCII characters", param=shown)
    return value.decode("ascii")


def _number(text: dict[str, str], name: str) -> float | None:
    if name not in text:
        return None
    try:
        number = float(text[name])
    except ValueError as fault:
        raise BadRequest(f"{name}: {text[name]!r} is not a number", param=name) from fault
    if not math.isfinite(number):
        raise BadRequest(f"{name}: must be finite", param=name)
    return number
