"""A cheap upstream: answers every request with the same bytes, parsing nothing but where a request ends."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop

CHUNKS = 100


def whole_answer() -> bytes:
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "word " * 100}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 300, "completion_tokens": 100, "total_tokens": 400},
        },
        separators=(",", ":"),
    ).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def stream_events() -> list[bytes]:
    def event(delta: dict[str, str], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        said = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"

    usage = {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
        "usage": {"prompt_tokens": 300, "completion_tokens": CHUNKS, "total_tokens": 300 + CHUNKS},
    }  # fmt: skip
    return [
        event({"role": "assistant", "content": ""}, None),
        *(event({"content": " word"}, None) for _ in range(CHUNKS)),
        event({}, "stop"),
        b"data: " + json.dumps(usage, separators=(",", ":")).encode() + b"\n\n",
        b"data: [DONE]\n\n",
    ]


WHOLE = whole_answer()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = [b"%x\r\n%b\r\n" % (len(event), event) for event in stream_events()]
END = b"0\r\n\r\n"


class Canned(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop registers no base class
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._end_of_request()) is not None:
            request, self._buffer = self._buffer[:end], self._buffer[end:]
            if b'"stream":true' in request:
                self._transport.write(STREAM_HEAD)
                self._next(0)
            else:
                self._transport.write(WHOLE)

    def _end_of_request(self) -> int | None:
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        lower = self._buffer[:head_end].lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        end = head_end + 4 + length
        return end if len(self._buffer) >= end else None

    def _next(self, place: int) -> None:
        """One event a turn, so that each is a write, and so a read, of its own."""
        if self._transport.is_closing():
            return
        if place == len(EVENTS):
            self._transport.write(END)
            return
        self._transport.write(EVENTS[place])
        asyncio.get_running_loop().call_later(0.001, self._next, place + 1)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
