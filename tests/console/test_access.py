"""Who may do what on the console (SEC-1, SEC-7, SEC-35, SEC-36)."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fastapi.routing import APIRoute, APIRouter
from starlette.routing import BaseRoute

from app.console.access import AUDIT_LOG, OperatorOnly, OperatorPage
from app.console.app import console_app
from app.domain.keys import KeyKind, write_key
from tests.console.served import CALLERS_KEY, OPERATOR_KEY, House, console

#: Every route there is, and its role. A route that is not here does not exist.
ROUTES = {
    ("GET", "/livez"): None,
    ("GET", "/readyz"): None,
    ("GET", "/metrics"): None,
    ("GET", "/"): OperatorPage,
    ("GET", "/api/reports/cost"): OperatorOnly,
    ("GET", "/api/requests"): OperatorOnly,
    ("GET", "/api/requests/{request_id}"): OperatorOnly,
    ("GET", "/api/budgets"): OperatorOnly,
    ("GET", "/api/budgets/alerts"): OperatorOnly,
    ("GET", "/api/keys"): OperatorOnly,
    ("POST", "/api/keys"): OperatorOnly,
    ("DELETE", "/api/keys/{key_id}"): OperatorOnly,
    ("POST", "/api/keys/{key_id}/rotation"): OperatorOnly,
    ("GET", "/api/teams"): OperatorOnly,
    ("POST", "/api/teams"): OperatorOnly,
    ("GET", "/api/policy"): OperatorOnly,
    ("GET", "/api/policy/history"): OperatorOnly,
    ("GET", "/api/policy/history/{digest}"): OperatorOnly,
    ("POST", "/api/policy/check"): OperatorOnly,
    ("POST", "/api/policy/dry-run"): OperatorOnly,
    ("GET", "/api/policy/explain/{request_id}"): OperatorOnly,
    ("POST", "/api/policy/diff"): OperatorOnly,
    ("POST", "/api/policy/rollback"): OperatorOnly,
    ("POST", "/api/policy/release"): OperatorOnly,
    ("GET", "/api/openapi.json"): OperatorOnly,
}
API = [(method, path) for (method, path), role in ROUTES.items() if role is OperatorOnly]
WRONG = [
    "",
    "' OR '1'='1",
    ";--",
    "%00",
    "x" * 7000,
    OPERATOR_KEY[:-1] + ("a" if OPERATOR_KEY[-1] != "a" else "b"),
    write_key("operator", b"x" * 32, kind=KeyKind.OPERATOR),
    write_key("unknown2", b"o" * 32, kind=KeyKind.OPERATOR),
]


def test_every_route_names_its_role_as_a_dependency() -> None:
    found: dict[tuple[str, str], type | None] = {}
    for route in _routes(console_app(House().rooms()).routes):
        roles = [type(each.call) for each in route.dependant.dependencies]
        assert len(roles) <= 1, f"{route.path} names {roles}"
        for method in route.methods or ():
            found[(method, route.path)] = roles[0] if roles else None
    assert found == ROUTES


def test_every_route_stands_in_the_rooms_page() -> None:
    page = (Path(__file__).parents[2] / "app/console/README.md").read_text()
    for method, path in ROUTES:
        assert f"`{method} {path}`" in page, f"{method} {path} is not documented"


async def test_without_a_key_nothing_is_told_and_nothing_is_done() -> None:
    async with console() as it:
        for method, path in API:
            answer = await it.ask(method, path, key=None, data=b"{not json")
            assert answer.status == 401, f"{method} {path}"
            assert answer.json["error"]["code"] == "invalid_operator_key"
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_callers_key_opens_no_route_by_any_method() -> None:
    async with console() as it:
        for path in {path for _, path in API}:
            for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                answer = await it.ask(verb, path, key=CALLERS_KEY)
                assert answer.status == (403 if (verb, path) in ROUTES else 405), f"{verb} {path}"


async def test_every_wrong_operator_key_gets_one_and_the_same_answer() -> None:
    async with console() as it:
        answers = [await it.get("/api/policy", key=key) for key in WRONG]
    assert {(answer.status, answer.body) for answer in answers} == {(401, answers[0].body)}


async def test_two_authorization_headers_are_none() -> None:
    async with console() as it:
        header = f"authorization: Bearer {OPERATOR_KEY}\r\n"
        head = "GET /api/policy HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        once = await it.raw(f"{head}{header}\r\n".encode())
        twice = await it.raw(f"{head}{header}{header}\r\n".encode())
        odd = await it.raw(head.encode() + b"authorization: Bearer \xff\xfe\r\n\r\n")
    assert once.startswith(b"HTTP/1.1 200")
    assert twice.startswith(b"HTTP/1.1 401")
    assert odd.startswith(b"HTTP/1.1 401")


async def test_basic_opens_the_page_alone_so_that_no_other_site_can_make_a_browser_act() -> None:
    basic = {"authorization": "Basic " + base64.b64encode(f"me:{OPERATOR_KEY}".encode()).decode()}
    async with console() as it:
        assert (await it.get("/", key=None, headers=basic)).status == 200
        for method, path in API:
            assert (await it.ask(method, path, key=None, headers=basic)).status == 401


async def test_a_browser_without_the_key_is_asked_for_it() -> None:
    odd = "Basic " + base64.b64encode(b"\xff\xfe:x").decode()
    async with console() as it:
        for credential in ("", "Basic", "Basic !!!", odd, f"Bearer {OPERATOR_KEY}"):
            answer = await it.get("/", key=None, headers={"authorization": credential} if credential else {})
            assert answer.status == 401, credential
            assert answer.headers["www-authenticate"].startswith("Basic realm=")


async def test_whoever_is_refused_leaves_a_line_in_the_audit_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, AUDIT_LOG):
        async with console() as it:
            await it.ask("DELETE", "/api/keys/abcdefgh", key=CALLERS_KEY)
    (record,) = [each for each in caplog.records if each.name == AUDIT_LOG]
    fields = record.__dict__["fields"]
    assert (fields["action"], fields["method"], fields["path"]) == ("refused", "DELETE", "/api/keys/abcdefgh")
    assert CALLERS_KEY not in str(record.__dict__)


async def test_there_are_no_hidden_pages() -> None:
    async with console() as it:
        for path in ("/docs", "/redoc", "/openapi.json", "/debug", "/api", "/api/", "/api/keys/", "//api/keys"):
            answer = await it.get(path)
            assert answer.status == 404, path
            assert answer.json["error"]["code"] == "not_found"


def _routes(within: Sequence[BaseRoute]) -> Iterator[APIRoute]:
    """All routes, those of included routers too, however this FastAPI keeps them."""
    for route in within:
        if isinstance(route, APIRoute):
            yield route
        else:
            router = getattr(route, "original_router", None)
            assert isinstance(router, APIRouter), f"{route} is mounted and has no role"
            yield from _routes(router.routes)
