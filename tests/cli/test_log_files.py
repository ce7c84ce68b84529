"""Log files of children: what is trouble, and an end to growth."""

from __future__ import annotations

import json
from pathlib import Path

from app.cli import log_files
from app.cli.log_files import MOST_LINE_CHARS, MOST_TROUBLE_LINES, LogTail, trimmed


def test_only_what_came_after_the_tail_was_made_is_trouble(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ERROR of yesterday\n")
    tail = LogTail(log)
    assert tail.trouble() == []
    with log.open("a") as more:
        more.write("ERROR of today\n")
    assert tail.trouble() == ["ERROR of today"]
    assert tail.trouble() == []


def test_a_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tail = LogTail(log)
    log.write_bytes(b"ERROR half a ")
    assert tail.trouble() == []
    with log.open("ab") as more:
        more.write(b"line\n")
    assert tail.trouble() == ["ERROR half a line"]


def test_json_lines_are_judged_by_their_level_and_told_by_their_event(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tail = LogTail(log)
    log.write_text(
        '{"level":"info","event":"receipt","fault":"ERROR"}\n'
        '{"level":"warning","event":"Postgres is away"}\n'
        '{"level":"error","event":"policy refused","findings":"models.yaml:3:1: error: it is empty"}\n'
        '{"level":"error"\n'
        "[1, 2]\n"
        "plain words\n"
    )
    assert tail.trouble() == ["Postgres is away", "policy refused: models.yaml:3:1: error: it is empty"]


def test_of_many_findings_the_first_is_told_and_the_rest_counted_on_one_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tail = LogTail(log)
    found = "\n".join(f"models.yaml:{line}:1: error: {'x' * 500}" for line in (3, 4, 5))
    log.write_text(json.dumps({"level": "error", "event": "policy refused", "findings": found}) + "\n")
    (told,) = tail.trouble()
    assert told.startswith("policy refused: models.yaml:3:1: error: x")
    assert told.endswith("(and 2 more: `breakeven policy check`)")
    assert len(told) == MOST_LINE_CHARS


def test_another_policy_in_force_is_told_though_it_is_no_trouble_and_by_one_process_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    gateway, console = LogTail(log), LogTail(log, policy=False)
    of_policy = {"level": "info", "logger": "breakeven.policy", "event": "policy in force", "by": "the files"}
    lines = [{**of_policy, "before": None, "digest": "1"}, {**of_policy, "before": "1", "digest": "2"}]
    refused = {"level": "error", "logger": "breakeven.policy", "event": "policy refused"}
    log.write_text("".join(json.dumps(line) + "\n" for line in (*lines, refused)))
    assert gateway.trouble() == ["policy 2 in force, by the files", "policy refused"]
    assert console.trouble() == []


def test_many_lines_of_trouble_are_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tail = LogTail(log)
    log.write_text("ERROR again\n" * (MOST_TROUBLE_LINES + 7))
    assert tail.trouble()[-1] == f"… and 7 more lines in {log}"


def test_the_last_lines_are_those_of_this_run_in_plain_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of an earlier run\n")
    tail = LogTail(log)
    assert tail.last(2) == []
    with log.open("ab") as more:
        more.write(b'one\n\n{"level":"info","event":"two"}\n\xff\xfe three\n')
    assert tail.last(2) == ["two", "\ufffd\ufffd three"]
    assert tail.last(9) == ["one", "two", "\ufffd\ufffd three"]
    assert LogTail(tmp_path / "missing").last(2) == []


def test_a_log_that_grew_too_long_is_set_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * (log_files.MOST_LOG_BYTES + 1))
        tail = LogTail(log)
        trimmed(log)
        assert log.stat().st_size == 0
        assert (tmp_path / "log.1").stat().st_size == log_files.MOST_LOG_BYTES + 1
        writer.write(b"ERROR after the cut\n")
        assert log.read_bytes() == b"ERROR after the cut\n"
    assert tail.trouble() == ["ERROR after the cut"]


def test_a_short_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("short\n")
    trimmed(log)
    trimmed(tmp_path / "missing")
    assert log.read_text() == "short\n"
