"""What vLLM says when it says no: its statuses, types and texts, because whoever routes to it reads them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from app.worker.messages import Refused

_BUSY: Final = (
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
)


class Refusal(Exception):
    """An answer that is an error, before or inside a stream."""

    def __init__(self, message: str, *, status: HTTPStatus, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        return {
            "error": {"message": self.message, "type": self.kind, "param": self.param, "code": int(self.status)},
        }


def malformed(message: str, *, field: str | None = None) -> Refusal:
    """The body is not what the route takes: wrong JSON, a missing field, a wrong type. `field` is a dotted path."""
    param = None if field is None else f"body.{field}"
    return Refusal(message, status=HTTPStatus.BAD_REQUEST, kind="Bad Request", param=param)


def bad_value(message: str, *, field: str | None) -> Refusal:
    """The body is well formed, but this worker cannot do what it asks for."""
    return Refusal(message, status=HTTPStatus.BAD_REQUEST, kind="BadRequestError", param=field)


def unsupported(field: str) -> Refusal:
    return bad_value(f"`{field}` is not supported by this worker: leave it out.", field=field)


def unknown_model(name: str) -> Refusal:
    return Refusal(
        f"The model `{name}` does not exist.", status=HTTPStatus.NOT_FOUND, kind="NotFoundError", param="model"
    )


def unknown_route(path: str) -> Refusal:
    return Refusal(f"There is no {path} here.", status=HTTPStatus.NOT_FOUND, kind="NotFoundError")


def wrong_method(method: str, path: str) -> Refusal:
    status = HTTPStatus.METHOD_NOT_ALLOWED
    return Refusal(f"{path} does not take {method}.", status=status, kind="Method Not Allowed")


def too_large(limit_bytes: int) -> Refusal:
    return Refusal(
        f"The body is larger than {limit_bytes} bytes.",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        kind="Request Entity Too Large",
    )


def busy() -> Refusal:
    return Refusal(_BUSY, status=HTTPStatus.SERVICE_UNAVAILABLE, kind="Service Unavailable")


def not_ready() -> Refusal:
    return Refusal(
        "The engine is starting and answers in a few seconds.",
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        kind="ServiceUnavailableError",
    )


def engine_dead() -> Refusal:
    return Refusal(
        "The engine failed while it worked on this request and is being started again.",
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        kind="InternalServerError",
    )


def given_up() -> Refusal:
    return Refusal(
        "The engine gave this request up: its cache is too small for what is in progress, or it refuses the settings.",
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        kind="InternalServerError",
    )


def max_tokens_over_context(asked: int, *, context_tokens: int) -> Refusal:
    return bad_value(
        f"max_tokens={asked} cannot be greater than max_model_len={context_tokens}. "
        f"Please request fewer output tokens. (parameter=max_tokens, value={asked})",
        field="max_tokens",
    )


def from_engine(refused: Refused, *, context_tokens: int) -> Refusal:
    """What the engine found when it counted the tokens."""
    tokens, most = refused.prompt_tokens, f"This model's maximum context length is {context_tokens} tokens."
    match refused.why:
        case "prompt_too_long":
            count = f"at least {tokens}" if refused.at_least else str(tokens)
            return bad_value(
                f"{most} However, your prompt contains {count} input tokens, which exceeds this limit even without any "
                f"output tokens. (parameter=input_tokens, value={tokens})",
                field="input_tokens",
            )
        case "answer_too_long":
            return bad_value(
                f"{most} However, you requested {refused.max_tokens} output tokens and your prompt contains {tokens} "
                f"input tokens, for a total of {tokens + refused.max_tokens} tokens. Please reduce the length of the "
                f"input prompt or the number of requested output tokens. (parameter=input_tokens, value={tokens})",
                field="input_tokens",
            )
        case "unknown_token":
            return bad_value("The prompt has a token id that the model does not have.", field="prompt")
        case "empty_prompt":
            return bad_value("The prompt has no tokens.", field="prompt")
