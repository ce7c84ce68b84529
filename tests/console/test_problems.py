from __future__ import annotations

import logging

import pytest

from app.console.problems import LARGEST_BODY_BYTES
from tests.console.served import OPERATOR_KEY, House, console


async def test_a_bug_is_told_to_the_log_and_not_to_the_asker(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "breakeven.console"):
        async with console(House(fault=RuntimeError("canary-secret in a table"))) as it:
            answer = await it.get("/metrics")
    assert answer.status == 500
    assert answer.json["error"]["code"] == "internal_error"
    assert b"canary" not in answer.body
    assert any(record.exc_info for record in caplog.records if record.name == "breakeven.console")


async def test_a_wrong_method_says_which_one_is_right() -> None:
    async with console() as it:
        answer = await it.ask("PATCH", "/api/policy")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/api/reports/cost", "/api/requests", "/api/keys"])
async def test_while_postgres_is_away_the_answer_says_so_and_what_to_do(path: str) -> None:
    async with console() as it:
        it.house.away()
        answer = await it.get(path)
    assert answer.status == 503
    assert answer.json["error"]["code"] == "books_away"
    assert answer.headers["retry-after"] == "2"
    assert "breakeven db start" in answer.json["error"]["message"]


async def test_a_body_over_the_limit_is_refused_before_it_is_read_to_its_end() -> None:
    head = (
        f"POST /api/keys HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {OPERATOR_KEY}\r\n"
        "transfer-encoding: chunked\r\n\r\n"
    )
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    chunks = chunk * (LARGEST_BODY_BYTES // 0x4000 + 1)
    async with console() as it:
        unending = await it.raw(head.encode() + chunks)
        sized = await it.ask("POST", "/api/keys", data=b" " * (LARGEST_BODY_BYTES + 1))
    assert unending.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in unending
    assert sized.json["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{", b'{"name":"\\ud800"}', b"\xff\xfe", b"[" * 60_000, b"{}{}", b"\xef\xbb\xbf{}"],
)
async def test_a_body_that_is_no_form_is_a_fast_400(body: bytes) -> None:
    async with console() as it:
        answer = await it.ask("POST", "/api/keys", data=body)
    assert answer.status == 400
    assert answer.json["error"]["code"] == "invalid_request"
    assert len(answer.body) < 2000


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/api/reports/cost?group_by=team", "group_by"),
        ("/api/reports/cost?by=user", "by"),
        ("/api/reports/cost?from=soon", "from"),
        ("/api/reports/cost?from=2026-11&to=nope", "to"),
        ("/api/reports/cost?from=1926&to=2026", "from"),
        ("/api/reports/cost?by=request_id", "by"),
        ("/api/reports/cost?format=xml", "format"),
        ("/api/reports/cost?by=" + "x" * 300, "by"),
        ("/api/requests?limit=0", "limit"),
        ("/api/requests?limit=1000000", "limit"),
        ("/api/requests?limit=1;drop", "limit"),
        ("/api/requests?before='%20or%201=1", "before"),
        ("/api/requests?order=charge", "order"),
    ],
)
async def test_a_question_that_cannot_be_answered_names_the_field_at_fault(path: str, param: str) -> None:
    """SEC-2, SEC-32."""
    async with console() as it:
        answer = await it.get(path)
    assert answer.status == 400
    assert answer.json["error"]["param"] == param
    assert answer.json["error"]["message"]
