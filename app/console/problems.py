"""One table: what went wrong → status and JSON for whoever asked the console."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from app.console.access import PageLocked, WrongRole
from app.domain.errors import (
    BadRequest,
    BodyTooLarge,
    BreakevenError,
    PolicyInvalid,
    RequestRejected,
    Unauthenticated,
)
from app.domain.findings import finding_view
from app.domain.ledger.report import BooksDisagree
from app.flows.policy_archive import NotValid, RevisionUnknown
from app.flows.policy_replay import RequestUnknown
from app.ports import BooksAway

Form = TypeVar("Form", bound=BaseModel)


class NotFound(RequestRejected):
    """There is nothing of that name."""


LARGEST_BODY_BYTES: Final = 64 * 1024
_MOST_FAULTS: Final = 10
_BASIC: Final = {"www-authenticate": 'Basic realm="Breakeven console", charset="UTF-8"'}
_BEARER: Final = {"www-authenticate": "Bearer"}

#: First match wins: status, code where the error names none, headers.
_TABLE: Final[tuple[tuple[type[BreakevenError], int, str, Mapping[str, str]], ...]] = (
    (PageLocked, 401, "invalid_operator_key", _BASIC),
    (Unauthenticated, 401, "invalid_operator_key", _BEARER),
    (NotFound, 404, "not_found", {}),
    (RequestUnknown, 404, "not_found", {}),
    (RevisionUnknown, 404, "revision_unknown", {}),
    (WrongRole, 403, "wrong_role", {}),
    (BodyTooLarge, 413, "body_too_large", {"connection": "close"}),
    (BadRequest, 400, "invalid_request", {}),
    (BooksDisagree, 500, "books_disagree", {}),
)


def teach(app: FastAPI) -> None:
    """From now on every failure of this application is JSON that says what to do."""
    app.add_exception_handler(BreakevenError, _on_breakeven)
    app.add_exception_handler(PolicyInvalid, _on_invalid_policy)
    app.add_exception_handler(BooksAway, _on_books_away)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)


def problem(
    status: int, message: str, *, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The one form in which the console says that something went wrong."""
    error = {"message": message, "code": code, "param": param}
    return JSONResponse({"error": error}, status_code=status, headers=dict(headers or {}))


async def body_of(request: Request, form: type[Form], *, most_bytes: int = LARGEST_BODY_BYTES) -> Form:
    """The request's JSON body as the form. To be called after the role was checked, so that nobody else is read.

    Raises BodyTooLarge, and BadRequest naming every field at fault.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise BodyTooLarge(f"the body is over {most_bytes} bytes; send less")
    try:
        return form.model_validate_json(bytes(body))
    except ValidationError as fault:
        raise _rejected(fault.errors(include_url=False, include_context=False, include_input=False)) from fault


def _rejected(errors: Sequence[Any]) -> BadRequest:
    faults = [_fault(error) for error in errors[:_MOST_FAULTS]]
    more = len(errors) - len(faults)
    first = _place(errors[0])
    return BadRequest("; ".join(faults) + (f"; and {more} more" if more > 0 else ""), param=first or None)


def _fault(error: Mapping[str, Any]) -> str:
    place = _place(error)
    said = "there is no such field" if error["type"] == "extra_forbidden" else str(error["msg"])
    return f"{place}: {said}" if place else said


def _place(error: Mapping[str, Any]) -> str:
    parts = [str(part)[:64] for part in error["loc"] if part not in {"query", "path", "body"}]
    return ".".join(parts)


async def _on_breakeven(request: Request, error: Exception) -> Response:
    assert isinstance(error, BreakevenError)
    param = error.param if isinstance(error, RequestRejected) else None
    named = error.code if isinstance(error, RequestRejected) else None
    for kind, status, code, headers in _TABLE:
        if isinstance(error, kind):
            return problem(status, str(error), code=named or code, param=param, headers=headers)
    return await _on_bug(request, error)


async def _on_invalid_policy(request: Request, error: Exception) -> Response:
    assert isinstance(error, PolicyInvalid)
    named = error.name if isinstance(error, NotValid) else "files"
    message = f"{named} is no valid policy for this version, so nothing was done: mend what `findings` names"
    answer = {
        "error": {"message": message, "code": "policy_invalid", "param": None},
        "findings": [finding_view(finding) for finding in error.findings],
    }
    return JSONResponse(answer, status_code=422)


async def _on_books_away(request: Request, error: Exception) -> Response:
    return problem(
        503,
        "Postgres does not answer, so the books cannot be read or changed: start it (`breakeven db start`) or look at "
        "DATABASE_URL; requests go on being served and are booked later",
        code="books_away",
        headers={"retry-after": "2"},
    )


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _on_breakeven(request, _rejected(error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET")
        return problem(405, f"use {allowed} here", code="method_not_allowed", headers={"allow": allowed})
    if error.status_code == 404:
        return problem(404, "there is no such page: the routes are listed in app/console/README.md", code="not_found")
    return problem(error.status_code, str(error.detail), code="refused")


async def _on_bug(request: Request, error: Exception) -> Response:
    logging.getLogger("breakeven.console").error(
        "console failed", exc_info=error, extra={"fields": {"path": request.url.path[:200]}}
    )
    return problem(500, "the console failed on this request; the cause is in its log", code="internal_error")
