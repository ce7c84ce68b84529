"""One request as any application sends it, against a server that answers from a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.cli.first_request import PROMPT, answers, ask, receipt_of
from app.domain.errors import SetupError


@dataclass
class Script:
    """What the server answers, and what it was asked."""

    status: int = 200
    body: bytes = b""
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            script.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(script.status)
            self.send_header("x-request-id", "the-id")
            self.send_header("content-length", str(len(script.body)))
            self.end_headers()
            self.wfile.write(script.body)

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield script
    server.shutdown()
    server.server_close()
    thread.join()


def events(*payloads: object, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(payload).encode() + b"\n\n" for payload in payloads) + end


def delta(text: str | None) -> dict[str, object]:
    return {"choices": [{"delta": {} if text is None else {"content": text}}]}


def test_the_answer_comes_in_pieces_and_carries_the_request_id(script: Script) -> None:
    script.body = events(delta(None), delta("Par"), delta("is"), {"choices": []})
    pieces: list[str] = []
    answer = ask(endpoint=script.url, key="bk_x", model="chat", on_text=pieces.append)
    assert (answer.text, answer.request_id) == ("Paris", "the-id")
    assert "".join(pieces) == "Paris"
    method, path, headers, body = script.asked[0]
    assert (method, path, headers["authorization"]) == ("POST", "/v1/chat/completions", "Bearer bk_x")
    assert json.loads(body)["messages"] == [{"role": "user", "content": PROMPT}]


def test_a_refusal_is_told_in_the_gateways_words(script: Script) -> None:
    script.status, script.body = 503, json.dumps({"error": {"message": "no target may serve"}}).encode()
    with pytest.raises(SetupError, match="the gateway answered 503: no target may serve"):
        ask(endpoint=script.url, key="bk_x", model="chat", on_text=lambda text: None)


def test_a_stream_without_its_end_is_no_answer(script: Script) -> None:
    script.body = events(delta("Par"), end=b"")
    with pytest.raises(SetupError, match="broke off"):
        ask(endpoint=script.url, key="bk_x", model="chat", on_text=lambda text: None)


def test_an_error_event_is_no_answer(script: Script) -> None:
    script.body = events(delta("Par"), {"error": {"message": "the target broke"}})
    with pytest.raises(SetupError, match="the target broke"):
        ask(endpoint=script.url, key="bk_x", model="chat", on_text=lambda text: None)


def test_the_receipt_is_fetched_with_the_same_key(script: Script) -> None:
    script.body = b'{"id": "the-id"}'
    assert receipt_of("the-id", endpoint=script.url, key="bk_x") == {"id": "the-id"}
    method, path, headers, _ = script.asked[0]
    assert (method, path, headers["authorization"]) == ("GET", "/v1/receipts/the-id", "Bearer bk_x")


def test_a_proxy_of_the_environment_is_not_asked(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert answers(f"{script.url}/livez")


def test_nobody_there_is_no_answer_and_a_sentence(script: Script) -> None:
    script.status = 503
    assert not answers(f"{script.url}/readyz")
    assert not answers("http://127.0.0.1:9/livez")
    with pytest.raises(SetupError, match=r"the gateway did not answer at http://127\.0\.0\.1:9/v1/receipts/x"):
        receipt_of("x", endpoint="http://127.0.0.1:9/v1", key="bk_x")
