"""Virtual keys: make, list, revoke. Operator only, and everything leaves a line in the audit log."""

from __future__ import annotations

import re
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from app.console.access import OperatorOnly, audit
from app.console.forms import KeyForm, RotationForm
from app.console.problems import NotFound, body_of
from app.console.rooms import ConsoleRooms
from app.flows.keys import (
    KeyWish,
    NewKey,
    Revocation,
    create_key,
    key_view,
    list_keys,
    revoke_key,
    rotate_key,
)
from app.flows.teams import read_limits

_KEY_ID: Final = re.compile(r"[a-z2-7]{8}")


def keys_router(rooms: ConsoleRooms, operator: OperatorOnly) -> APIRouter:
    """`/api/keys`, `/api/keys/{key_id}`, `/api/keys/{key_id}/rotation`."""
    router = APIRouter(prefix="/api")

    @router.get("/keys", dependencies=[Depends(operator)])
    async def listed() -> Response:
        records = await list_keys(rooms.keys)
        return JSONResponse({"keys": [key_view(record, now_s=rooms.now_s()) for record in records]})

    @router.post("/keys", dependencies=[Depends(operator)])
    async def created(request: Request) -> Response:
        wish = _wish(await body_of(request, KeyForm))
        new = await create_key(
            rooms.keys,
            wish,
            peppers=rooms.peppers,
            random_bytes=rooms.random_bytes,
            clock=rooms.clock,
            teams=rooms.teams,
        )
        caller = new.record.caller
        audit("key created", key=caller.key_id, team=caller.team, cost_centre=caller.cost_centre)
        return _shown_once(new, rooms)

    @router.post("/keys/{key_id}/rotation", dependencies=[Depends(operator)])
    async def rotated(key_id: str, request: Request) -> Response:
        _check_id(key_id)
        form = await body_of(request, RotationForm)
        new = await rotate_key(
            rooms.keys,
            key_id,
            overlap_s=form.overlap_s,
            peppers=rooms.peppers,
            random_bytes=rooms.random_bytes,
            clock=rooms.clock,
        )
        audit("key rotated", key=key_id, successor=new.record.caller.key_id)
        return _shown_once(new, rooms)

    @router.delete("/keys/{key_id}", dependencies=[Depends(operator)])
    async def revoked(key_id: str) -> Response:
        _check_id(key_id)
        became = await revoke_key(rooms.keys, key_id, clock=rooms.clock)
        if became is Revocation.UNKNOWN:
            raise NotFound("there is no key of that id; `GET /api/keys` lists them")
        audit("key revoked", key=key_id, became=became.value)
        return JSONResponse({"key_id": key_id, "state": "revoked"})

    return router


def _check_id(key_id: str) -> None:
    if _KEY_ID.fullmatch(key_id) is None:
        raise NotFound("a key's id is the 8 characters after `bk_`; `GET /api/keys` lists them")


def _shown_once(new: NewKey, rooms: ConsoleRooms) -> Response:
    answer = {"key": new.text, "shown": "only now", **key_view(new.record, now_s=rooms.now_s())}
    return JSONResponse(answer, status_code=201)


def _wish(form: KeyForm) -> KeyWish:
    return KeyWish(
        name=form.name,
        team=form.team,
        cost_centre=form.cost_centre,
        tags=tuple(form.tags),
        models=None if form.models is None else frozenset(form.models),
        expires_at_s=None if form.expires_at is None else form.expires_at.timestamp(),
        limits=read_limits(requests_per_minute=form.requests_per_minute, tokens_per_minute=form.tokens_per_minute),
    )
