"""Virtual keys: made, listed, revoked, and known everywhere within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

from app.domain.caller import Caller
from app.domain.errors import BadRequest
from app.domain.keys import ID_BYTES, SECRET_BYTES, KeyKind, Peppers, key_id_of, write_key
from app.domain.limits import UNLIMITED, RateLimits
from app.live.keys import KnownKeys
from app.live.limits import SharedLimits
from app.ports import BooksAway, Clock, KeyBook, KeyRecord, RowsRefused
from app.ports.deadline import Deadline
from app.ports.keys import TeamBook

RandomBytes = Callable[[int], bytes]

LONGEST_WORD: Final = 128
MOST_TAGS: Final = 16
MOST_MODELS: Final = 256
#: How often a process looks for keys that were made or revoked elsewhere.
REFRESH_EVERY_S: Final = 2.0
#: A Postgres that has not answered a look after so long is away, though the look goes on: one that is frozen refuses
#: nothing for many seconds.
ANSWER_WITHIN_S: Final = 2.0
#: How often it is written down when keys were used last.
LAST_USE_EVERY_S: Final = 60.0
#: A key that was rotated goes on for so long at most.
OVERLAP_MOST_S: Final = 90 * 86_400
_MINUTE_S: Final = 60.0
_MICROSECONDS: Final = 1_000_000
_TRIES: Final = 3
#: 9999-01-01: later moments are no dates.
_LATEST_S: Final = 253_370_764_800


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWish:
    """What a new key shall stand for."""

    name: str
    team: str
    #: None: its team's.
    cost_centre: str | None = None
    tags: tuple[str, ...] = ()
    #: None: every model.
    models: frozenset[str] | None = None
    #: Unix seconds; None: never.
    expires_at_s: float | None = None
    limits: RateLimits = UNLIMITED


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
    """Is told at every look whether Postgres answered, and meanwhile when it is late."""

    def books_answered(self) -> None: ...

    def books_away(self) -> None: ...


async def create_key(
    book: KeyBook,
    wish: KeyWish,
    *,
    peppers: Peppers,
    random_bytes: RandomBytes,
    clock: Clock,
    teams: TeamBook | None = None,
) -> NewKey:
    """Make a key and keep its digest. Raises BadRequest naming the field at fault, and BooksAway.

    Once there is any team in `teams`, a key belongs to one of them. A key whose making ended in BooksAway may be in the
    books, yet nobody has its text: list and revoke it.
    """
    now_s = clock.unix_us() / _MICROSECONDS
    check_wish(wish, now_s=now_s)
    cost_centre = await cost_centre_of(wish.team, wish.cost_centre, teams=teams)
    for left in reversed(range(_TRIES)):
        new = _new_key(
            KeyRecord(
                caller=Caller(
                    key_id="",
                    team=wish.team,
                    cost_centre=cost_centre,
                    tags=wish.tags,
                    models=wish.models,
                    expires_at_s=wish.expires_at_s,
                ),
                name=wish.name,
                digest=b"",
                pepper_version=0,
                created_at_s=now_s,
                limits=wish.limits,
            ),
            peppers=peppers,
            random_bytes=random_bytes,
        )
        try:
            await book.add(new.record)
        except RowsRefused:
            # An id is 40 random bits: that it is taken happens once in a long while, twice in a row never.
            if not left:
                raise
        else:
            return new
    raise AssertionError("the last try returns or raises")


async def rotate_key(
    book: KeyBook, key_id: str, *, overlap_s: float, peppers: Peppers, random_bytes: RandomBytes, clock: Clock
) -> NewKey:
    """A new key that stands for the same as this one, which expires `overlap_s` from now and names its successor.

    They share their limits meanwhile. Raises BadRequest for a key that cannot be followed, and BooksAway.
    """
    if not 0 <= overlap_s <= OVERLAP_MOST_S:
        raise BadRequest(f"the overlap is 0 to {OVERLAP_MOST_S // 86_400} days: give it as 24h or 7d", param="overlap")
    old = await find_key(book, key_id)
    now_s = clock.unix_us() / _MICROSECONDS
    state = key_state(old, now_s=now_s)
    if state != "in force":
        raise BadRequest(f"the key {key_id} is {state}: make a new one with `breakeven key create`", param="key")
    if old.successor is not None:
        raise BadRequest(f"the key {key_id} was rotated already: its successor is {old.successor}", param="key")
    new = _new_key(
        replace(old, created_at_s=now_s, lineage=old.root, last_used_at_s=None),
        peppers=peppers,
        random_bytes=random_bytes,
    )
    if not await book.follow(key_id, by=new.record, until_s=now_s + overlap_s):
        raise BadRequest(
            f"the key {key_id} was revoked or rotated just now: look with `breakeven key list`", param="key"
        )
    return new


async def find_key(book: KeyBook, key_id: str) -> KeyRecord:
    """The key's record. Raises BadRequest when there is none, and BooksAway."""
    for record in await book.all():
        if record.caller.key_id == key_id:
            return record
    raise BadRequest(f"there is no key {key_id[:40]!r}: `breakeven key list` shows the ids", param="key")


