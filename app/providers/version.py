"""Which engine answers at a URL, and in which version."""

from __future__ import annotations

import asyncio
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import msgspec

TIMEOUT_S = 5.0
MOST_BYTES = 64 * 1024
UNKNOWN = "unknown"


class _Version(msgspec.Struct):
    version: str


async def engine_version(url: str, *, kind: str) -> str:
    """`"<kind> <version>"` from vLLM's `/version` route beside the API's path; `"<kind> unknown"` where there is none.

    A self-hosted target without that route can be measured all the same: its measurement then does not notice an
    upgrade, and is made again by hand."""
    said = await asyncio.to_thread(_read, url)
    try:
        return f"{kind} {msgspec.json.decode(said, type=_Version).version}"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"{kind} {UNKNOWN}"


def _read(url: str) -> bytes:
    """What the route answers; empty when nobody does. No redirect is followed and no proxy asked."""
    parts = urlsplit(url)
    kind_of_connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind_of_connection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/version")
        return connection.getresponse().read(MOST_BYTES)
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()
