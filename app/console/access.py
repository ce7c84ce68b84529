"""Who may: every route of the console names its role as a dependency; no role follows from a path.

One role today, the operator. Programs send `Authorization: Bearer bkop_…`. The start page alone takes HTTP Basic with
the same key as password, as browsers can; no route that changes anything does, because browsers send Basic along with
requests that other sites make them send.
"""

from __future__ import annotations

import binascii
import logging
from base64 import b64decode
from typing import Final

from fastapi import Request

from app.domain.errors import RequestRejected, Unauthenticated
from app.domain.keys import KeyKind, read_key
from app.live.keys import KnownOperator

AUDIT_LOG: Final = "breakeven.audit"
_WRONG: Final = (
    "The operator's key is needed here: send the header `Authorization: Bearer bkop_…`. It was shown when it "
    "was made; `breakeven key operator --new` replaces it, and the console takes the new one when it is started again."
)
_WRONG_KIND: Final = "A caller's key does not open the console: send the operator's key, which begins with `bkop_`."


class WrongRole(RequestRejected):
    """A well-formed key of another kind."""


class PageLocked(Unauthenticated):
    """The start page without the operator's key: the browser shall ask for it."""


class OperatorOnly:
    """The role of every `/api` route. Raises Unauthenticated, or WrongRole for a caller's key."""

    def __init__(self, operator: KnownOperator) -> None:
        self._operator = operator

    def __call__(self, request: Request) -> None:
        text = _credential(request, scheme="bearer")
        if self._operator.holds(text):
            return
        audit("refused", method=request.method, path=request.url.path[:200], client=_client(request))
        key = read_key(text)
        if key is not None and key.kind is KeyKind.CALLER:
            raise WrongRole(_WRONG_KIND, code="wrong_role")
        raise Unauthenticated(_WRONG, code="invalid_operator_key")


class OperatorPage:
    """The role of the start page: the operator's key as the password of HTTP Basic, whatever the user name."""

    def __init__(self, operator: KnownOperator) -> None:
        self._operator = operator

    def __call__(self, request: Request) -> None:
        try:
            pair = b64decode(_credential(request, scheme="basic"), validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            pair = ""
        if not self._operator.holds(pair.partition(":")[2]):
            raise PageLocked("This page wants the operator's key as the password; any user name will do.")


def audit(action: str, **fields: object) -> None:
    """A line in the log for everything an operator does, and for everybody who was refused."""
    logging.getLogger(AUDIT_LOG).info("console %s", action, extra={"fields": {"action": action, **fields}})


def _credential(request: Request, *, scheme: str) -> str:
    headers = request.headers.getlist("authorization")
    if len(headers) != 1:
        return ""
    said, _, credential = headers[0].partition(" ")
    return credential.strip() if said.lower() == scheme else ""


def _client(request: Request) -> str:
    return "" if request.client is None else request.client.host
