"""Virtual keys: made, listed, revoked, and known everywhere within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

from app.domain.caller import Caller
from app.domain.errors import BadRequest
from app.domain.keys import ID_BYTES, SECRET_BYTES, KeyKind, Peppers, key_id_of, write_key
from app.live.keys import KnownKeys
from app.ports import BooksAway, Clock, KeyBook, KeyRecord, RowsRefused

RandomBytes = Callable[[int], bytes]

LONGEST_WORD: Final = 128
MOST_TAGS: Final = 16
MOST_MODELS: Final = 256
#: How often a process looks for keys that were made or revoked elsewhere.
REFRESH_EVERY_S: Final = 2.0
_MICROSECONDS: Final = 1_000_000
_TRIES: Final = 3
#: 9999-01-01: later moments are no dates.
_LATEST_S: Final = 253_370_764_800


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWish:
    """What a new key shall stand for."""

    name: str
    team: str
    cost_centre: str
    tags: tuple[str, ...] = ()
    #: None: every model.
    models: frozenset[str] | None = None
    #: Unix seconds; None: never.
    expires_at_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key at the only moment when its text is known."""

    text: str
    record: KeyRecord


class Revocation(StrEnum):
    """What became of the wish to revoke a key."""

    DONE = "done"
    ALREADY = "already"
    UNKNOWN = "unknown"


class BooksWatcher(Protocol):
    """Is told at every look whether Postgres answered."""

    def books_answered(self) -> None: ...

    def books_away(self) -> None: ...


async def create_key(
    book: KeyBook, wish: KeyWish, *, peppers: Peppers, random_bytes: RandomBytes, clock: Clock
) -> NewKey:
    """Make a key and keep its digest. Raises BadRequest naming the field at fault, and BooksAway.

    A key whose making ended in BooksAway may be in the books, yet nobody has its text: list and revoke it.
    """
    now_s = clock.unix_us() / _MICROSECONDS
    _check(wish, now_s=now_s)
    pepper = peppers.newest
    for left in reversed(range(_TRIES)):
        key_id = key_id_of(random_bytes(ID_BYTES))
        text = write_key(key_id, random_bytes(SECRET_BYTES))
        record = KeyRecord(
            caller=Caller(
                key_id=key_id,
                team=wish.team,
                cost_centre=wish.cost_centre,
                tags=wish.tags,
                models=wish.models,
                expires_at_s=wish.expires_at_s,
            ),
            name=wish.name,
            digest=pepper.digest(text.encode()),
            pepper_version=pepper.version,
            created_at_s=now_s,
        )
        try:
            await book.add(record)
        except RowsRefused:
            # An id is 40 random bits: that it is taken happens once in a long while, twice in a row never.
            if not left:
                raise
        else:
            return NewKey(text=text, record=record)
    raise AssertionError("the last try returns or raises")


async def list_keys(book: KeyBook) -> Sequence[KeyRecord]:
    """Every key ever made, the newest first. Raises BooksAway."""
    return sorted(await book.all(), key=lambda record: (-record.created_at_s, record.caller.key_id))


async def revoke_key(book: KeyBook, key_id: str, *, clock: Clock) -> Revocation:
    """Revoke a key for good; processes that poll refuse it within `REFRESH_EVERY_S`. Raises BooksAway."""
    if await book.revoke(key_id, at_s=clock.unix_us() / _MICROSECONDS):
        return Revocation.DONE
    known = {record.caller.key_id for record in await book.all()}
    return Revocation.ALREADY if key_id in known else Revocation.UNKNOWN


def key_view(record: KeyRecord, *, now_s: float) -> dict[str, object]:
    """A key as people and programs read it: everything but its digest. `now_s` is Unix time."""
    caller = record.caller
    return {
        "key_id": caller.key_id,
        "name": record.name,
        "team": caller.team,
        "cost_centre": caller.cost_centre,
        "tags": [*caller.tags],
        "models": None if caller.models is None else sorted(caller.models),
        "state": key_state(record, now_s=now_s),
        "created_at": _moment(record.created_at_s),
        "expires_at": _moment(caller.expires_at_s),
        "revoked_at": _moment(record.revoked_at_s),
    }


def key_state(record: KeyRecord, *, now_s: float) -> str:
    """`in force`, `expired` or `revoked`."""
    if record.revoked_at_s is not None:
        return "revoked"
    return "expired" if record.caller.has_expired(at_s=now_s) else "in force"


def make_operator_key(*, peppers: Peppers, random_bytes: RandomBytes) -> tuple[str, bytes]:
    """A new key for the console, and its digest under the newest pepper."""
    text = write_key(key_id_of(random_bytes(ID_BYTES)), random_bytes(SECRET_BYTES), kind=KeyKind.OPERATOR)
    return text, peppers.newest.digest(text.encode())


async def refresh_keys(book: KeyBook, known: KnownKeys) -> tuple[str, ...]:
    """Know what the book knows now. Returns the keys that nobody can use for want of their pepper. Raises BooksAway:
    what was known before stands then."""
    return known.replace_all(await book.all())


async def keep_fresh(
    book: KeyBook,
    known: KnownKeys,
    *,
    watcher: BooksWatcher,
    every_s: float = REFRESH_EVERY_S,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Refresh, for ever, until cancelled. While Postgres is away the keys last known stand, and the watcher is told."""
    while True:
        try:
            await refresh_keys(book, known)
        except BooksAway:
            watcher.books_away()
        else:
            watcher.books_answered()
        await pause(every_s)


def _moment(unix_s: float | None) -> str | None:
    if unix_s is None:
        return None
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _check(wish: KeyWish, *, now_s: float) -> None:
    _word(wish.name, "name")
    _word(wish.team, "team")
    _word(wish.cost_centre, "cost_centre")
    if len(wish.tags) > MOST_TAGS:
        raise BadRequest(f"a key has at most {MOST_TAGS} tags, not {len(wish.tags)}", param="tags")
    for tag in wish.tags:
        _word(tag, "tags")
    if wish.models is not None:
        if not 1 <= len(wish.models) <= MOST_MODELS:
            raise BadRequest(
                f"a key may be held to 1 to {MOST_MODELS} models; leave `models` out to allow every model",
                param="models",
            )
        for model in wish.models:
            _word(model, "models")
    if wish.expires_at_s is not None and not now_s < wish.expires_at_s < _LATEST_S:
        raise BadRequest(
            "the expiry lies in the past, or past the year 9998: give another, or none", param="expires_at"
        )


def _word(text: str, param: str) -> None:
    """Words end up in labels, logs and spreadsheets: short, visible, on one line."""
    if not 1 <= len(text) <= LONGEST_WORD:
        raise BadRequest(f"{param}: give 1 to {LONGEST_WORD} characters, not {len(text)}", param=param)
    if not text.isprintable() or text != text.strip():
        raise BadRequest(
            f"{param}: leave out line breaks, control characters and blanks at the ends of {text!r}", param=param
        )
