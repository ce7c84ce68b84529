"""What went wrong at a target, as a domain error: status, body or broken exchange in, TargetFailure out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from app.domain.engine import Spelling
from app.domain.errors import CALLERS_FAULT, FaultKind, TargetFailure
from app.providers.exchange import HttpFault, HttpFaultKind
from app.providers.fault_table import ADVICE, SPELLINGS

#: Bytes of an error's body that are read; what is longer is not passed on.
ERROR_BODY_MOST_BYTES: Final = 64 * 1024
#: Characters of a target's own words in a message of ours.
WORDS_MOST: Final = 300
#: A target that asks for a longer pause is believed this far.
RETRY_AFTER_MOST_S: Final = 3600.0

#: What a broken exchange means. LATE depends on what was waited for, so it is not here.
EXCHANGE_FAULTS: Final = {
    HttpFaultKind.UNRESOLVED: FaultKind.REFUSED_CONNECTION,
    HttpFaultKind.REFUSED: FaultKind.REFUSED_CONNECTION,
    HttpFaultKind.UNTRUSTED: FaultKind.REFUSED_CONNECTION,
    HttpFaultKind.CONNECT_TIMEOUT: FaultKind.CONNECT_TIMEOUT,
    HttpFaultKind.CUT: FaultKind.CUT,
    HttpFaultKind.MALFORMED: FaultKind.INVALID_ANSWER,
    HttpFaultKind.LATE: FaultKind.IDLE_TIMEOUT,
}

#: What looks like a key: a quoted header, a known prefix, or a long run of letters and digits (a model's name, whose
#: parts are joined by hyphens and slashes, is not one).
_KEYS: Final = re.compile(
    r"(?i:bearer|basic)\s+[A-Za-z0-9+/=_.\-]{12,}"
    r"|\b(?:sk|pk|rk|bk|hf|gsk|xai|nvapi|glpat)[-_][A-Za-z0-9*][A-Za-z0-9_*.\-]{5,}"
    r"|\b(?:AKIA|AIza|eyJ)[A-Za-z0-9_.\-]{8,}"
    r"|(?<![A-Za-z0-9+=_])(?=[A-Za-z+=_]*[0-9])(?=[0-9+=_]*[A-Za-z])[A-Za-z0-9+=_]{28,}"
)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
_HIDDEN: Final = "[hidden]"
#: What a target ends its words with, and ours go on behind.
_ENDS_A_SENTENCE: Final = " .;,:!"


@dataclass(slots=True, kw_only=True)
class Blame:
    """Spells every failure of one attempt, so that each names its target and none leaks a key."""

    target: str
    secret: str | None = None
    provider_request_id: str | None = None
    #: How engines of the target's family spell failures, read before what all have in common.
    spellings: tuple[Spelling, ...] = ()

    def failure(
        self,
        kind: FaultKind,
        what: str,
        *,
        status: int | None = None,
        body: bytes | None = None,
        retry_after_s: float | None = None,
        advice: FaultKind | None = None,
    ) -> TargetFailure:
        """`what` completes "the target …". It is cleaned and cut here, and may be a sentence. `advice`: that of another
        kind than its own."""
        said = cleaned(what, secret=self.secret).rstrip(_ENDS_A_SENTENCE)
        return TargetFailure(
            f"{self.target}: {said}; {ADVICE[advice or kind]}",
            kind=kind,
            target=self.target,
            status=status,
            body=body if kind in CALLERS_FAULT else None,
            retry_after_s=retry_after_s,
            provider_request_id=self.provider_request_id,
        )

    def broken(self, fault: HttpFault) -> TargetFailure:
        """The exchange failed."""
        return self.failure(EXCHANGE_FAULTS[fault.kind], str(fault))

    def answered(self, *, status: int, body: bytes, retry_after_s: float | None = None) -> TargetFailure:
        """The target answered with another status than 200. `body` may be cut at ERROR_BODY_MOST_BYTES."""
        said = read_error(body)
        return self.failure(
            kind_of(status=status, said=said, spellings=self.spellings),
            f"answered {status}{_quoted(said.message)}",
            status=status,
            body=body if said.is_openai and len(body) <= ERROR_BODY_MOST_BYTES else None,
            retry_after_s=retry_after_s,
        )

    def said_in_answer(self, body: bytes) -> TargetFailure:
        """The target put an error into an answer of status 200, where SGLang and others put theirs."""
        said = read_error(body)
        kind = kind_of(status=said.status or 500, said=said, spellings=self.spellings)
        return self.failure(
            kind,
            f"answered 200 with an error inside{_quoted(said.message)}",
            status=said.status or (400 if kind in CALLERS_FAULT else 500),
            body=body if said.is_openai and len(body) <= ERROR_BODY_MOST_BYTES else None,
        )

    def broke_off(self, body: bytes) -> TargetFailure:
        """The target put an error into a stream that had begun: it was at work, whatever it says was wrong. One that
        names a code is a target that knows it ended there."""
        said = read_error(body)
        return self.failure(
            FaultKind.CUT if said.codes or said.status else FaultKind.INVALID_ANSWER,
            f"broke its answer off: {said.message or 'no reason given'}",
            status=200,
            advice=kind_of(status=said.status or 500, said=said, spellings=self.spellings),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidError:
    """An error body as far as it could be read. `codes` are its code and type, in lower case."""

    message: str = ""
    codes: frozenset[str] = frozenset()
    #: The status named inside the body.
    status: int | None = None
    #: True when it is an OpenAI error body: an object `error` with a `message`.
    is_openai: bool = False


def read_error(body: bytes) -> SaidError:
    """OpenAI's `{"error": {…}}`, Ollama's and TGI's `{"error": "…"}`, FastAPI's `{"detail": …}`, FastChat's
    `{"object": "error", "message": …}`, or plain text."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return SaidError(message=body[:ERROR_BODY_MOST_BYTES].decode("utf-8", "replace"))
    if not isinstance(said, dict):
        return SaidError(message=str(said)[:ERROR_BODY_MOST_BYTES])
    error = said.get("error")
    inner = error if isinstance(error, dict) else said
    message = next((text for text in (inner.get("message"), error, said.get("detail")) if isinstance(text, str)), "")
    named = (inner.get("code"), inner.get("type"), inner.get("error_code"), said.get("error_type"))
    return SaidError(
        message=message or (str(said["detail"]) if "detail" in said else ""),
        codes=frozenset(name.lower() for name in named if isinstance(name, str)),
        status=next((code for name in named if (code := _as_status(name)) is not None), None),
        is_openai=isinstance(error, dict) and isinstance(error.get("message"), str),
    )


