"""Which engine answers at a URL, and in which version."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import aiohttp
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
    parts = urlsplit(url)
    place = urlunsplit((parts.scheme, parts.netloc, "/version", "", ""))
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(place, allow_redirects=False) as answer,
        ):
            said = msgspec.json.decode(await answer.content.read(MOST_BYTES), type=_Version)
    except (TimeoutError, aiohttp.ClientError, OSError, msgspec.DecodeError):
        return f"{kind} {UNKNOWN}"
    return f"{kind} {said.version}"
