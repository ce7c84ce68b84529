"""The console's routes for programs: OpenAPI 3.1. Operator only, as it tells what there is."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.console.access import OperatorOnly
from app.console.forms import KeyForm, RotationForm, TeamForm
from app.console.policy_forms import CheckForm, DiffForm, DryRunForm, ReleaseForm, RollbackForm

#: Bodies are read by hand after the role was checked (see the room's page), so FastAPI does not know them.
_BODIES: Final[dict[str, type[BaseModel]]] = {
    "/api/keys": KeyForm,
    "/api/keys/{key_id}/rotation": RotationForm,
    "/api/teams": TeamForm,
    "/api/policy/check": CheckForm,
    "/api/policy/dry-run": DryRunForm,
    "/api/policy/diff": DiffForm,
    "/api/policy/rollback": RollbackForm,
    "/api/policy/release": ReleaseForm,
}
_PLACE: Final = "#/components/schemas/{model}"


def openapi_router(app: FastAPI, operator: OperatorOnly) -> APIRouter:
    """`/api/openapi.json`, about every route of `app`."""
    router = APIRouter(prefix="/api")

    @router.get("/openapi.json", dependencies=[Depends(operator)])
    async def told() -> Response:
        return JSONResponse(openapi_of(app))

    return router


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The document: paths with their parameters and bodies, and the operator's key as the one way in."""
    document = get_openapi(title=app.title, version="1", openapi_version="3.1.0", routes=app.routes)
    components = document.setdefault("components", {})
    _, schemas = models_json_schema([(form, "validation") for form in _BODIES.values()], ref_template=_PLACE)
    components["schemas"] = {**components.get("schemas", {}), **schemas.get("$defs", {})}
    components["securitySchemes"] = {"operator": {"type": "http", "scheme": "bearer"}}
    for path, form in _BODIES.items():
        schema = {"$ref": _PLACE.format(model=form.__name__)}
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        document["paths"][path]["post"]["requestBody"] = body
    for path, methods in document["paths"].items():
        if path.startswith("/api/"):
            for told in methods.values():
                told["security"] = [{"operator": []}]
    return document