def kind_of(*, status: int, said: SaidError, spellings: tuple[Spelling, ...] = ()) -> FaultKind:
    """What the answer means: the first spelling that fits, a family's own before those of all, then the class of its
    status."""
    message = said.message.lower()
    for spelling in (*spellings, *SPELLINGS):
        if _fits(spelling, status=status, said=said, message=message):
            return spelling.kind
    if status < 200 or status >= 500:
        return FaultKind.SERVER_ERROR
    if status < 300:
        return FaultKind.INVALID_ANSWER
    return FaultKind.NOT_FOUND if status < 400 else FaultKind.BAD_REQUEST


def retry_after_s(*, header: str | None, header_ms: str | None = None, date: str | None = None) -> float | None:
    """The pause a target asks for, 0 to RETRY_AFTER_MOST_S; None where it asks for none that can be read.

    A moment is counted from the answer's own `date`, so that a wrong clock on either side does not matter."""
    if header_ms is not None and (pause_ms := _seconds(header_ms)) is not None:
        return min(pause_ms / 1000, RETRY_AFTER_MOST_S)
    if header is None:
        return None
    pause_s = _seconds(header)
    if pause_s is None:
        moment, sent = _moment(header), _moment(date or "")
        if moment is None or sent is None:
            return None
        pause_s = max(0.0, (moment - sent).total_seconds())
    return min(pause_s, RETRY_AFTER_MOST_S)


def cleaned(words: str, *, secret: str | None = None) -> str:
    """A target's words on one line, cut to WORDS_MOST characters, without anything that looks like a key."""
    line = _UNPRINTABLE.sub(" ", words).strip()
    if secret:
        line = line.replace(secret, _HIDDEN)
    line = _KEYS.sub(_HIDDEN, line)
    return line if len(line) <= WORDS_MOST else line[: WORDS_MOST - 1] + "…"


def _quoted(message: str) -> str:
    return f": {message}" if message.strip() else ""


def _fits(spelling: Spelling, *, status: int, said: SaidError, message: str) -> bool:
    if spelling.statuses and status not in spelling.statuses:
        return False
    if not spelling.codes and not spelling.phrases:
        return True
    return not spelling.codes.isdisjoint(said.codes) or any(phrase in message for phrase in spelling.phrases)


def _as_status(named: object) -> int | None:
    if isinstance(named, str) and len(named) == 3 and named.isdecimal():
        named = int(named)
    return named if isinstance(named, int) and not isinstance(named, bool) and 400 <= named <= 599 else None


def _seconds(text: str) -> float | None:
    try:
        pause = float(text)
    except ValueError:
        return None
    return pause if math.isfinite(pause) and pause >= 0 else None


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
