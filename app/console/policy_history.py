"""The policy's past, and the way back to it. Operator only; what changes anything leaves a line in the audit log."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from app.console.access import OperatorOnly, audit
from app.console.policy_forms import DiffForm, HistoryForm, ReleaseForm, RollbackForm
from app.console.problems import body_of
from app.console.rooms import ConsoleRooms
from app.domain.findings import finding_view
from app.flows.policy_archive import find_revision
from app.flows.policy_history import (
    findings_today,
    pin_view,
    policy_past,
    release_pin,
    revision_view,
    roll_back,
)
from app.flows.policy_moves import diff_view, policy_diff

#: Who pins from here: whoever holds the operator's key, which knows no names.
OPERATOR: Final = "operator"


def policy_history_router(rooms: ConsoleRooms, operator: OperatorOnly) -> APIRouter:
    """`/api/policy/history`, `/api/policy/history/{digest}`, `/api/policy/diff`, `…/rollback`, `…/release`."""
    router = APIRouter(prefix="/api/policy")

    @router.get("/history", dependencies=[Depends(operator)])
    async def history(form: Annotated[HistoryForm, Query()]) -> Response:
        past = await policy_past(rooms.archive, most=form.limit)
        revisions = [revision_view(one, pin=past.pin) for one in past.revisions]
        return JSONResponse({"in_force": rooms.policy().digest, "pin": pin_view(past.pin), "revisions": revisions})

    @router.get("/history/{digest}", dependencies=[Depends(operator)])
    async def revision(digest: str) -> Response:
        found = await find_revision(rooms.archive, digest)
        pin = await rooms.archive.history.pinned()
        today = [finding_view(each) for each in await findings_today(rooms.archive, found)]
        return JSONResponse({**revision_view(found, pin=pin, with_files=True), "findings_today": today})

    @router.post("/diff", dependencies=[Depends(operator)])
    async def diff(request: Request) -> Response:
        form = await body_of(request, DiffForm)
        return JSONResponse(diff_view(await policy_diff(rooms.archive, form.old, form.new, last=form.last)))

    @router.post("/rollback", dependencies=[Depends(operator)])
    async def rollback(request: Request) -> Response:
        form = await body_of(request, RollbackForm)
        done = await roll_back(rooms.archive, form.digest, by=OPERATOR)
        before = None if done.before is None else done.before.digest
        audit("policy pinned", digest=done.pin.digest, instead_of=before)
        return JSONResponse({"pin": pin_view(done.pin), "findings": [finding_view(each) for each in done.warnings]})

    @router.post("/release", dependencies=[Depends(operator)])
    async def release(request: Request) -> Response:
        await body_of(request, ReleaseForm)
        released = await release_pin(rooms.archive)
        if released is not None:
            audit("policy released", digest=released.digest, pinned_by=released.by)
        return JSONResponse({"released": pin_view(released)})

    return router
