"""Speaks to any server with OpenAI's surface: our own engines, and hosted services that speak it natively."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from app.domain.errors import FaultKind, TargetFailure
from app.domain.routing.facts import Endpoint
from app.domain.target import Target
from app.domain.usage import Usage
from app.ports import Credentials, Piece, UpstreamAnswer, UpstreamCall
from app.ports.deadline import Within
from app.providers.exchange import Destination, HttpAnswer, HttpClient, HttpFault
from app.providers.faults import ERROR_BODY_MOST_BYTES, Blame, retry_after_s
from app.providers.openai_request import body_of, choices_asked
from app.providers.openai_stream import PieceReader
from app.providers.openai_usage import usage_from

#: A whole answer larger than this is not read to its end.
BODY_MOST_BYTES: Final = 64 * 1024 * 1024

#: Of the time to the first token, what its connection may take.
CONNECT_SHARE_MOST: Final = 0.9

_PATHS: Final = {Endpoint.CHAT: "/chat/completions", Endpoint.COMPLETIONS: "/completions"}
#: Destinations remembered; a policy has far fewer targets.
_DESTINATIONS_MOST: Final = 4096
_PROVIDER_REQUEST_ID_MOST: Final = 200
#: What a body says, as far as it came: strings of JSON, the last of them perhaps without its end.
_TEXTS: Final = re.compile(
    rb'"(?:content|text|reasoning|reasoning_content|refusal|arguments)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)'
)


class OpenAiProvider:
    """The Provider port over an HttpClient. Keeps no state but prepared destinations; any number of calls at once."""

    def __init__(self, http: HttpClient, credentials: Credentials) -> None:
        self._http = http
        self._credentials = credentials
        self._prepared: dict[tuple[str, Endpoint, bool], _Prepared] = {}

    async def open(self, call: UpstreamCall) -> UpstreamAnswer:
        secret = self._secret(call.target)
        family = call.target.family
        blame = Blame(target=call.target.name, secret=secret, spellings=() if family is None else family.errors)
        destination = self._destination(call, secret, blame)
        if not call.stream:
            return await _open_whole(call, destination, blame)
        try:
            async with Within(call.timeouts.first_token_s):
                return await _open_stream(call, destination, blame)
        except TimeoutError as fault:
            raise blame.failure(
                FaultKind.FIRST_TOKEN_TIMEOUT, f"gave no token within {call.timeouts.first_token_s:g} s"
            ) from fault

    def _secret(self, target: Target) -> str | None:
        if target.credential is None:
            return None
        secret = self._credentials.secret(target.credential)
        if secret is None:
            raise Blame(target=target.name).failure(
                FaultKind.AUTH, f"has no credential: {target.credential} is not set"
            )
        return secret

    def _destination(self, call: UpstreamCall, secret: str | None, blame: Blame) -> Destination:
        key = (call.target.name, call.endpoint, call.stream)
        prepared = self._prepared.get(key)
        if prepared is not None and prepared.target is call.target and prepared.secret == secret:
            return prepared.destination
        headers = {
            "user-agent": "breakeven",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "accept": "text/event-stream" if call.stream else "application/json",
        }
        if secret is not None:
            headers["authorization"] = f"Bearer {secret}"
        try:
            destination = self._http.destination(call.target.url.rstrip("/") + _PATHS[call.endpoint], headers=headers)
        except HttpFault as fault:
            raise blame.broken(fault) from fault
        if len(self._prepared) >= _DESTINATIONS_MOST:
            self._prepared.clear()
        self._prepared[key] = _Prepared(target=call.target, secret=secret, destination=destination)
        return destination


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A destination, and what it was made of: a new policy or a new secret makes a new one."""

    target: Target
    secret: str | None
    destination: Destination


