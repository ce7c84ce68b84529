"""An OpenAI-style stream: events in, pieces out. No I/O, and hardly any parsing.

Parsed are the events up to the second with content (they teach what this target's envelope looks like), and those that
hold usage, a finish reason or an error. All others pass unread. That is safe because a quote inside a JSON string is
escaped: the bytes `"usage":` can only be a key, never a word of the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from app.domain.errors import FaultKind, TargetFailure
from app.domain.telling import News, Said, Telling
from app.ports import Piece
from app.providers.faults import Blame
from app.providers.openai_chunk import Chunk, read_chunk, read_said, with_rests
from app.providers.openai_usage import usage_from
from app.providers.sse import EventSplitter, EventTooLarge, payload

#: Events with content that are measured before the others are believed to be like them.
EVENTS_MEASURED: Final = 2

_DONE: Final = b"[DONE]"
_OPENS: Final = (b'data: {"', b'data:{"')
_CLOSES: Final = (b"}\n\n", b"}\r\n\r\n")
_SPELLINGS: Final = (b'"choices":[{', b'"choices": [{')


class PieceReader:
    """Fed the bytes of one answer, tells its pieces. What cannot be passed on becomes its `failure`: pieces that came
    before it, even in the same bytes, are given first.

    `choices` is how many choices the caller asked for: the stream has finished when each has its finish reason. With a
    `telling` every event is read, and only what is new to the caller passes."""

    __slots__ = (
        "_blame",
        "_choices",
        "_envelope_bytes",
        "_finished",
        "_measured",
        "_padded",
        "_splitter",
        "_telling",
        "_unread_ok",
        "_usage_wanted",
        "begun",
        "ended",
        "failure",
    )

    def __init__(self, *, blame: Blame, usage_wanted: bool, choices: int, telling: Telling | None = None) -> None:
        self._blame = blame
        self._telling = telling
        self._usage_wanted = usage_wanted
        self._choices = choices
        self._splitter = EventSplitter()
        self._finished: set[int] = set()
        self._measured = 0
        self._envelope_bytes = 0
        self._padded = False
        self._unread_ok = False
        #: Content, a finish reason, usage or the end has come.
        self.begun = False
        #: `[DONE]` has come; nothing after it is read.
        self.ended = False
        #: What broke the stream after the pieces that were given last; nothing after it is read.
        self.failure: TargetFailure | None = None

    @property
    def finished(self) -> bool:
        """Every choice has its finish reason, so that nothing of the answer itself is missing."""
        return len(self._finished) >= self._choices

    def stop_telling(self) -> None:
        """What is fed from here on is counted, and goes to no caller."""
        self._telling = None

    def feed(self, received: bytes) -> list[Piece]:
        """The pieces that are whole now: at most one, and one more for `[DONE]`."""
        try:
            events = self._splitter.feed(received)
        except EventTooLarge as fault:
            self.failure = self._blame.failure(FaultKind.INVALID_ANSWER, f"answered badly: {fault}", status=200)
            return []
        if len(events) == 1 and self._unread_ok:
            event = self._passes_unread(events[0])
            if event:
                return [Piece(event, 1, self._content_bytes(event))]
        return self._pieces(events)

    def feed_end(self) -> list[Piece]:
        """The connection ended. A last event that lacks only its blank line still counts; half of one does not."""
        rest = self._splitter.rest()
        if not rest.strip() or self.ended:
            return []
        said = payload(rest)
        if said is None or (said != _DONE and not _is_json(said)):
            return []
        return self._pieces([rest.rstrip(b"\r\n") + b"\n\n"])

    def _pieces(self, events: list[bytes]) -> list[Piece]:
        body, end = Piece(b""), None
        raws = []
        for event in events:
            unread = self._passes_unread(event) if self._unread_ok else b""
            if unread:
                raws.append(unread)
                body.content_events += 1
                body.content_bytes += self._content_bytes(unread)
                continue
            said = payload(event)
            if said == _DONE:
                if self._telling is not None and self._telling.is_behind:
                    self.failure = self._unlike()
                    break
                self.ended = self.begun = True
                end = Piece(event, last=True, finished=self.finished)
                break
            try:
                raws.append(event if said is None else self._read(event, said, into=body))
            except TargetFailure as failure:
                self.failure = failure
                break
        body.raw = b"".join(raws)
        pieces = [body] if body.raw or body.usage is not None or body.content_events or body.finished else []
        return pieces if end is None else [*pieces, end]

    def _passes_unread(self, event: bytes) -> bytes:
        """The event as it goes on if it is one with content like those measured; empty if it must be read."""
        if not event.startswith(_OPENS) or not event.endswith(_CLOSES):
            return b""
        if b'"usage":' in event:
            if b'"usage":{' in event or b'"usage": {' in event:
                return b""
            if not self._usage_wanted:
                # Only we asked for usage, so only we caused this member; as a key with the value null it stands in no
                # text, and without it and its comma the object is as valid as before.
                event = event.replace(b',"usage":null', b"", 1)
                if b'"usage":' in event:
                    return b""
        if b'"finish_reason":"' in event or b'"finish_reason": "' in event or b'"error"' in event:
            return b""
        return event

    def _read(self, event: bytes, said: bytes, *, into: Piece) -> bytes:
        """What the event says goes into the piece; returns the event as it goes on."""
        try:
            chunk = read_chunk(said)
            spoken: Sequence[Said] = () if self._telling is None else read_said(said)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise self._blame.failure(
                FaultKind.INVALID_ANSWER, f"sent an event that is not a chunk of JSON: {fault}", status=200
            ) from fault
        if chunk.is_error:
            raise self._error(said)
        for index in chunk.finished:
            self._finished.add(index)
        into.finished = into.finished or (bool(chunk.finished) and self.finished)
        usage = usage_from(chunk.usage, service_tier=chunk.service_tier) if chunk.has_usage else None
        into.usage = usage or into.usage
        content_bytes = chunk.content_bytes
        if content_bytes:
            into.content_events += 1
            into.content_bytes += content_bytes
            self._measure(event, content_bytes)
        # Usage beside choices may come with the very first, empty delta: nothing has begun then.
        told_alone = usage is not None and not chunk.choices
        self.begun = self.begun or bool(content_bytes) or bool(chunk.finished) or told_alone
        if not self._usage_wanted:
            event = _without_usage(event, said, chunk)
        return event if self._telling is None or not spoken else self._news(event, spoken, self._telling)

    def _news(self, event: bytes, spoken: Sequence[Said], telling: Telling) -> bytes:
        """What of an event with choices is new to the caller; empty: nothing. `spoken` is what it says of each."""
        rests: dict[int, Mapping[str, str]] = {}
        is_whole = True
        for said in spoken:
            news = telling.hear(said)
            if news is News.UNLIKE:
                raise self._unlike()
            is_whole = is_whole and news is News.ALL
            if news is not News.NOTHING:
                rests[said.index] = said.texts if news is News.ALL else news.texts
        if is_whole or not rests:
            return event if is_whole else b""
        passed_on = payload(event)
        assert passed_on is not None, "an event with choices has data"
        return b"data: " + with_rests(passed_on, rests) + b"\n\n"

    def _unlike(self) -> TargetFailure:
        return self._blame.failure(
            FaultKind.NOT_REPRODUCED,
            "was asked anew after another target's stream broke, and answers otherwise than the text already sent",
            status=200,
        )

    def _measure(self, event: bytes, content_bytes: int) -> None:
        if self._measured == EVENTS_MEASURED:
            return
        envelope_bytes = len(event) - content_bytes
        self._envelope_bytes = min(self._envelope_bytes, envelope_bytes) if self._measured else envelope_bytes
        self._padded = b'"obfuscation"' in event
        self._measured += 1
        is_known = self._measured == EVENTS_MEASURED and any(spelling in event for spelling in _SPELLINGS)
        self._unread_ok = is_known and self._telling is None

    def _content_bytes(self, event: bytes) -> int:
        """About how much of an unread event is text; where events are padded to hide that, its size tells nothing."""
        return 0 if self._padded else max(1, len(event) - self._envelope_bytes)

    def _error(self, said: bytes) -> TargetFailure:
        return self._blame.broke_off(said) if self.begun else self._blame.said_in_answer(said)


def _is_json(said: bytes) -> bool:
    try:
        msgspec.json.decode(said, type=Raw)
    except msgspec.DecodeError:
        return False
    return True


def _without_usage(event: bytes, said: bytes, chunk: Chunk) -> bytes:
    """The event without the member that only we asked for; empty if it was sent for that member alone."""
    if not chunk.usage:
        return event
    if chunk.has_usage and not chunk.choices:
        return b""
    members = msgspec.json.decode(said, type=dict[str, Raw])
    del members["usage"]
    return event.replace(said, msgspec.json.encode(members)) if said in event else _data_event(members)


def _data_event(members: dict[str, Raw]) -> bytes:
    return b"data: " + msgspec.json.encode(members) + b"\n\n"
