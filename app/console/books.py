"""Reading the books: the cost report and the receipts. Operator only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from app.console.access import OperatorOnly
from app.console.forms import ReportForm, RequestsForm
from app.console.problems import NotFound
from app.console.rooms import ConsoleRooms
from app.domain.ledger.period import read_range
from app.domain.ledger.report import CostQuery
from app.flows.corrected_receipts import corrected_views
from app.flows.report_rows import as_plain, csv_text
from app.flows.reports import cost_report, query_of


def books_router(rooms: ConsoleRooms, operator: OperatorOnly) -> APIRouter:
    """`/api/reports/cost`, `/api/requests`, `/api/requests/{request_id}`."""
    router = APIRouter(prefix="/api")

    @router.get("/reports/cost", dependencies=[Depends(operator)])
    async def report(form: Annotated[ReportForm, Query()]) -> Response:
        made = await cost_report(rooms.reports, _query(form, rooms))
        if form.format == "json":
            return JSONResponse(as_plain(made))
        name = f"cost-{made.query.since:%Y-%m-%d}-{made.query.until:%Y-%m-%d}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(csv_text(made), media_type="text/csv; charset=utf-8", headers=headers)

    @router.get("/requests", dependencies=[Depends(operator)])
    async def requests(form: Annotated[RequestsForm, Query()]) -> Response:
        found = await rooms.ledger.latest(most=form.limit, before=form.before)
        more = found[-1].request_id if len(found) == form.limit else None
        return JSONResponse({"requests": await corrected_views(found, rooms.adjustments), "next_before": more})

    @router.get("/requests/{request_id}", dependencies=[Depends(operator)])
    async def request(request_id: str) -> Response:
        found = await rooms.ledger.find(request_id)
        if found is None:
            raise NotFound("the books have no request of that id; one just made takes a few seconds to arrive")
        return JSONResponse((await corrected_views([found], rooms.adjustments))[0])

    return router


def _query(form: ReportForm, rooms: ConsoleRooms) -> CostQuery:
    centres = frozenset(form.cost_centre) if form.cost_centre else None
    period = read_range(first=form.first, last=form.last, now=rooms.now())
    return query_of(period=period, by=form.by, cost_centres=centres)
