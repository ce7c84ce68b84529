"""What a target can do wrong, by name. `errors` has what becomes of it."""

from __future__ import annotations

from enum import StrEnum


class FaultKind(StrEnum):
    """What a target did. Decides whether another target may serve and what the attempt costs."""

    REFUSED_CONNECTION = "refused_connection"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    CUT = "cut"
    INVALID_ANSWER = "invalid_answer"
    #: It answered well, but otherwise than another had begun to; its answer was no use to this caller.
    NOT_REPRODUCED = "not_reproduced"
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    MONEY_GONE = "money_gone"
    AUTH = "auth"
    CONTEXT_OVERFLOW = "context_overflow"
    CONTENT_REFUSED = "content_refused"
    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    SERVER_ERROR = "server_error"
