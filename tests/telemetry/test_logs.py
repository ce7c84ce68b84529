from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.keys import KeyKind, write_key
from app.domain.ledger.receipt import Receipt, waited_flag
from app.domain.metering.measurement import Outcome
from app.domain.routing.plan import Refusal, RefusalReason
from app.telemetry.logs import LONGEST_MESSAGE, EventLog, ReceiptLog, dropped_line, event_line, receipt_line
from app.telemetry.sink import LineSink
from tests.makers import a_receipt, an_attempt
from tests.random_receipts import receipts


@pytest.fixture
def lines() -> list[bytes]:
    return []


@pytest.fixture
def logger(lines: list[bytes]) -> Iterator[logging.Logger]:
    """A logger whose lines land in `lines` once it is closed by `written`."""
    sink = LineSink(lambda part: lines.extend(part.splitlines()), dropped_line=lambda count: b"{}", gather_s=0.001)
    logger = logging.Logger("breakeven.test", logging.DEBUG)
    handler = EventLog(sink)
    logger.addHandler(handler)
    yield logger
    sink.close(timeout_s=30)


def a_record(message: str = "event", *args: object, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("breakeven.test", logging.WARNING, __file__, 1, message, args, None)
    record.fields = fields
    return record


def read(line: bytes) -> dict[str, object]:
    assert b"\n" not in line
    assert b"\r" not in line
    assert len(line.decode().splitlines()) == 1, "no reader takes it for two lines"
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_the_line_of_a_receipt_says_what_became_of_the_request() -> None:
    line = read(receipt_line(a_receipt(caller_label="mine-1")))
    assert line["event"] == "receipt"
    assert line["at"] == "2026-11-23T12:00:00.000Z"
    assert (line["outcome"], line["status"], line["target"], line["hosting"]) == (
        "complete",
        200,
        "home",
        "self_hosted",
    )
    assert (line["prompt_tokens"], line["cached_tokens"], line["output_tokens"]) == (900, 128, 100)
    assert (line["ttft_ms"], line["tpot_ms"], line["duration_ms"]) == (250.0, 20.0, 2310.0)
    assert line["charge_usd"] == "0.0003962"
    assert line["caller_label"] == "mine-1"
    assert "fault" not in line


def test_the_line_of_a_failed_attempt_says_why() -> None:
    attempt = an_attempt(
        outcome=Outcome.BROKEN, fault="cut", fault_message="home cut the stream", flags=("usage_estimated",)
    )
    line = read(receipt_line(a_receipt(attempt, outcome=Outcome.BROKEN)))
    assert (line["fault"], line["fault_message"]) == ("cut", "home cut the stream")
    assert line["flags"] == ["usage_estimated"]


def test_the_line_of_a_refusal_says_why_and_names_no_target() -> None:
    refusal = Refusal(reason=RefusalReason.NO_TARGET, rule="home", message="no target may serve")
    line = read(receipt_line(replace(a_receipt(decision=refusal), attempts=(), outcome=Outcome.REFUSED)))
    assert line["refusal"] == "no target may serve"
    assert "target" not in line


@given(receipts())
def test_every_receipt_is_one_line_of_json(receipt: Receipt) -> None:
    assert read(receipt_line(receipt))["request_id"] == receipt.request_id


@given(st.text(max_size=60))
def test_no_text_of_a_stranger_can_begin_a_line_or_speak_to_a_terminal(text: str) -> None:
    receipt = a_receipt(an_attempt(fault="cut", fault_message=text), caller_label=text)
    for line in (receipt_line(receipt), event_line(a_record("%s", text, field=text, **{"odd name": text}))):
        read(line)
        assert not any(ord(letter) < 32 or 0x80 <= ord(letter) < 0xA0 for letter in line.decode())


@pytest.mark.parametrize("odd", ["a\r\nb", "\x1b[31m", "\x85", "\u2028", "\u2029", "\u202eevil", "\ud800", "\0"])
def test_odd_characters_are_escaped_and_can_be_read_back(odd: str) -> None:
    line = event_line(a_record("%s", odd))
    expected = odd if odd != "\ud800" else "\\ud800"
    assert read(line)["event"] == expected
    assert odd.encode("utf-8", "surrogatepass") not in line


def test_keys_are_blotted_out_of_messages_fields_faults_and_traces() -> None:
    secrets = [
        write_key("abcdefgh", b"s" * 32),
        write_key("abcdefgh", b"s" * 32, kind=KeyKind.OPERATOR),
        "sk-proj-abcdefghijklmnop1234",
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30",
    ]
    for secret in secrets:
        record = a_record("got %s", secret, header=f"Authorization: {secret}")
        try:
            raise ValueError(f"bad key {secret}")
        except ValueError as fault:
            record.exc_info = (type(fault), fault, fault.__traceback__)
        lines = event_line(record) + receipt_line(
            a_receipt(an_attempt(fault="auth", fault_message=f"{secret} is wrong"))
        )
        assert secret.encode() not in lines
        assert secret.split()[-1].encode() not in lines


def test_a_receipt_line_has_no_room_for_a_prompt() -> None:
    """A receipt holds no text of a prompt; whatever its fields say, only these names are ever written."""
    line = read(receipt_line(a_receipt(an_attempt(fault="cut", fault_message="x"), caller_label="x", flags=("f",))))
    assert not {"prompt", "messages", "content", "body", "answer", "text"} & set(line)
    assert all(isinstance(value, str | int | float | bool | list | None) for value in line.values())


def test_an_event_carries_its_fields_and_cannot_be_given_another_name_by_them() -> None:
    line = read(event_line(a_record("shipped", receipts=500, at="forged", level="forged", target=None, ratio=0.5)))
    assert (line["event"], line["receipts"], line["level"], line["logger"]) == (
        "shipped",
        500,
        "warning",
        "breakeven.test",
    )
    assert line["at"] != "forged"
    assert line["target"] is None


def test_an_exception_brings_its_trace_in_the_same_line(logger: logging.Logger, lines: list[bytes]) -> None:
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        logger.exception("it failed")
    _written(logger)
    line = read(lines[0])
    assert line["event"] == "it failed"
    assert "RuntimeError: first\nsecond" in str(line["trace"])


def test_a_long_message_is_cut_and_says_how_long_it_was() -> None:
    said = str(read(event_line(a_record("x" * 100_000)))["event"])
    assert len(said) < LONGEST_MESSAGE + 50
    assert said.endswith("(100000 characters)")


def test_a_message_that_does_not_fit_its_arguments_is_logged_as_it_stands() -> None:
    assert read(event_line(a_record("%d of %d", "one")))["event"] == "%d of %d"


def test_an_object_that_cannot_be_written_breaks_nobody(logger: logging.Logger, lines: list[bytes]) -> None:
    class Mean:
        def __str__(self) -> str:
            raise RuntimeError("never")

    logger.warning("odd", extra={"fields": {"mean": Mean()}})
    _written(logger)
    assert read(lines[0])["fault"] == "RuntimeError"


def test_debug_is_left_out_unless_asked_for(logger: logging.Logger, lines: list[bytes]) -> None:
    logger.debug("quiet")
    logger.info("loud")
    _written(logger)
    assert [read(line)["event"] for line in lines] == ["loud"]


def test_a_settled_receipt_is_queued_as_its_line() -> None:
    written: list[bytes] = []
    sink = LineSink(written.append, dropped_line=lambda count: b"", gather_s=0.001)
    log = ReceiptLog(sink)
    log.dispatched(target="home")
    log.settled(a_receipt())
    assert sink.close(timeout_s=30)
    assert written == [receipt_line(a_receipt()) + b"\n"]


def test_the_line_about_dropped_lines_says_how_many_and_when() -> None:
    line = read(dropped_line(7, at_s=lambda: 1_795_435_200.0))
    assert line == {"at": "2026-11-23T12:00:00.000Z", "level": "warning", "event": "log lines dropped", "lines": 7}


def _written(logger: logging.Logger) -> None:
    (handler,) = logger.handlers
    assert isinstance(handler, EventLog)
    assert handler.sink.close(timeout_s=30)


def test_the_line_of_a_copy_for_a_shadow_says_of_what() -> None:
    assert read(receipt_line(replace(a_receipt(), shadow_of="another")))["shadow_of"] == "another"
    assert "shadow_of" not in read(receipt_line(a_receipt()))


def test_a_line_says_how_long_its_request_waited_for_a_place() -> None:
    flags = (waited_flag(target="home", waited_s=1.25),)
    assert read(receipt_line(a_receipt(flags=flags)))["waited_ms"] == 1250
    assert read(receipt_line(a_receipt(attempts=(), flags=flags)))["waited_ms"] == 1250
    assert "waited_ms" not in read(receipt_line(a_receipt(flags=("f",))))
