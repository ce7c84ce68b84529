"""Bad input gets OpenAI's error body with the right status, at once; nothing is dispatched."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import socket
from typing import Any

from tests.gateway_process import GatewayProcess
from tests.process_facts import ProcessFacts
from tests.upstream import ScriptedUpstream, whole

HELLO = [{"role": "user", "content": "hello"}]
GOOD: dict[str, Any] = {"model": "chat", "messages": HELLO}

#: What is sent, the status, the code, the field named.
BODIES: list[tuple[bytes | dict[str, Any], int, str, str | None]] = [
    (b"", 400, "invalid_json", None),
    (b"{", 400, "invalid_json", None),
    (b"[]", 400, "invalid_type", None),
    (b'{"model":"chat"} trailing', 400, "invalid_json", None),
    (b'{"model":"chat","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_json", None),
    (b'{"model":"\xff"}', 400, "invalid_json", None),
    ({"messages": HELLO}, 400, "missing_required_parameter", "model"),
    ({"model": "chat"}, 400, "missing_required_parameter", "messages"),
    ({**GOOD, "model": 5}, 400, "invalid_value", "model"),
    ({**GOOD, "model": "nope"}, 404, "model_not_found", "model"),
    ({**GOOD, "model": "'; drop table receipt; --"}, 404, "model_not_found", "model"),
    ({**GOOD, "model": "a\r\nb\u0000"}, 404, "model_not_found", "model"),
    ({**GOOD, "messages": "hello"}, 400, "invalid_value", "messages"),
    ({**GOOD, "n": 100_000}, 400, "invalid_value", "n"),
    ({**GOOD, "n": -1}, 400, "invalid_value", "n"),
    ({**GOOD, "max_tokens": 999_999_999}, 400, "invalid_value", "max_tokens"),
    ({**GOOD, "max_tokens": "5"}, 400, "invalid_value", "max_tokens"),
    ({**GOOD, "stream": "yes"}, 400, "invalid_value", "stream"),
]

KEYS = ["", "Bearer ", "Bearer nonsense", "Basic abc", "Bearer ' OR '1'='1", "Bearer " + "x" * 8000]


async def test_a_bad_body_is_refused_by_name_and_reaches_no_target(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    async with gateway.session() as session:
        for body, status, code, param in BODIES:
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            async with session.post("/v1/chat/completions", data=sent) as answer:
                error = (await answer.json(content_type=None))["error"]
                assert (answer.status, error["code"], error["param"]) == (status, code, param), sent[:80]
                assert set(error) == {"message", "type", "param", "code"}
                assert "Traceback" not in error["message"]
                assert answer.headers["x-request-id"]
    assert not upstream.heard


async def test_every_wrong_key_gets_the_same_answer(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    wrong = gateway.key[:-1] + ("0" if gateway.key[-1] != "0" else "1")
    answers = set()
    async with gateway.session() as session:
        for sent in [*KEYS, f"Bearer {wrong}"]:
            async with session.post("/v1/chat/completions", json=GOOD, headers={"authorization": sent}) as answer:
                assert answer.status == 401, sent
                answers.add(await answer.text())
    assert len(answers) == 1
    assert not upstream.heard


async def test_an_expired_key_and_a_key_for_other_models_are_told_apart(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    gateway.stop()
    elsewhere = await gateway.make_key(models=frozenset({"another-model"}))
    await gateway.start()
    async with gateway.session(key=elsewhere) as session:
        async with session.post("/v1/chat/completions", json=GOOD) as answer:
            assert answer.status == 403
            assert (await answer.json())["error"]["code"] == "model_not_allowed"
        async with session.get("/v1/models") as answer:
            assert (await answer.json())["data"] == []
    assert not upstream.heard


async def test_a_body_over_the_limit_is_refused_before_it_is_read(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    gateway.stop()
    gateway.environment = {"BREAKEVEN_BODY_LIMIT_MIB": "1"}
    await gateway.start()
    async with (
        gateway.session() as session,
        session.post("/v1/chat/completions", data=io.BytesIO(b"x" * (2 << 20))) as answer,
    ):
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "body_too_large"
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as raw:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n"
        raw.sendall(head.format(gateway.key, 1 << 30).encode())
        raw.settimeout(10)
        assert raw.recv(4096).startswith(b"HTTP/1.1 413")
    assert not upstream.heard


async def test_an_endless_chunked_body_ends_at_the_limit(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    gateway.stop()
    gateway.environment = {"BREAKEVEN_BODY_LIMIT_MIB": "1"}
    await gateway.start()
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as raw:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        raw.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        raw.settimeout(10)
        sent = 0
        answer = b""
        try:
            while sent < 64 << 20:
                raw.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        try:
            answer = raw.recv(4096)
        except ConnectionResetError:
            answer = b""
        assert sent < 64 << 20
        assert answer == b"" or answer.startswith(b"HTTP/1.1 413")
    assert not upstream.heard


async def test_bodies_that_would_fill_the_memory_do_not(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    """F-45: as large as the limit lets in, as deep, as many, and packed: eight of each at once."""
    upstream.always(whole())
    deep = b'{"model":"chat","messages":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"
    many = b'{"model":"chat","messages":[' + b"{}," * 999_999 + b"{}]}"
    bomb = gzip.compress(b'{"model":"chat","messages":"' + b"a" * (64 << 20) + b'"}')
    cases = {
        "deep": (deep, {}, {400}),
        "many": (many, {}, {200, 400}),
        "bomb": (bomb, {"content-encoding": "gzip"}, {400}),
    }
    async with gateway.session() as session:

        async def send(body: bytes, headers: dict[str, str]) -> int:
            named = {"content-type": "application/json", **headers}
            async with session.post("/v1/chat/completions", data=io.BytesIO(body), headers=named) as answer:
                await answer.read()
                return answer.status

        assert await send(json.dumps(GOOD).encode(), {}) == 200
        process = ProcessFacts(gateway.pid)
        process.forget_peak()
        before = process.resident_bytes
        for name, (body, headers, statuses) in cases.items():
            assert await send(body, headers) in statuses, name
        print(f"one of each: {(process.peak_resident_bytes - before) / 2**20:.0f} MiB more at the most")
        for name, (body, headers, statuses) in cases.items():
            assert set(await asyncio.gather(*[send(body, headers) for _ in range(8)])) <= statuses, name
        assert await send(json.dumps(GOOD).encode(), {}) == 200
    most, left = process.peak_resident_bytes - before, process.resident_bytes - before
    print(f"eight at once: {most / 2**20:.0f} MiB more at the most, {left / 2**20:.0f} left")
    assert most < 64 << 20


async def test_other_routes_and_methods_say_so_in_the_same_shape(gateway: GatewayProcess) -> None:
    async with gateway.session() as session:
        for method, path, status in (
            ("GET", "/v1/chat/completions", 405),
            ("POST", "/v1/nothing", 404),
            ("GET", "/docs", 404),
            ("GET", "/openapi.json", 404),
            ("GET", "/metrics", 404),
            ("GET", "/v1/receipts/nonsense", 404),
            ("GET", "/v1/receipts/019ab000-0000-7000-8000-000000000001", 404),
        ):
            async with session.request(method, path) as answer:
                assert answer.status == status, path
                assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}


async def test_liveness_and_readiness_need_no_key(gateway: GatewayProcess) -> None:
    async with gateway.session(key="") as session:
        for path, status in (("/livez", "alive"), ("/readyz", "ready")):
            async with session.get(path) as answer:
                assert answer.status == 200
                assert (await answer.json())["status"] == status
