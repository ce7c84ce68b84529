"""`app.cli.budget` and `app.cli.verify` over a real database."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from app.cli.budget import app as budgets
from app.cli.verify import app as proof
from app.domain.alert import signature
from app.domain.ledger.invariants import SAID
from app.storage.alert_book import PostgresAlertBook
from app.storage.engine import Database
from tests.cli.test_commands import desk
from tests.command_line import HereAtOnce
from tests.gateway_process import write_policy
from tests.ports.alert_book_suite import an_alert

__all__ = ["budgets", "desk", "proof"]


def test_budgets_are_listed_and_shown_with_what_is_spent(
    desk: HereAtOnce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = write_policy(tmp_path / "policies", targets={"home": "http://127.0.0.1:9/v1"})
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(policies))
    (policies / "budgets.yaml").write_text(
        "budgets:\n  research: {of: {team: research, tag: x}, usd: 12.5, every: month, warn_at: [0.5, 0.8, 1.0]}\n"
        "  all: {usd: 100, every: day}\n"
    )
    first, second = desk("budget", "list", "--json").value
    assert (first["name"], first["of"], first["mode"]) == ("all", "the whole gateway", "hard")
    assert (second["of"], second["usd"], second["left_usd"]) == ("team research, tag x", "12.5", "12.5")
    assert "the whole gateway" in desk("budget", "list").out
    assert "lost" in desk("budget", "list").out.splitlines()[0].split()
    told = dict(line.split(maxsplit=1) for line in desk("budget", "show", "research").out.splitlines())
    assert (told["usd"], told["used_up_at"], told["warn_at_percent"]) == ("12.5", "–", "50, 80, 100")
    unknown = desk("budget", "show", "nobody")
    assert (unknown.status, "all, research" in unknown.err) == (1, True)


def test_sound_books_verify_and_say_so(desk: HereAtOnce) -> None:
    shown = desk("verify")
    assert shown.status == 0
    assert "holds" in shown.out
    told = desk("verify", "--json").value
    assert told["holds"] is True
    assert [each["says"] for each in told["invariants"]] == list(SAID.values())


def test_alerts_are_listed_with_their_fate(desk: HereAtOnce, books_url: str) -> None:
    assert desk("budget", "alerts", "--json").value == []

    async def two_raised_one_failed() -> None:
        async with Database(books_url) as database:
            book = PostgresAlertBook(database)
            await book.fire([an_alert(part_ppm=500_000)])
            await book.fire([an_alert()])
            first, _ = await book.claim(most=2, for_s=60, fresh_s=60)
            await book.failed(first, error="answered 503", again_in_s=None)

    asyncio.run(two_raised_one_failed())
    newest, oldest = desk("budget", "alerts", "--json").value
    assert (newest["threshold_percent"], newest["state"], newest["attempts"]) == ("80", "waiting", 1)
    assert (oldest["state"], oldest["last_error"], oldest["next_at"]) == ("dead", "answered 503", None)
    shown = desk("budget", "alerts", "--last", "1").out
    assert "research" in shown
    assert "81.00 of 100.00" in shown
    assert "answered 503" not in shown
    assert desk("budget", "alerts", "--last", "0").status == 2


@dataclass(slots=True)
class Receiver:
    """A receiver of alerts in a thread, as the command runs a loop of its own."""

    url: str
    status: int = 200
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): said for name, said in self.headers.items()}
            there.heard.append((headers, self.rfile.read(int(headers["content-length"]))))
            self.send_response(there.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    there = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield there
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_test_alert_goes_the_way_of_all_alerts_and_says_what_came_back(
    desk: HereAtOnce, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKEVEN_ALERT_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("BREAKEVEN_ALERT_WEBHOOK_SECRET", "env:HOOK_SECRET")
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    told = desk("budget", "test-alert", "--json").value
    ((headers, body),) = receiver.heard
    assert told == {"id": headers["breakeven-alert"], "state": "delivered"}
    assert json.loads(body)["kind"] == "test"
    made = signature("s3cret", timestamp_s=int(headers["breakeven-timestamp"]), body=body)
    assert headers["breakeven-signature"] == f"v1={made}"
    assert desk("budget", "test-alert").out.startswith("the receiver took the test alert ")
    receiver.status = 401
    refused = desk("budget", "test-alert")
    assert (refused.status, "answered 401" in refused.err, "127.0.0.1" in refused.err) == (1, True, False)


@pytest.mark.parametrize(
    ("url", "secret", "said"),
    [
        (None, None, "no receiver of alerts is set"),
        ("http://127.0.0.1:9/x", None, "set BREAKEVEN_ALERT_WEBHOOK_SECRET"),
        ("http://127.0.0.1:9/x", "env:NO_SUCH_VARIABLE", "its secret is not there"),
        ("http://127.0.0.1:9/x", "the-secret-itself", "BREAKEVEN_ALERT_WEBHOOK_SECRET"),
        ("127.0.0.1/x", "env:A", "BREAKEVEN_ALERT_WEBHOOK_URL"),
        ("http://user:pass@127.0.0.1/x", "env:A", "BREAKEVEN_ALERT_WEBHOOK_URL"),
    ],
)
def test_a_way_that_is_not_set_up_says_what_to_set(
    desk: HereAtOnce, monkeypatch: pytest.MonkeyPatch, url: str | None, secret: str | None, said: str
) -> None:
    for name, value in (("URL", url), ("SECRET", secret)):
        if value is not None:
            monkeypatch.setenv(f"BREAKEVEN_ALERT_WEBHOOK_{name}", value)
    failed = desk("budget", "test-alert")
    assert (failed.status, said in failed.err) == (1, True), failed.err
    assert "the-secret-itself" not in failed.err
    assert "pass@" not in failed.err


def test_a_gateway_whose_alerts_nothing_would_sign_does_not_start(
    desk: HereAtOnce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKEVEN_ALERT_WEBHOOK_URL", "https://alerts.example.org/hook")
    refused = desk("gateway")
    assert (refused.status, "set BREAKEVEN_ALERT_WEBHOOK_SECRET" in refused.err) == (1, True)
    assert "alerts.example.org" not in refused.err
