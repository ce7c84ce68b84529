"""Teams: make and list. Operator only, and what changes leaves a line in the audit log."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from app.console.access import OperatorOnly, audit
from app.console.forms import TeamForm
from app.console.problems import body_of
from app.console.rooms import ConsoleRooms
from app.flows.teams import create_team, list_teams, read_limits, team_view


def teams_router(rooms: ConsoleRooms, operator: OperatorOnly) -> APIRouter:
    """`/api/teams`."""
    router = APIRouter(prefix="/api")

    @router.get("/teams", dependencies=[Depends(operator)])
    async def listed() -> Response:
        teams = await list_teams(rooms.teams, rooms.keys)
        return JSONResponse({"teams": [team_view(team) for team in teams]})

    @router.post("/teams", dependencies=[Depends(operator)])
    async def created(request: Request) -> Response:
        form = await body_of(request, TeamForm)
        limits = read_limits(requests_per_minute=form.requests_per_minute, tokens_per_minute=form.tokens_per_minute)
        team = await create_team(
            rooms.teams, name=form.name, cost_centre=form.cost_centre, clock=rooms.clock, limits=limits
        )
        audit("team created", team=team.name, cost_centre=team.cost_centre)
        return JSONResponse(team_view(team), status_code=201)

    return router
