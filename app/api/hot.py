"""The hot routes: a plain ASGI function in front of everything else.

Reads the envelope, names the caller, makes facts, hands over to `flows.answer`, and spells whatever comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

from msgspec import Raw
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.exchange import AsgiExchange, Exchange
from app.api.labels import read_labels
from app.api.problems import UNKNOWN, Problem, problem_of
from app.api.repeats import KeptReply, read_repeat, reply_once
from app.api.reply import Heads, HttpReply
from app.api.wire.openai import NO_LABELS, Labels, error_event, read_chat, read_completion, read_fields
from app.domain.caller import Caller
from app.domain.errors import BodyTooLarge, BodyTooLate, BreakevenError, CallerLeft, GatewayBusy, LedgerUnavailable
from app.domain.repeat import Repeat
from app.domain.routing.facts import RequestFacts
from app.flows.answer import answer
from app.flows.gateway import Asked, Gateway
from app.flows.repeats import Repeats
from app.live.admission import Admission
from app.live.keys import KnownKeys
from app.ports import Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who reads what comes to a hot route."""

    path: str
    read: Callable[..., tuple[RequestFacts, bool]]


HOT: dict[str, Reader] = {
    each.path: each
    for each in (
        Reader(path="/v1/chat/completions", read=read_chat),
        Reader(path="/v1/completions", read=read_completion),
    )
}
#: As they stand in a request line.
HOT_TARGETS: dict[bytes, Reader] = {path.encode(): reader for path, reader in HOT.items()}

#: A body must have arrived whole after this long.
BODY_DEADLINE_S = 60.0
_BEARER = b"bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class HotRoutes:
    """The ASGI application. `report_bug` is told of exceptions that no table knows, `refused` of all others."""

    rest: ASGIApp
    gateway: Gateway
    keys: KnownKeys
    ids: Ids
    admission: Admission
    body_limit_bytes: int
    body_within_s: float = BODY_DEADLINE_S
    report_bug: Callable[[str, BaseException], None]
    refused: Callable[[BreakevenError], None] = lambda error: None
    #: For servers that write the heads of answers themselves.
    heads: Heads = field(default_factory=Heads)
    #: Who answers a request that came with an idempotency key; None: nobody here can, and it is refused.
    repeats: Repeats | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = HOT.get(scope["path"]) if scope["type"] == "http" else None
        if reader is None or scope["method"] != "POST":
            await self.rest(scope, receive, send)
            return
        await self.serve(reader, AsgiExchange(scope, receive, send))

    @property
    def is_stopping(self) -> bool:
        """Connections end with the answers that they wait for: whoever asks next should ask another process."""
        return self.admission.stopping

    def reader_of(self, target: bytes) -> Reader | None:
        """Who reads a POST with this target of its request line; None: it is none of the hot routes."""
        return HOT_TARGETS.get(target)

    async def serve(self, reader: Reader, exchange: Exchange) -> None:
        """Answer one request, whatever becomes of it. A caller who left gets nothing, and nothing is raised."""
        at_us = self.gateway.clock.unix_us()
        request_id = self.ids.request_id(at_us=at_us)
        reply: HttpReply = exchange.reply
        is_read = False
        busy = self.admission.enter(at_s=self.gateway.clock.monotonic_s())
        try:
            if busy is not None:
                raise GatewayBusy(busy)
            arrived_s = self.gateway.clock.monotonic_s()
            caller, labels, repeater = self._envelope(exchange.headers, at_us=at_us)
            body = await _body(exchange, limit_bytes=self.body_limit_bytes, within_s=self.body_within_s)
            is_read = True
            fields: dict[str, Raw] = read_fields(body)
            facts, usage_wanted = reader.read(body, fields, request_id=request_id, caller=caller, labels=labels)
            asked = Asked(
                facts=facts,
                at_us=at_us,
                arrived_s=arrived_s,
                fields=fields,
                usage_wanted=usage_wanted,
                caller_label=labels.caller_label,
            )
            exchange.listen()
            try:
                if repeater is not None:
                    repeat = read_repeat(exchange.headers, api_key=repeater, path=reader.path, body=body)
                    kept = await self._kept_reply(asked, repeat, exchange.reply)
                    if kept is None:
                        return
                    reply = kept
                    await _answer_kept(asked, kept, self.gateway)
                else:
                    await answer(asked, reply, self.gateway)
            finally:
                exchange.stop_listening()
        except CallerLeft:
            return
        except BreakevenError as error:
            self.refused(error)
            await self._spell(problem_of(error), reply, request_id, close=not is_read)
        except Exception as bug:
            self.report_bug(request_id, bug)
            await self._spell(UNKNOWN, reply, request_id, close=True)
        finally:
            if busy is None:
                self.admission.leave()

    async def _kept_reply(self, asked: Asked, repeat: Repeat, reply: HttpReply) -> KeptReply | None:
        """Where to answer a request with an idempotency key; None: it has its answer."""
        if self.repeats is None:
            raise LedgerUnavailable("this gateway keeps no idempotency keys: leave the header Idempotency-Key out")
        return await reply_once(self.repeats, repeat, asked, self.gateway.policy.current, reply)

    def _envelope(self, headers: list[tuple[bytes, bytes]], *, at_us: int) -> tuple[Caller, Labels, str | None]:
        """The caller, its labels, and its API key if it may ask the same again, from the headers; a declared length
        over the limit is refused at once."""
        bearer: list[bytes] = []
        ours: list[tuple[bytes, bytes]] = []
        may_repeat = False
        for name, value in headers:
            if name == b"authorization":
                bearer.append(value)
            elif name == b"content-length" and int(value) > self.body_limit_bytes:
                raise _too_large(self.body_limit_bytes)
            elif name.startswith(b"x-"):
                ours.append((name, value))
            elif name == b"idempotency-key":
                may_repeat = True
        api_key = _token(bearer)
        caller = self.keys.find(api_key, at_s=at_us / 1e6)
        return caller, read_labels(ours) if ours else NO_LABELS, api_key if may_repeat else None

    async def _spell(self, problem: Problem, reply: HttpReply, request_id: str, *, close: bool) -> None:
        if reply.begun:
            await reply.end(error_event(problem.body))
            return
        retry_after_s = problem.retry_after_s
        if retry_after_s is not None and problem.spread_s:
            retry_after_s += crc32(request_id.encode()) % (problem.spread_s + 1)
        await reply.problem(
            status=problem.status,
            body=problem.body,
            request_id=request_id,
            retry_after_s=retry_after_s,
            close=close,
            more=problem.headers,
        )


