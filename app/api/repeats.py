"""Requests with an `Idempotency-Key`, in HTTP's words: the answer that is kept as it goes out, and given again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from app.api.reply import INTERRUPTED, Headers, HttpReply, headers_of
from app.domain.repeat import ANSWER_MOST_BYTES, Repeat, repeat_of
from app.domain.routing.policy import KeptAnswers, Policy
from app.flows.gateway import Asked
from app.flows.repeats import Claimed, Repeats, Replay
from app.ports import Opening

#: Says that this was answered before, under the `x-request-id` beside it.
REPLAYED = (b"x-breakeven-replayed", b"true")
#: A failure that is kept would be the same again, which OpenAI's SDKs need not find out.
_NO_RETRY = (b"x-should-retry", b"false")


class Answered(msgspec.Struct, array_like=True, frozen=True):
    """An answer as it went out."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class KeptReply(HttpReply):
    """The line to a caller who may ask the same again: what goes out is kept first, where it can be.

    Where it can, the caller's leaving does not end the work: it will come again for the answer, and pays once."""

    __slots__ = ("_claimed", "_head", "_keeps", "_parts", "_repeats", "_reply", "_room_bytes", "executed")

    def __init__(self, reply: HttpReply, claimed: Claimed, repeats: Repeats, *, keeps: bool) -> None:
        super().__init__()
        self._reply = reply
        self._claimed = claimed
        self._repeats = repeats
        self._keeps = keeps
        self._head: tuple[int, Headers] | None = None
        self._parts: list[bytes] = []
        self._room_bytes = ANSWER_MOST_BYTES
        #: A target worked on it; an error of a request that none began is not kept.
        self.executed = True

    def on_leave(self, hung_up: Callable[[], None]) -> None:
        if not self._keeps:
            self._reply.on_leave(hung_up)

    async def whole(self, opening: Opening, body: bytes) -> None:
        opening = replace(opening, interrupted=self._claimed.interrupted)
        await self._keep(opening.status, _lasting(opening), body)
        await self._reply.whole(opening, body)
        self.begun = True

    async def all_at_once(self, status: int, headers: Headers, body: bytes) -> None:
        if self._claimed.interrupted is not None:
            headers.append((INTERRUPTED, self._claimed.interrupted.encode()))
        if self.executed:
            headers = [each for each in headers if each[0] not in {b"retry-after", b"x-should-retry"}]
            headers.append(_NO_RETRY)
            await self._keep(status, [each for each in headers if each[0] != b"connection"], body)
        else:
            await self._repeats.release(self._claimed)
        await self._reply.all_at_once(status, headers, body)
        self.begun = True

    async def begin(self, opening: Opening) -> None:
        opening = replace(opening, interrupted=self._claimed.interrupted)
        self._head = (opening.status, _lasting(opening))
        self.begun = True
        await self._reply.begin(opening)

    async def write(self, raw: bytes) -> None:
        self._remember(raw)
        await self._reply.write(raw)

    async def end(self, raw: bytes = b"") -> None:
        self._remember(raw)
        assert self._head is not None, "a stream ends that began"
        await self._keep(*self._head, b"".join(self._parts))
        await self._reply.end(raw)

    async def nobody_waits(self) -> None:
        """The caller has left, and the work was ended for it: what was done is paid for, and there is no answer."""
        if self.executed:
            await self._repeats.keep_answer(self._claimed, None)
        else:
            await self._repeats.release(self._claimed)

    def _remember(self, raw: bytes) -> None:
        if not self._keeps:
            return
        self._room_bytes -= len(raw)
        self._parts.append(raw)
        if self._room_bytes < 0:
            self._parts, self._keeps = [], False

    async def _keep(self, status: int, headers: Headers, body: bytes) -> None:
        answer = msgspec.msgpack.encode(Answered(status, headers, body)) if self._keeps else None
        await self._repeats.keep_answer(self._claimed, answer)


def read_repeat(headers: list[tuple[bytes, bytes]], *, api_key: str, path: str, body: bytes) -> Repeat:
    """What the header makes of this request. Raises BadRequest for a value that is no key."""
    said = [value for name, value in headers if name == b"idempotency-key"]
    return repeat_of(said, api_key=api_key, path=path, body=body)


async def reply_once(
    repeats: Repeats, repeat: Repeat, asked: Asked, policy: Policy, reply: HttpReply
) -> KeptReply | None:
    """Where to answer it, or None: it was answered before, and that answer has been given again.

    Raises RepeatRefused and LedgerUnavailable, as `Repeats.claim`."""
    facts = asked.facts
    route = policy.routes.get(facts.model)
    kept = KeptAnswers.WHOLE if route is None else route.kept_answers
    found = await repeats.claim(
        repeat,
        key_id=facts.caller.key_id,
        request_id=facts.request_id,
        total_s=0.0 if route is None else route.timeouts.total_s,
    )
    if isinstance(found, Replay):
        await _give_again(found, reply)
        return None
    keeps = kept is KeptAnswers.ALL or (kept is KeptAnswers.WHOLE and not facts.stream)
    return KeptReply(reply, found, repeats, keeps=keeps)


async def _give_again(replay: Replay, reply: HttpReply) -> None:
    answered = msgspec.msgpack.decode(replay.answer, type=Answered)
    await reply.all_at_once(answered.status, [*answered.headers, REPLAYED], answered.body)


def _lasting(opening: Opening) -> Headers:
    """Of an answer's headers those that will be true later too."""
    return headers_of(replace(opening, rates=()))
