"""`breakeven simulate` (`app.cli.simulate`, `app.cli.simulate_view`)."""

from __future__ import annotations

import asyncio
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.cli import simulate as the_command
from app.cli.simulate_view import simulated_view
from app.documents.compile import compile_policy
from app.domain.replay.speed import EngineSpeed
from app.flows.simulate import Simulation, simulate
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from tests.archive import FILES
from tests.command_line import HereAtOnce
from tests.flows.test_policy_moves import a_request

CURVE = ("--curve", "home=8,5.2,6000,16")
UNPRICED = FILES["targets.yaml"].replace(
    "home: {measured: {prefill_tokens_per_s: 9000, decode_tokens_per_s: 1500}}", ""
)
SPILLING = """\
models:
  chat:
    rules:
      - name: legal stays home
        when: caller.team == "legal"
        use: [home]
      - name: everybody
        use: [home, api]
        spill: {predicted_ttft_ms: 1000}
"""


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "targets.yaml").write_text(FILES["targets.yaml"])
    (directory / "models.yaml").write_text(SPILLING)
    return directory


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Azure's spelling; 600 requests, about an eighth more than the engine can do."""
    draw, at = random.Random(3), datetime(2026, 11, 23, 12, tzinfo=UTC)
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for _ in range(600):
        at += timedelta(seconds=draw.expovariate(2.4))
        lines.append(f"{at:%Y-%m-%d %H:%M:%S.%f}0,{draw.randint(50, 1500)},{draw.randint(1, 130)}")
    path = tmp_path / "trace.csv"
    path.write_bytes("\r\n".join(lines).encode())
    return path


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shelf: Path
) -> HereAtOnce:
    """Without a database: a trace needs none."""
    here = HereAtOnce(url="postgresql://x@127.0.0.1:9/x", data=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(shelf))
    monkeypatch.setenv("OPENAI_API_KEY", "set")
    return here


def test_people_get_targets_the_total_and_how_it_went_over_time(desk: HereAtOnce, trace: Path) -> None:
    ran = desk("simulate", "--trace", str(trace), "--model", "chat", *CURVE, "--objective-ms", "1000")
    assert ran.status == 0, ran.err
    lines = ran.out.splitlines()
    assert "600 requests in 0:04:" in lines[0]
    assert "  home: a step takes 8 ms and 5.2 ms for each sequence, 6,000 prompt tokens/s, 16 sequences at" in ran.out
    assert "  api: first token after 500 ms, 20 ms for each further one (taken for usual: give its --pace)" in ran.out
    rows = {line.split()[0]: line.split() for line in lines if line.startswith(("api", "home", "total"))}
    requests = {name: int(row[1]) for name, row in rows.items()}
    assert requests["api"] + requests["home"] == requests["total"] == 600
    assert 30 < requests["api"] < 200
    assert f"to managed targets: {requests['api']} (" in ran.out
    assert f"of which spilled by prediction: {requests['api']} (" in ran.out
    assert "machine of home: 0.05847 USD at 0.80 USD an hour, busy or idle" in ran.out
    for column in ("TTFT", "in time", "TPOT", "predicted off", "on average", "charge", "marginal"):
        assert f"  {column}: " in ran.out.replace("; ", "\n  "), column
    begin = lines.index("over time, by arrival")
    parts = lines[begin + 2 :]
    assert len(parts) == 12
    assert sum(int(part.replace("█", "").split()[1]) for part in parts) == 600
    assert any("█" in part for part in parts)
    assert ran.err == ""


def test_programs_get_the_same_in_one_document(desk: HereAtOnce, trace: Path) -> None:
    asked = ("simulate", "--trace", str(trace), "--model", "chat", *CURVE, "--pace", "api=300,10", "--json")
    told = desk(*asked, "--objective-ms", "1000", "--slices", "4").value
    assert (told["requests"], told["speed"], told["refused"], told["left_out"]) == (600, 1.0, 0, 0)
    home, api, total = told["targets"]["home"], told["targets"]["api"], told["total"]
    assert (home["hosting"], api["hosting"]) == ("self_hosted", "managed")
    assert home["requests"] + api["requests"] == total["requests"]
    assert home["share"] + api["share"] == pytest.approx(1)
    assert home["ttft"]["p50_s"] <= home["ttft"]["p90_s"]
    assert api["ttft"]["p99_s"] is None, "fewer than 500 say nothing about a p99"
    assert total["ttft"]["p99_s"] is not None
    assert api["ttft"]["p50_s"] == 0.3
    assert home["within_objective"] > 0.9
    assert home["predicted"]["off_p50_s"] < 0.5
    assert home["charge_nanodollars"] + api["charge_nanodollars"] == total["charge_nanodollars"]
    assert api["marginal_nanodollars"] == api["charge_nanodollars"]
    assert told["managed"]["requests"] == told["spilled"]["requests"] == api["requests"]
    assert told["assumed"]["home"]["sequences"] == 16
    assert told["assumed"]["api"] == {"ttft_ms": 300.0, "tpot_ms": 10.0, "given": True}
    assert sum(part["requests"] for part in told["over_time"]) == 600
    assert told["over_time"][0]["from_s"] == 0.0
    assert desk(*asked, "--objective-ms", "1000", "--slices", "4").value == told
    assert desk(*asked, "--slices", "0").value["over_time"] == []


