"""`breakeven calibrate` (`app.cli.calibrate`): a target is measured over HTTP and the result is in the books."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.cli.calibrate import rates_view, told
from app.domain.pricing.self_host import MeasuredRates
from tests.command_line import ROOT, HereAtOnce

COMPLETION = {
    "id": "x",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": "so", "finish_reason": "length"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
}


class Engine(BaseHTTPRequestHandler):
    """Answers `/version` and `/v1/completions` as an engine would."""

    def do_GET(self) -> None:
        self.say({"version": "9.9"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.say(COMPLETION)

    def say(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def engine() -> Iterator[int]:
    """The port of a running engine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def desk(
    books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HereAtOnce:
    return HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)


def write_policy(directory: Path, port: int) -> None:
    directory.mkdir()
    for name in ("targets", "models", "rates"):
        text = (ROOT / f"policies/{name}.yaml").read_text()
        (directory / f"{name}.yaml").write_text(text.replace("127.0.0.1:8001", f"127.0.0.1:{port}"))


def test_every_self_hosted_target_is_measured_and_the_engine_is_named(
    desk: HereAtOnce, engine: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(tmp_path / "policies", engine)
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(tmp_path / "policies"))
    ran = desk("calibrate", "--json")
    assert ran.status == 0, ran.err
    assert "measuring decode" in ran.err
    (rates,) = ran.value
    assert (rates["target"], rates["engine_version"]) == ("cpu-worker", "openvino 9.9")
    assert Decimal(rates["prefill_tokens_per_s"]) > 0

    hosted = desk("calibrate", "openai")
    assert (hosted.status, hosted.out) == (1, "")
    assert '"openai" is not a self-hosted target of the policy; those are: cpu-worker' in hosted.err


def test_a_target_that_does_not_answer_is_a_sentence(
    desk: HereAtOnce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(tmp_path / "policies", 9)
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(tmp_path / "policies"))
    ran = desk("calibrate", "cpu-worker")
    assert ran.status == 1
    assert "cpu-worker cannot be measured" in ran.err
    assert "Traceback" not in ran.err


def test_a_measurement_is_told_with_what_was_measured() -> None:
    rates = MeasuredRates(
        target="home",
        prefill_tokens_per_s=Decimal("900.5"),
        decode_tokens_per_s=Decimal(300),
        model="m",
        engine_version="vllm 0.32",
        concurrency=8,
    )
    assert told(rates) == ("home: prefill 900.5 tokens/s, decode 300 tokens/s, 8 requests at once, m on vllm 0.32")
    assert rates_view(rates)["decode_tokens_per_s"] == "300"