def caller_of(headers: list[tuple[bytes, bytes]], keys: KnownKeys, *, at_s: float) -> Caller:
    """The caller behind the Authorization header. Raises Unauthenticated, the same for every kind of wrong."""
    return keys.find(_token(_bearer(headers)), at_s=at_s)


async def _answer_kept(asked: Asked, reply: KeptReply, gateway: Gateway) -> None:
    """`answer`, and the books are told what became of a request that may come twice."""
    try:
        await answer(asked, reply, gateway)
    except BreakevenError as error:
        reply.executed = error.executed
        if isinstance(error, CallerLeft):
            await reply.nobody_waits()
        raise


def _bearer(headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [value for name, value in headers if name == b"authorization"]


def _token(bearer: list[bytes]) -> str:
    """The key's text; empty, which is no key, when there is no such header, or more than one."""
    if len(bearer) != 1 or bearer[0][: len(_BEARER)].lower() != _BEARER:
        return ""
    return bearer[0][len(_BEARER) :].decode("latin-1").strip()


async def _body(exchange: Exchange, *, limit_bytes: int, within_s: float) -> bytes:
    whole = exchange.at_hand()
    if whole is None:
        try:
            async with asyncio.timeout(within_s):
                return await _awaited_body(exchange, limit_bytes=limit_bytes)
        except TimeoutError as fault:
            raise BodyTooLate(f"the body did not arrive within {within_s:g} s; send it faster") from fault
    if len(whole) > limit_bytes:
        raise _too_large(limit_bytes)
    return whole


async def _awaited_body(exchange: Exchange, *, limit_bytes: int) -> bytes:
    parts, size, more = list[bytes](), 0, True
    while more:
        part, more = await exchange.part()
        parts.append(part)
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
    return b"".join(parts)


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is over the limit of {limit_bytes} bytes; send less, or have its operator raise it")