class WholeAnswer:
    """The UpstreamAnswer port for an answer that is not streamed."""

    def __init__(self, http: HttpAnswer, blame: Blame, *, idle_s: float) -> None:
        self._http = http
        self._blame = blame
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []

    @property
    def status(self) -> int:
        return self._http.status

    @property
    def content_type(self) -> str:
        return self._http.header("content-type") or "application/json"

    @property
    def provider_request_id(self) -> str | None:
        return self._blame.provider_request_id

    def pieces(self) -> AsyncIterator[Piece]:
        raise RuntimeError("this answer is not a stream; ask for its body")

    async def body(self) -> tuple[bytes, Usage | None]:
        try:
            body = await self._read()
        except HttpFault as fault:
            raise self._blame.broken(fault) from fault
        try:
            said = msgspec.json.decode(body, type=_Completion)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise self._blame.failure(
                FaultKind.INVALID_ANSWER, f"answered with a body that is not whole JSON: {fault}", status=200
            ) from fault
        if said.is_error:
            raise self._blame.said_in_answer(body)
        if said.choices is None:
            raise self._blame.failure(FaultKind.INVALID_ANSWER, "answered without any choices", status=200)
        self._parts.clear()
        return body, usage_from(said.usage, service_tier=said.service_tier)

    def unread(self) -> Sequence[Piece]:
        return _as_left(b"".join(self._parts) + self._http.unread())

    async def close(self) -> None:
        self._http.close()

    async def _read(self) -> bytes:
        """The whole body. What came of it stays in `_parts` until it is known to be an answer.

        Once it has begun it does not stop for long; what some send to keep a connection open is no beginning."""
        parts, size_bytes, begun = self._parts, 0, False
        length = self._http.header("content-length")
        while received := await self._http.read():
            parts.append(received)
            size_bytes += len(received)
            begun = begun or not received.isspace()
            if begun and str(size_bytes) != length:
                self._http.expect_by(self._loop.time() + self._idle_s)
            if size_bytes > BODY_MOST_BYTES:
                raise self._blame.failure(
                    FaultKind.INVALID_ANSWER, f"answered with more than {BODY_MOST_BYTES} bytes", status=200
                )
        return b"".join(parts)


class StreamAnswer:
    """The UpstreamAnswer port for a stream."""

    def __init__(self, http: HttpAnswer, blame: Blame, reader: PieceReader, *, idle_s: float) -> None:
        self._http = http
        self._blame = blame
        self._reader = reader
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Piece] = deque()
        self._at_end = False

    @property
    def status(self) -> int:
        return self._http.status

    @property
    def content_type(self) -> str:
        return self._http.header("content-type") or "text/event-stream"

    @property
    def provider_request_id(self) -> str | None:
        return self._blame.provider_request_id

    def pieces(self) -> AsyncIterator[Piece]:
        # Not an async generator: one that is left early keeps its frame until the collector finds it.
        return self

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        while not self._ready:
            if self._reader.failure is not None:
                raise self._reader.failure
            if self._at_end:
                raise StopAsyncIteration
            self._http.expect_by(self._loop.time() + self._idle_s)
            pieces = await self.read()
            if len(pieces) == 1:
                return pieces[0]
            self._ready.extend(pieces)
        return self._ready.popleft()

    async def begin(self) -> None:
        """Read until the answer itself has begun, with content or with its end. Raises TargetFailure."""
        while not self._reader.begun and not self._at_end:
            self._ready.extend(await self.read())
            if self._reader.failure is not None and not self._reader.begun:
                raise self._reader.failure

    async def read(self) -> list[Piece]:
        """The pieces that the next bytes complete. Raises TargetFailure."""
        try:
            received = await self._http.read()
        except HttpFault as fault:
            return self._ended_by(fault)
        if not received:
            return self._ended_by(None)
        pieces = self._reader.feed(received)
        if self._reader.ended:
            self._at_end = True
        return pieces

    async def body(self) -> tuple[bytes, Usage | None]:
        raise RuntimeError("this answer is a stream; ask for its pieces")

    def unread(self) -> Sequence[Piece]:
        unread = list(self._ready)
        self._ready.clear()
        self._reader.stop_telling()
        if not self._at_end and self._reader.failure is None:
            unread += self._reader.feed(self._http.unread())
        return unread

    async def close(self) -> None:
        if self._reader.ended:
            self._http.finish()
        else:
            self._http.close()

    def _ended_by(self, fault: HttpFault | None) -> list[Piece]:
        """The stream ended without `[DONE]`, somehow. It is whole if every choice has its finish reason."""
        self._at_end = True
        pieces = self._reader.feed_end()
        if self._reader.ended or self._reader.finished or self._reader.failure is not None:
            return pieces
        if fault is not None:
            failure = self._blame.broken(fault)
        else:
            failure = self._blame.failure(FaultKind.CUT, "ended its stream without finishing the answer", status=200)
        if not pieces:
            raise failure from fault
        self._reader.failure = failure  # once the last event, which only lacked its blank line, has passed
        return pieces