def test_another_speed_policy_team_or_length_is_another_result(desk: HereAtOnce, trace: Path, tmp_path: Path) -> None:
    asked = ("simulate", "--trace", str(trace), "--model", "chat", *CURVE, "--json")
    slow = desk(*asked, "--speed", "0.5").value
    assert slow["managed"]["share"] < 0.05
    assert slow["lasted_s"] > 400
    legal = desk(*asked, "--team", "legal").value
    assert list(legal["targets"]) == ["home"]
    short = desk(*asked, "--limit", "25").value
    assert short["requests"] == 25
    other = tmp_path / "other"
    other.mkdir()
    (other / "policy.yaml").write_text(FILES["targets.yaml"] + SPILLING.replace("[home, api]", "[api, home]"))
    turned = desk(*asked, "--policy", str(other)).value
    assert turned["targets"]["api"]["requests"] == 600
    assert turned["policy"] != short["policy"]


def test_credentials_that_are_not_set_here_are_told_as_notes(
    desk: HereAtOnce, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("simulate", "--trace", str(trace), "--model", "chat", *CURVE, "--limit", "20")
    assert desk(*asked, "--json").value["notes"] == []
    monkeypatch.delenv("OPENAI_API_KEY")
    ran = desk(*asked)
    assert "credentials are taken for present; OPENAI_API_KEY (api) is not set here" in ran.err
    told = desk(*asked, "--json")
    assert told.value["notes"] == told.err.splitlines() == ran.err.splitlines()


def test_all_mistakes_of_a_trace_are_told_at_once(desk: HereAtOnce, tmp_path: Path) -> None:
    path = tmp_path / "broken.csv"
    path.write_text("timestamp,prompt_tokens,completion_tokens\n0,5,5\n1,x,5\n2,5\n0,5,5\n3,5,5\n")
    ran = desk("simulate", "--trace", str(path), "--model", "chat", *CURVE)
    assert (ran.status, ran.out) == (1, "")
    places = [re.findall(r"broken\.csv:(\d+): ", line) for line in ran.err.splitlines()]
    assert places == [["3"], ["4"], ["5"]]


def test_a_rule_that_waits_is_told_to_be_simulated_without_its_queue(
    desk: HereAtOnce, trace: Path, shelf: Path
) -> None:
    asked = ("simulate", "--trace", str(trace), "--model", "chat", *CURVE, "--limit", "20", "--json")
    assert desk(*asked).value["waits_not_simulated"] == []
    (shelf / "models.yaml").write_text(SPILLING.replace("spill: {predicted_ttft_ms: 1000}", "wait: true"))
    limited = FILES["targets.yaml"].replace("machine:", "limits: {in_flight: 4}\n    machine:", 1)
    (shelf / "targets.yaml").write_text(limited)
    ran = desk(*asked)
    assert ran.status == 0, ran.out + ran.err
    assert ran.value["waits_not_simulated"] == ["chat/everybody"]
    assert "rule chat/everybody has `wait: true`, which is not simulated" in ran.err


def test_refusals_and_what_was_assumed_are_told(desk: HereAtOnce, trace: Path, shelf: Path) -> None:
    (shelf / "targets.yaml").write_text(
        UNPRICED.replace("machine:", "limits: {in_flight: 4}\n    machine:")
        + "budgets: {all: {of: {team: legal}, usd: 5, every: day, mode: hard}}\n"
    )
    trace.write_bytes(trace.read_bytes() + b"\r\n2026-11-24 12:00:00,5,0")
    asked = ("simulate", "--trace", str(trace), "--model", "chat", "--team", "legal", *CURVE)
    ran = desk(*asked, "--slices", "0")
    assert ran.status == 0, ran.err
    assert 'refused under "legal stays home": ' in ran.out
    assert "over time" not in ran.out
    assert "left out, as no output token is known of them: 1 request" in ran.err
    assert "home has no price in the policy: its tokens are priced by its curve" in ran.err
    assert "nobody is refused for want of money" in ran.err
    told = desk(*asked, "--json").value
    assert told["refused"] == told["refusals"]["legal stays home"] > 100
    assert told["priced_by_speed"] == ["home"]


def test_first_tokens_that_come_too_late_failures_and_unused_columns_are_told(desk: HereAtOnce, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    row = (
        '{"timestamp": 0, "prompt_tokens": %d, "completion_tokens": 9, "model": "chat", "team": "legal", "zone": "eu"}'
    )
    path.write_text("\n".join(row % prompt for prompt in (9000, 100, 60_000)))
    ran = desk("simulate", "--trace", str(path), "--curve", "home=10,1,200,4,20000")
    assert ran.status == 0, ran.err
    assert "failed: 1 (33.3 %); the last: home cannot hold 60000 prompt and 9 output tokens in its KV" in ran.out
    assert "2 first tokens came later than timeouts.first_token_s" in ran.err
    assert "columns that are not used: zone" in ran.err


def test_files_that_are_no_policy_are_told_with_their_findings(desk: HereAtOnce, trace: Path, shelf: Path) -> None:
    (shelf / "models.yaml").write_text(SPILLING.replace("api]", "apo]"))
    ran = desk("simulate", "--trace", str(trace), "--model", "chat", *CURVE)
    assert ran.status == 1
    assert "models.yaml:8:" in ran.out
    assert "mend them first" in ran.err
    assert desk("simulate", "--trace", str(trace), "--json").value["not_valid"] == "files"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give either --trace FILE or --last N"),
        (("--trace", "{trace}", "--last", "5"), "give either --trace FILE or --last N"),
        (("--trace", "{trace}"), "trace.csv:2: it names no model: say with --model which one is asked for"),
        (("--trace", "{trace}", "--model", "nope", *CURVE), 'the policy has no model "nope"; it has chat'),
        (("--trace", "{trace}", "--model", "chat"), 'nothing is known of how fast "home" is: give its curve'),
        (("--trace", "{trace}", "--model", "chat", *CURVE, "--curve", "hom=8,1,1,1"), 'names "hom", which is no self-'),
        (("--trace", "{trace}", "--model", "chat", *CURVE, "--pace", "a=1,1"), 'names "a", which is no managed target'),
        (("--trace", "{trace}", "--model", "chat", "--curve", "home=8"), "it has 1 numbers; write TARGET="),
        (("--trace", "{trace}", "--model", "chat", *CURVE, "--pace", "api=x,1"), "'x' is no number"),
        (("--trace", "{trace}", "--model", "chat", *CURVE, "--speed", "0"), "--speed is a factor such as 0.8"),
        (("--trace", "{trace}", "--model", "chat", *CURVE, "--speed", "nan"), "--speed is a factor such as 0.8"),
        (
            ("--trace", "{trace}", "--model", "chat", *CURVE, "--objective-ms", "nan"),
            "--objective-ms is a time such as",
        ),
        (("--trace", "{trace}", "--model", "chat", *CURVE, "--objective-ms", "0"), "--objective-ms is a time such as"),
        (("--trace", "{trace}.gone", "--model", "chat", *CURVE), "trace.csv.gone: No such file or directory"),
        (("--trace", "{folder}", "--model", "chat", *CURVE), "Is a directory"),
        (("--trace", "{binary}", "--model", "chat", *CURVE), "is no UTF-8 text (invalid"),
        (("--trace", "{empty}", "--model", "chat", *CURVE), "empty.csv: the file is empty; understood is"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(
    desk: HereAtOnce, trace: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "binary.csv").write_bytes(b"TIMESTAMP,ContextTokens\xff\xfe\n")
    (tmp_path / "empty.csv").touch()
    named = {
        "trace": trace,
        "folder": tmp_path,
        "binary": tmp_path / "binary.csv",
        "empty": tmp_path / "empty.csv",
    }
    ran = desk("simulate", *(word.format(**named) for word in words))
    assert (ran.status, ran.out) == (1, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_trace_with_a_byte_order_mark_is_read(desk: HereAtOnce, trace: Path) -> None:
    trace.write_bytes(b"\xef\xbb\xbf" + trace.read_bytes())
    assert desk("simulate", "--trace", str(trace), "--model", "chat", *CURVE, "--json").value["requests"] == 600


def test_the_last_requests_of_the_ledger_are_replayed(
    books_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shelf: Path,
) -> None:
    async def booked() -> None:
        async with Database(books_url) as database:
            await PostgresLedgerBook(database).book([encode(a_request(number)) for number in range(1, 6)])

    desk = HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(shelf))
    none = desk("simulate", "--last", "3", *CURVE)
    assert (none.status, none.out) == (1, "")
    assert "the ledger holds no request with an answer" in none.err
    asyncio.run(booked())
    told = desk("simulate", "--last", "3", *CURVE, "--json").value
    assert (told["requests"], list(told["targets"])) == (3, ["home"])


def test_a_long_replay_tells_how_far_it_is(desk: HereAtOnce, trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(the_command, "_PROGRESS_EVERY_S", 0.0)
    ran = desk("simulate", "--trace", str(trace), "--model", "chat", *CURVE, "--json")
    assert ran.err.splitlines() == ["200 of 600 requests", "400 of 600 requests", "600 of 600 requests"]


def test_the_view_of_nothing_divides_by_nothing() -> None:
    policy = compile_policy({"p.yaml": FILES["targets.yaml"] + SPILLING}).policy
    speed = EngineSpeed(step_s=0.01, step_per_sequence_s=0.0, prefill_tokens_per_s=1000, sequences_most=1)
    nothing = simulate(Simulation(policy=policy, arrivals=[], began_us=0, speeds={"home": speed}, paces={}))
    view = simulated_view(nothing, policy=policy, began_us=0, speed=1.0, slices=3)
    assert (view["requests"], view["over_time"], view["targets"]) == (0, [], {})
