"""Candidate files checked, requests that nobody made decided, past ones explained. Operator only; nothing changes."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from app.console.access import OperatorOnly
from app.console.policy_forms import LARGEST_POLICY_BYTES, CheckForm, DryRunForm
from app.console.problems import body_of
from app.console.rooms import ConsoleRooms
from app.flows.policy_check import check_files, checked_view
from app.flows.policy_dry_run import dry_run, dry_run_view
from app.flows.policy_replay import explain_request, explained_view


def policy_trial_router(rooms: ConsoleRooms, operator: OperatorOnly) -> APIRouter:
    """`/api/policy/check`, `/api/policy/dry-run`, `/api/policy/explain/{request_id}`."""
    router = APIRouter(prefix="/api/policy")

    @router.post("/check", dependencies=[Depends(operator)])
    async def check(request: Request) -> Response:
        form = await body_of(request, CheckForm, most_bytes=LARGEST_POLICY_BYTES)
        return JSONResponse(checked_view(await check_files(rooms.archive, form.files)))

    @router.post("/dry-run", dependencies=[Depends(operator)])
    async def decided(request: Request) -> Response:
        form = await body_of(request, DryRunForm, most_bytes=LARGEST_POLICY_BYTES)
        policy = rooms.policy()
        if form.files is not None:
            policy = (await rooms.archive.compiled(form.files)).policy
        made = dry_run(policy, form.facts(), at=form.at or rooms.now())
        return JSONResponse(dry_run_view(made))

    @router.get("/explain/{request_id}", dependencies=[Depends(operator)])
    async def explain(request_id: str) -> Response:
        return JSONResponse(explained_view(await explain_request(rooms.archive, request_id)))

    return router