class _Completion(msgspec.Struct):
    """What is read of a whole answer."""

    choices: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    service_tier: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")
    object: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def is_error(self) -> bool:
        """Said in a 200 all the same, in OpenAI's, Ollama's or FastChat's spelling."""
        return self.choices is None and (self.error != msgspec.Raw(b"null") or self.object == msgspec.Raw(b'"error"'))


async def _open_whole(call: UpstreamCall, destination: Destination, blame: Blame) -> UpstreamAnswer:
    came = bytearray()
    try:
        http = await _ask(call, destination, blame, unread=came)
    except asyncio.CancelledError:
        call.unread.extend(_as_left(bytes(came)))
        raise
    try:
        _expect_type(http, "json", blame)
    except BaseException:
        http.close()
        raise
    return WholeAnswer(http, blame, idle_s=call.timeouts.idle_s)


def _connect_s(call: UpstreamCall) -> float:
    """How long its connection may take. Where that would be all of a stream's time to the first token, it is less:
    without a connection nothing was sent, and so nothing is billed."""
    timeouts = call.timeouts
    return min(timeouts.connect_s, CONNECT_SHARE_MOST * timeouts.first_token_s) if call.stream else timeouts.connect_s


async def _open_stream(call: UpstreamCall, destination: Destination, blame: Blame) -> UpstreamAnswer:
    reader = PieceReader(blame=blame, usage_wanted=call.usage_wanted, choices=choices_asked(call), telling=call.telling)
    came = bytearray()
    try:
        http = await _ask(call, destination, blame, unread=came)
    except asyncio.CancelledError:
        reader.stop_telling()
        call.unread.extend(reader.feed(bytes(came)))
        raise
    answer = StreamAnswer(http, blame, reader, idle_s=call.timeouts.idle_s)
    try:
        _expect_type(http, "text/event-stream", blame)
        await answer.begin()
    except BaseException as fault:
        if isinstance(fault, asyncio.CancelledError):
            call.unread.extend(answer.unread())
        http.close()
        raise
    return answer


async def _ask(call: UpstreamCall, destination: Destination, blame: Blame, *, unread: bytearray) -> HttpAnswer:
    """Send the request; an answer whose status is 200. Raises TargetFailure. Cancelled, `unread` is what had come."""
    headers = {"x-request-id": call.attempt_id, "x-breakeven-attempt": call.attempt_id}
    try:
        http = await destination.post(body_of(call), headers=headers, connect_s=_connect_s(call), unread=unread)
    except HttpFault as fault:
        raise blame.broken(fault) from fault
    named = http.header("x-request-id")
    blame.provider_request_id = named[:_PROVIDER_REQUEST_ID_MOST] if named else None
    if http.status == 200:
        return http
    try:
        raise await _refusal(http, blame, within_s=call.timeouts.idle_s)
    finally:
        http.close()


async def _refusal(http: HttpAnswer, blame: Blame, *, within_s: float) -> TargetFailure:
    """What an answer of another status means. Its body may be cut or late: then the status alone must do."""
    http.expect_by(asyncio.get_running_loop().time() + within_s)
    body = bytearray()
    try:
        while len(body) <= ERROR_BODY_MOST_BYTES and (received := await http.read()):
            body += received
    except HttpFault:
        pass
    return blame.answered(
        status=http.status,
        body=bytes(body[: ERROR_BODY_MOST_BYTES + 1]),
        retry_after_s=retry_after_s(
            header=http.header("retry-after"), header_ms=http.header("retry-after-ms"), date=http.header("date")
        ),
    )


def _expect_type(http: HttpAnswer, expected: str, blame: Blame) -> None:
    encoding = http.header("content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise blame.failure(
            FaultKind.INVALID_ANSWER, f"answered in the encoding {encoding}, which nobody asked for", status=200
        )
    named = (http.header("content-type") or "").lower()
    if expected not in named:
        raise blame.failure(
            FaultKind.INVALID_ANSWER, f"answered with {named or 'no content type'} instead of {expected}", status=200
        )


def _as_left(body: bytes) -> list[Piece]:
    """What came of a whole answer that nobody waited for; its usage is known if all of it came."""
    if not body:
        return []
    try:
        said = msgspec.json.decode(body, type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [Piece(body, content_bytes=sum(len(text) for text in _TEXTS.findall(body)))]
    if said.choices is None:
        return [Piece(body)]
    return [Piece(body, usage=usage_from(said.usage, service_tier=said.service_tier), finished=True)]
