"""One chat request over HTTP, as any application would send it, and the receipt for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Final
from urllib.parse import urlsplit

from app.domain.errors import SetupError

PROMPT: Final = "What is the capital of France? Answer in one short sentence."
MOST_OUTPUT_TOKENS: Final = 48
ANSWER_TIMEOUT_S: Final = 120.0
_LOOK_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: the text, and the headers that tell of the route."""

    request_id: str
    text: str
    headers: Mapping[str, str]


def ask(*, endpoint: str, key: str, model: str, on_text: Callable[[str], None]) -> Answer:
    """Ask `PROMPT` and stream the answer; `on_text` gets each piece as it comes. `endpoint` ends in `/v1`.

    Raises SetupError with the gateway's own words when there is no answer.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": MOST_OUTPUT_TOKENS,
        "temperature": 0,
        "stream": True,
    }
    with _opened(f"{endpoint}/chat/completions", key=key, body=body) as response:
        text = ""
        for piece in _pieces(response):
            text += piece
            on_text(piece)
        headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(request_id=headers["x-request-id"], text=text, headers=headers)


def receipt_of(request_id: str, *, endpoint: str, key: str) -> Mapping[str, Any]:
    """The caller's own receipt. Raises SetupError when the gateway has none."""
    with _opened(f"{endpoint}/receipts/{request_id}", key=key) as response:
        view: Mapping[str, Any] = json.load(response)
    return view


def answers(url: str, *, within_s: float = _LOOK_TIMEOUT_S) -> bool:
    """Whether somebody answers there with 200, within so many seconds."""
    try:
        with _asked(url, timeout_s=within_s) as response:
            return response.status == 200
    except (OSError, HTTPException):
        return False


@contextmanager
def _opened(url: str, *, key: str, body: Mapping[str, object] | None = None) -> Iterator[HTTPResponse]:
    try:
        with _asked(url, timeout_s=ANSWER_TIMEOUT_S, key=key, body=body) as response:
            if response.status != 200:
                raise SetupError(f"the gateway answered {response.status}: {_words(response)}")
            yield response
    except (OSError, HTTPException) as fault:
        raise SetupError(f"the gateway did not answer at {url}: {fault}") from fault


@contextmanager
def _asked(
    url: str, *, timeout_s: float, key: str | None = None, body: Mapping[str, object] | None = None
) -> Iterator[HTTPResponse]:
    """Straight to this machine, whatever proxy the environment names for other places."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(
            "GET" if body is None else "POST",
            parts.path,
            body=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **({} if key is None else {"Authorization": f"Bearer {key}"})},
        )
        yield connection.getresponse()
    finally:
        connection.close()


def _words(refusal: HTTPResponse) -> str:
    body = refusal.read(64 * 1024).decode(errors="replace")
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:400] or "nothing more"


def _pieces(response: HTTPResponse) -> Iterator[str]:
    """The text of each event of a chat stream. Raises SetupError for an error event, or a stream that is cut."""
    while line := response.readline():
        if not line.startswith(b"data:"):
            continue
        payload = line[len(b"data:") :].strip()
        if payload == b"[DONE]":
            return
        event = json.loads(payload)
        if "error" in event:
            raise SetupError(f"the answer broke off: {event['error'].get('message', event['error'])}")
        for choice in event.get("choices", ()):
            yield choice.get("delta", {}).get("content") or ""
    raise SetupError("the answer broke off before its end: see the gateway's log")
