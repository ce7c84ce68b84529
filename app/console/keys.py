"""Virtual keys: make, list, revoke. Operator only, and everything leaves a line in the audit log."""

from __future__ import annotations

import re
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from app.console.access import OperatorOnly, audit
from app.console.forms import KeyForm
from app.console.problems import NotFound, body_of
from app.console.rooms import ConsoleRooms
from app.flows.keys import KeyWish, Revocation, create_key, key_view, list_keys, revoke_key

_KEY_ID: Final = re.compile(r"[a-z2-7]{8}")


def keys_router(rooms: ConsoleRooms, operator: OperatorOnly) -> APIRouter:
    """`/api/keys`, `/api/keys/{key_id}`."""
    router = APIRouter(prefix="/api")

    @router.get("/keys", dependencies=[Depends(operator)])
    async def listed() -> Response:
        records = await list_keys(rooms.keys)
        return JSONResponse({"keys": [key_view(record, now_s=rooms.now_s()) for record in records]})

    @router.post("/keys", dependencies=[Depends(operator)])
    async def created(request: Request) -> Response:
        wish = _wish(await body_of(request, KeyForm))
        new = await create_key(
            rooms.keys, wish, peppers=rooms.peppers, random_bytes=rooms.random_bytes, clock=rooms.clock
        )
        audit("key created", key=new.record.caller.key_id, team=wish.team, cost_centre=wish.cost_centre)
        answer = {"key": new.text, "shown": "only now", **key_view(new.record, now_s=rooms.now_s())}
        return JSONResponse(answer, status_code=201)

    @router.delete("/keys/{key_id}", dependencies=[Depends(operator)])
    async def revoked(key_id: str) -> Response:
        if _KEY_ID.fullmatch(key_id) is None:
            raise NotFound("a key's id is the 8 characters after `bk_`; `GET /api/keys` lists them")
        became = await revoke_key(rooms.keys, key_id, clock=rooms.clock)
        if became is Revocation.UNKNOWN:
            raise NotFound("there is no key of that id; `GET /api/keys` lists them")
        audit("key revoked", key=key_id, became=became.value)
        return JSONResponse({"key_id": key_id, "state": "revoked"})

    return router


def _wish(form: KeyForm) -> KeyWish:
    return KeyWish(
        name=form.name,
        team=form.team,
        cost_centre=form.cost_centre,
        tags=tuple(form.tags),
        models=None if form.models is None else frozenset(form.models),
        expires_at_s=None if form.expires_at is None else form.expires_at.timestamp(),
    )