async def cost_centre_of(team: str, asked: str | None, *, teams: TeamBook | None) -> str:
    """Who pays for a key of this team: who is asked for, otherwise who pays for the team.

    Raises BadRequest when nobody is known, and for a team that is not there although others are. Raises BooksAway.
    """
    known = {} if teams is None else {each.name: each for each in await teams.all()}
    if team in known:
        return asked or known[team].cost_centre
    if known:
        raise BadRequest(
            f"nobody has made a team {team!r}: make it with `breakeven team create NAME --cost-centre …`; "
            f"`breakeven team list` shows those there are, and which of them only keys name",
            param="team",
        )
    if asked is None:
        raise BadRequest(
            f"nobody pays for a key of {team!r} yet: give the cost centre, or make the team with "
            "`breakeven team create NAME --cost-centre …`",
            param="cost_centre",
        )
    return asked


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
        "requests_per_minute": record.limits.requests_per_minute,
        "tokens_per_minute": record.limits.tokens_per_minute,
        "successor": record.successor,
        "last_used_at": _moment(record.last_used_at_s),
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


async def refresh_keys(
    book: KeyBook, known: KnownKeys, *, teams: TeamBook | None = None, limits: SharedLimits | None = None
) -> tuple[str, ...]:
    """Know what the books know now, the limits of keys and teams too. Returns the keys that nobody can use for want of
    their pepper. Raises BooksAway: what was known before stands then."""
    records = await book.all()
    if limits is not None:
        limits.follow(
            keys={record.caller.key_id: (record.root, record.limits) for record in records},
            teams={} if teams is None else {team.name: team.limits for team in await teams.all()},
        )
    return known.replace_all(records)


async def keep_fresh(
    book: KeyBook,
    known: KnownKeys,
    *,
    watcher: BooksWatcher,
    teams: TeamBook | None = None,
    limits: SharedLimits | None = None,
    every_s: float = REFRESH_EVERY_S,
    answer_within_s: float = ANSWER_WITHIN_S,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Refresh, for ever, until cancelled. While Postgres is away the keys last known stand, and the watcher is told.

    `pause` returns after so many seconds, or sooner when somebody knows that there is something to see.
    """
    loop = asyncio.get_running_loop()
    silent = Deadline(loop, watcher.books_away)
    while True:
        silent.move(loop.time() + answer_within_s)
        try:
            await refresh_keys(book, known, teams=teams, limits=limits)
        except BooksAway:
            watcher.books_away()
        else:
            watcher.books_answered()
        finally:
            silent.stop()
        await pause(every_s)


async def keep_last_use(book: KeyBook, known: KnownKeys, *, every_s: float = LAST_USE_EVERY_S) -> None:
    """Write down when keys were used last, once a minute, for ever, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        await write_last_use(book, known)


async def write_last_use(book: KeyBook, known: KnownKeys) -> None:
    """Once; what cannot be written while Postgres is away is kept for the next time."""
    used = known.used()
    try:
        await book.used({key_id: at_s - at_s % _MINUTE_S for key_id, at_s in used.items()})
    except BooksAway:
        known.used_too(used)


def _new_key(like: KeyRecord, *, peppers: Peppers, random_bytes: RandomBytes) -> NewKey:
    """A key of a new id and a new secret that stands for the same as `like`."""
    key_id = key_id_of(random_bytes(ID_BYTES))
    text = write_key(key_id, random_bytes(SECRET_BYTES))
    pepper = peppers.newest
    record = replace(
        like,
        caller=replace(like.caller, key_id=key_id),
        digest=pepper.digest(text.encode()),
        pepper_version=pepper.version,
    )
    return NewKey(text=text, record=record)


def _moment(unix_s: float | None) -> str | None:
    if unix_s is None:
        return None
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def check_wish(wish: KeyWish, *, now_s: float) -> None:
    """Raises BadRequest naming the field at fault. `now_s` is Unix time."""
    check_word(wish.name, "name")
    check_word(wish.team, "team")
    if wish.cost_centre is not None:
        check_word(wish.cost_centre, "cost_centre")
    if len(wish.tags) > MOST_TAGS:
        raise BadRequest(f"a key has at most {MOST_TAGS} tags, not {len(wish.tags)}", param="tags")
    for tag in wish.tags:
        check_word(tag, "tags")
    if wish.models is not None:
        if not 1 <= len(wish.models) <= MOST_MODELS:
            raise BadRequest(
                f"a key may be held to 1 to {MOST_MODELS} models; leave `models` out to allow every model",
                param="models",
            )
        for model in wish.models:
            check_word(model, "models")
    if wish.expires_at_s is not None and not now_s < wish.expires_at_s < _LATEST_S:
        raise BadRequest(
            "the expiry lies in the past, or past the year 9998: give another, or none", param="expires_at"
        )


def check_word(text: str, param: str) -> None:
    """Raises BadRequest naming `param`. Words end up in labels, logs and spreadsheets: short, visible, on one line."""
    if not 1 <= len(text) <= LONGEST_WORD:
        raise BadRequest(f"{param}: give 1 to {LONGEST_WORD} characters, not {len(text)}", param=param)
    if not text.isprintable() or text != text.strip():
        raise BadRequest(
            f"{param}: leave out line breaks, control characters and blanks at the ends of {text!r}", param=param
        )
