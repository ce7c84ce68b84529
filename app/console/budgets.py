"""Budgets as they stand, and the alerts of them. Operator only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from app.console.access import OperatorOnly
from app.console.forms import AlertsForm
from app.console.rooms import ConsoleRooms
from app.flows.alerts import kept_view
from app.flows.budget_standings import budget_standings, standing_view


def budgets_router(rooms: ConsoleRooms, operator: OperatorOnly) -> APIRouter:
    """`/api/budgets`, `/api/budgets/alerts`."""
    router = APIRouter(prefix="/api")

    @router.get("/budgets", dependencies=[Depends(operator)])
    async def listed() -> Response:
        standings = await budget_standings(rooms.policy(), rooms.budgets, rooms.spend, at_s=rooms.now_s())
        return JSONResponse({"budgets": [standing_view(each) for each in standings]})

    @router.get("/budgets/alerts", dependencies=[Depends(operator)])
    async def alerts(form: Annotated[AlertsForm, Query()]) -> Response:
        return JSONResponse({"alerts": [kept_view(kept) for kept in await rooms.alerts.latest(most=form.limit)]})

    return router
