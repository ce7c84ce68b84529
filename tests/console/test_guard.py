from __future__ import annotations

import pytest

from app.console.guard import LOOPBACK_HOSTS
from tests.console.served import console

CAREFUL = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/api/policy", "/nowhere"])
async def test_every_answer_tells_browsers_to_be_careful(path: str) -> None:
    async with console() as it:
        answer = await it.get(path)
    assert {name: answer.headers[name] for name in CAREFUL} == CAREFUL
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8081", "localhost:8081", "LOCALHOST", "[::1]:8081"])
async def test_the_names_of_this_machine_are_answered(host: str) -> None:
    assert {"127.0.0.1", "localhost", "[::1]"} == LOOPBACK_HOSTS
    async with console() as it:
        assert (await it.raw(_asking(host))).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "127.0.0.1@evil", "127.0.0.1/../x", "", "a b"],
)
async def test_a_foreign_name_that_resolves_to_this_machine_reads_nothing(host: str) -> None:
    """BadHost (CVE-2026-48710) and DNS rebinding."""
    async with console() as it:
        answer = await it.raw(_asking(host))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"alive" not in answer


async def test_two_hosts_are_none() -> None:
    async with console() as it:
        answer = await it.raw(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: evil\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")


async def test_an_operator_may_name_other_hosts() -> None:
    async with console(hosts=frozenset({"Console.Example"})) as it:
        assert (await it.raw(_asking("console.example:8081"))).startswith(b"HTTP/1.1 200")
        assert (await it.raw(_asking("127.0.0.1"))).startswith(b"HTTP/1.1 400")


def _asking(host: str) -> bytes:
    return f"GET /livez HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()
