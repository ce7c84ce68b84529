"""Everything on the data plane's port that nobody calls a thousand times a second: ordinary FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from app.api.hot import HOT, caller_of
from app.api.problems import UNKNOWN, problem_of
from app.api.wire.openai import error_body
from app.domain.caller import Caller
from app.domain.errors import BreakevenError
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.view import callers_view
from app.flows.gateway import Gateway
from app.live.keys import KnownKeys
from app.ports import BooksAway, Clock, Ids, LedgerBook

#: A receipt this young may still be on its way to Postgres from another process of this gateway.
SHIPPING_TAKES_S = 3.0
LOOK_AGAIN_S = 0.1
_UUID_TIME_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Name → sentence. `refusing`: new work is refused now. `warnings`: it is served, yet somebody should look."""

    refusing: Mapping[str, str]
    warnings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdRooms:
    """What the cold routes read."""

    gateway: Gateway
    keys: KnownKeys
    ledger: LedgerBook
    clock: Clock
    ids: Ids
    readiness: Callable[[], Readiness]
    report_bug: Callable[[str, BaseException], None]


def cold_app(rooms: ColdRooms) -> FastAPI:
    """The FastAPI application behind the hot routes. It has no docs and no schema on this public port."""
    app = FastAPI(title="Breakeven", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(_health(rooms))
    app.include_router(_of_the_caller(rooms))

    @app.exception_handler(BreakevenError)
    async def spelled(request: Request, error: BreakevenError) -> Response:
        problem = problem_of(error)
        headers = {"x-request-id": rooms.ids.request_id(at_us=rooms.clock.unix_us())}
        if problem.status == 401:
            headers["www-authenticate"] = "Bearer"
        return Response(problem.body, status_code=problem.status, headers=headers, media_type="application/json")

    @app.exception_handler(BooksAway)
    async def away(request: Request, error: BooksAway) -> Response:
        return _error(503, "the ledger's database is away; try again soon", code="ledger_away")

    @app.exception_handler(HTTPException)
    async def unknown_route(request: Request, error: HTTPException) -> Response:
        path = request.scope["path"]
        if error.status_code == 405:
            allowed = "POST" if path in HOT else (error.headers or {}).get("allow", "GET")
            return _error(405, f"use {allowed} for this route", code="method_not_allowed", headers={"allow": allowed})
        if path in HOT:
            return _error(405, "use POST for this route", code="method_not_allowed", headers={"allow": "POST"})
        return _error(error.status_code, "there is no such route", code="not_found")

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        rooms.report_bug("-", error)
        return Response(UNKNOWN.body, status_code=UNKNOWN.status, media_type="application/json")

    return app


def _health(rooms: ColdRooms) -> APIRouter:
    router = APIRouter()

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz() -> Response:
        now = rooms.readiness()
        state = "refusing" if now.refusing else "degraded" if now.warnings else "ready"
        because = {**now.refusing, **now.warnings}
        return JSONResponse({"status": state, "because": because}, status_code=503 if now.refusing else 200)

    return router


def _of_the_caller(rooms: ColdRooms) -> APIRouter:
    router = APIRouter(prefix="/v1")

    def caller(request: Request) -> Caller:
        return caller_of(request.scope["headers"], rooms.keys, at_s=rooms.clock.unix_us() / 1e6)

    @router.get("/models")
    async def models(who: Caller = Depends(caller)) -> dict[str, object]:  # noqa: B008
        return {"object": "list", "data": [_model(name) for name in _models_of(who, rooms)]}

    @router.get("/models/{name:path}")
    async def model(name: str, who: Caller = Depends(caller)) -> Response:  # noqa: B008
        if name not in _models_of(who, rooms):
            return _error(404, f"The model `{name[:200]}` does not exist here", code="model_not_found", param="model")
        return JSONResponse(_model(name))

    @router.get("/receipts/{request_id}")
    async def receipt(request_id: str, who: Caller = Depends(caller)) -> Response:  # noqa: B008
        found = await _find(request_id, who, rooms)
        if found is None:
            return _error(404, "this key has no receipt of that id", code="receipt_not_found")
        return JSONResponse(callers_view(found))

    return router


async def _find(request_id: str, who: Caller, rooms: ColdRooms) -> Receipt | None:
    """From memory, else from the books; a young receipt of another process is waited for."""
    made_ms = _made_ms(request_id)
    if made_ms is None:
        return None
    while True:
        found = rooms.gateway.recent.find(request_id, key_id=who.key_id)
        found = found or await rooms.ledger.find(request_id, key_id=who.key_id)
        age_s = rooms.clock.unix_us() / 1e6 - made_ms / 1e3
        if found is not None or not 0 <= age_s < SHIPPING_TAKES_S:
            return found
        await asyncio.sleep(LOOK_AGAIN_S)


def _made_ms(request_id: str) -> int | None:
    """The time inside a canonical UUIDv7, in Unix milliseconds; None for anything else."""
    digits = request_id.replace("-", "")
    if len(request_id) != 36 or len(digits) != 32 or digits.strip("0123456789abcdef") or digits[12] != "7":
        return None
    return int(digits[:_UUID_TIME_DIGITS], 16)


def _models_of(who: Caller, rooms: ColdRooms) -> list[str]:
    return [name for name in sorted(rooms.gateway.policy.current.routes) if who.may_use(name)]


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "breakeven"}


def _error(
    status: int, message: str, *, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    body = error_body(message=message, kind="invalid_request_error", param=param, code=code)
    return Response(body, status_code=status, media_type="application/json", headers=dict(headers or {}))
