"""The least a relay costs out of the gateway's own libraries: an ASGI function on uvicorn, uvloop and httptools hands
the body on by aiohttp and the answer back, chunk by chunk. No key, policy, meter, receipt, log or Postgres.

What the gateway costs beyond this is the product's; what this costs is the interpreter's, the libraries' and the
machine's. The proportion of the two survives a change of machine; microseconds do not.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
import uvicorn

TYPES = {"application/json": b"application/json", "text/event-stream": b"text/event-stream"}


class Relay:
    """One upstream, one client, opened at the first request."""

    def __init__(self, upstream: int) -> None:
        self._url = f"http://127.0.0.1:{upstream}/v1/chat/completions"
        self._client: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", scope["type"]
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        headers = {"content-type": "application/json"}
        async with self._client.post(self._url, data=body, headers=headers) as answer:
            head: list[tuple[bytes, bytes]] = [(b"content-type", TYPES[answer.content_type])]
            if answer.content_length is not None:
                whole = await answer.read()
                head.append((b"content-length", b"%d" % len(whole)))
                await send({"type": "http.response.start", "status": answer.status, "headers": head})
                await send({"type": "http.response.body", "body": whole})
                return
            await send({"type": "http.response.start", "status": answer.status, "headers": head})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _serve(port: int, upstream: int) -> None:
    config = uvicorn.Config(
        Relay(upstream), host="127.0.0.1", port=port, http="httptools", lifespan="off", access_log=False,
        log_level="error",
    )  # fmt: skip
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvicorn.Config(None, loop="uvloop").get_loop_factory()) as runner:
        runner.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
