from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.domain.errors import BadRequest, Unauthenticated
from app.domain.keys import KeyKind, Pepper, Peppers, read_key
from app.domain.limits import RateLimits
from app.flows.keys import (
    MOST_MODELS,
    MOST_TAGS,
    KeyWish,
    Revocation,
    create_key,
    keep_fresh,
    key_state,
    key_view,
    list_keys,
    make_operator_key,
    refresh_keys,
    revoke_key,
    rotate_key,
    write_last_use,
)
from app.live.keys import KnownKeys, KnownOperator
from app.live.limits import SharedLimits
from app.ports import BooksAway, KeyRecord, RowsRefused
from app.ports.keys import Team
from tests.fakes.key_book import MemoryKeyBook
from tests.fakes.team_book import MemoryTeamBook

NOW_S = 1_795_435_200
WISH = KeyWish(name="laptop", team="research", cost_centre="cc-1")
PEPPERS = Peppers({1: Pepper(b"p" * 32, version=1), 2: Pepper(b"q" * 32, version=2)})


class SetClock:
    """A clock that stands where it was put."""

    def __init__(self, unix_s: float = NOW_S) -> None:
        self.unix_s = unix_s

    def monotonic_s(self) -> float:
        return self.unix_s

    def unix_us(self) -> int:
        return int(self.unix_s * 1_000_000)


class Watcher:
    """Writes down what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def books_answered(self) -> None:
        self.told.append("answered")

    def books_away(self) -> None:
        self.told.append("away")


async def made(book: MemoryKeyBook, wish: KeyWish = WISH, *, at_s: float = NOW_S) -> str:
    new = await create_key(book, wish, peppers=PEPPERS, random_bytes=os.urandom, clock=SetClock(at_s))
    return new.text


async def test_a_made_key_opens_and_is_stored_only_as_a_digest() -> None:
    book, known = MemoryKeyBook(), KnownKeys(PEPPERS)
    wish = replace(WISH, tags=("ci",), models=frozenset({"chat"}), expires_at_s=NOW_S + 60.0)
    text = await made(book, wish)
    await refresh_keys(book, known)
    caller = known.find(text, at_s=NOW_S)
    assert (caller.team, caller.cost_centre, caller.tags) == ("research", "cc-1", ("ci",))
    assert caller.models == frozenset({"chat"})
    (record,) = await book.all()
    secret = text.split("_")[2]
    assert secret not in repr(record)
    assert record.pepper_version == 2
    assert record.created_at_s == NOW_S


async def test_a_revoked_key_is_refused_after_the_next_look() -> None:
    book, known = MemoryKeyBook(), KnownKeys(PEPPERS)
    text = await made(book)
    await refresh_keys(book, known)
    key_id = known.find(text, at_s=NOW_S).key_id
    assert await revoke_key(book, key_id, clock=SetClock()) is Revocation.DONE
    await refresh_keys(book, known)
    with pytest.raises(Unauthenticated):
        known.find(text, at_s=NOW_S)


async def test_revoking_says_whether_there_was_anything_to_revoke() -> None:
    book = MemoryKeyBook()
    key = read_key(await made(book))
    assert key is not None
    outcomes = [await revoke_key(book, key_id, clock=SetClock()) for key_id in (key.key_id, key.key_id, "unknown2")]
    assert outcomes == [Revocation.DONE, Revocation.ALREADY, Revocation.UNKNOWN]


async def test_an_id_that_is_taken_is_drawn_again() -> None:
    book = MemoryKeyBook()
    draws = iter([b"\0" * 5, b"s" * 32, b"\0" * 5, b"t" * 32, b"\1" * 5, b"u" * 32])
    keys = [
        await create_key(book, WISH, peppers=PEPPERS, random_bytes=lambda count: next(draws), clock=SetClock())
        for _ in range(2)
    ]
    assert len({new.record.caller.key_id for new in keys}) == 2


async def test_chance_that_never_changes_ends_in_an_error_and_not_in_a_loop() -> None:
    book = MemoryKeyBook()
    await create_key(book, WISH, peppers=PEPPERS, random_bytes=bytes, clock=SetClock())
    with pytest.raises(RowsRefused):
        await create_key(book, WISH, peppers=PEPPERS, random_bytes=bytes, clock=SetClock())


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        (replace(WISH, name=""), "name"),
        (replace(WISH, team="x" * 129), "team"),
        (replace(WISH, team="two\r\nlines"), "team"),
        (replace(WISH, cost_centre="cc\0"), "cost_centre"),
        (replace(WISH, cost_centre=" cc"), "cost_centre"),
        (replace(WISH, name="\x1b[31mred"), "name"),
        (replace(WISH, name="lone \ud800"), "name"),
        (replace(WISH, tags=("",)), "tags"),
        (replace(WISH, tags=("t",) * (MOST_TAGS + 1)), "tags"),
        (replace(WISH, models=frozenset()), "models"),
        (replace(WISH, models=frozenset({"bad\n"})), "models"),
        (replace(WISH, models=frozenset(map(str, range(MOST_MODELS + 1)))), "models"),
        (replace(WISH, expires_at_s=NOW_S), "expires_at"),
        (replace(WISH, expires_at_s=float("nan")), "expires_at"),
        (replace(WISH, expires_at_s=float("inf")), "expires_at"),
        (replace(WISH, expires_at_s=1e18), "expires_at"),
    ],
)
async def test_a_wish_that_cannot_be_granted_names_its_field_and_stores_nothing(wish: KeyWish, param: str) -> None:
    book = MemoryKeyBook()
    with pytest.raises(BadRequest) as caught:
        await made(book, wish)
    assert caught.value.param == param
    assert await book.all() == ()


async def test_sql_in_a_name_is_a_name() -> None:
    book = MemoryKeyBook()
    await made(book, replace(WISH, name="'; drop table virtual_key;--"))
    assert [record.name for record in await list_keys(book)] == ["'; drop table virtual_key;--"]


async def test_keys_are_listed_newest_first() -> None:
    book = MemoryKeyBook()
    for name, at_s in (("old", NOW_S), ("new", NOW_S + 2), ("middle", NOW_S + 1)):
        await made(book, replace(WISH, name=name), at_s=at_s)
    assert [record.name for record in await list_keys(book)] == ["new", "middle", "old"]


async def test_a_view_of_a_key_shows_its_state_and_never_its_digest() -> None:
    book = MemoryKeyBook()
    await made(book, replace(WISH, expires_at_s=NOW_S + 60.0))
    (record,) = await book.all()
    view = key_view(record, now_s=NOW_S)
    assert view["state"] == "in force"
    assert view["expires_at"] == "2026-11-23T12:01:00Z"
    assert not any(isinstance(value, bytes) for value in view.values())
    assert key_state(record, now_s=NOW_S + 60.0) == "expired"
    assert key_state(replace(record, revoked_at_s=1.0), now_s=NOW_S) == "revoked"


async def test_while_postgres_is_away_the_keys_last_known_stand() -> None:
    book, known, watcher = MemoryKeyBook(), KnownKeys(PEPPERS), Watcher()
    text = await made(book)
    looks = asyncio.Semaphore(0)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await looks.acquire()

    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(keep_fresh(book, known, watcher=watcher, every_s=2.0, pause=pause))
        await _until(lambda: len(pauses) == 1)
        book.away = True
        looks.release()
        await _until(lambda: len(pauses) == 2)
        assert known.find(text, at_s=NOW_S).team == "research"
        book.away = False
        later = await made(book, replace(WISH, team="later"))
        looks.release()
        await _until(lambda: len(pauses) == 3)
        assert known.find(later, at_s=NOW_S).team == "later"
        loop.cancel()
    assert watcher.told == ["answered", "away", "answered"]
    assert set(pauses) == {2.0}


async def test_a_postgres_that_says_nothing_is_away_before_it_refuses_and_back_when_it_answers() -> None:
    thawed = asyncio.Event()

    class Frozen(MemoryKeyBook):
        async def all(self) -> Sequence[KeyRecord]:
            await thawed.wait()
            return await super().all()

    watcher = Watcher()
    looking = asyncio.ensure_future(keep_fresh(Frozen(), KnownKeys(PEPPERS), watcher=watcher, answer_within_s=0.01))
    await _until(lambda: watcher.told == ["away"])
    thawed.set()
    await _until(lambda: watcher.told == ["away", "answered"])
    await asyncio.sleep(0.03)
    assert watcher.told == ["away", "answered"]
    looking.cancel()


async def test_a_first_look_without_postgres_is_an_error_for_the_caller_to_decide_on() -> None:
    book = MemoryKeyBook()
    book.away = True
    with pytest.raises(BooksAway):
        await refresh_keys(book, KnownKeys(PEPPERS))


async def test_keys_without_their_pepper_are_reported() -> None:
    book = MemoryKeyBook()
    text = await made(book)
    poorer = KnownKeys(Peppers({1: PEPPERS.by_version[1]}))
    assert await refresh_keys(book, poorer) == (text.split("_")[1],)


def test_a_new_operator_key_opens_the_console_and_nothing_else() -> None:
    text, digest = make_operator_key(peppers=PEPPERS, random_bytes=os.urandom)
    key = read_key(text)
    assert key is not None
    assert key.kind is KeyKind.OPERATOR
    assert KnownOperator(digest=digest, pepper=PEPPERS.newest).holds(text)


async def _until(reached: object) -> None:
    assert callable(reached)
    async with asyncio.timeout(10):
        while not reached():
            await asyncio.sleep(0)


async def rotated(book: MemoryKeyBook, key_id: str, *, overlap_s: float = 3600.0, at_s: float = NOW_S) -> str:
    new = await rotate_key(
        book, key_id, overlap_s=overlap_s, peppers=PEPPERS, random_bytes=os.urandom, clock=SetClock(at_s)
    )
    return new.text


async def test_a_rotated_key_opens_until_the_overlap_is_over_and_its_successor_goes_on() -> None:
    book, known, limits = MemoryKeyBook(), KnownKeys(PEPPERS), SharedLimits()
    wish = replace(
        WISH, tags=("ci",), models=frozenset({"chat"}), limits=RateLimits(requests_per_minute=3, tokens_per_minute=4)
    )
    old = await made(book, wish)
    new = await rotated(book, old.split("_")[1])
    newest = await rotated(book, new.split("_")[1])
    await refresh_keys(book, known, limits=limits)
    callers = [known.find(text, at_s=NOW_S + 3599) for text in (old, new, newest)]
    assert len({(each.team, each.cost_centre, each.tags, each.models) for each in callers}) == 1
    assert len({limits.of(each) for each in callers}) == 1
    for text in (old, new):
        with pytest.raises(Unauthenticated, match="expired"):
            known.find(text, at_s=NOW_S + 3600)
    assert known.find(newest, at_s=NOW_S + 3600).team == "research"


@pytest.mark.parametrize("overlap_s", [-1.0, float("nan"), 91 * 86_400.0])
async def test_an_overlap_out_of_bounds_is_refused(overlap_s: float) -> None:
    book = MemoryKeyBook()
    key_id = (await made(book)).split("_")[1]
    with pytest.raises(BadRequest, match="overlap"):
        await rotated(book, key_id, overlap_s=overlap_s)
    assert len(await book.all()) == 1


async def test_a_key_that_is_gone_revoked_or_followed_is_not_rotated() -> None:
    book = MemoryKeyBook()
    followed, revoked = [(await made(book)).split("_")[1] for _ in range(2)]
    await rotated(book, followed)
    await revoke_key(book, revoked, clock=SetClock())
    for key_id, why in ((followed, "rotated already"), (revoked, "is revoked"), ("missing2", "no key")):
        with pytest.raises(BadRequest, match=why):
            await rotated(book, key_id)
    assert len(await book.all()) == 3


async def test_the_last_use_is_written_to_the_minute_and_kept_while_postgres_is_away() -> None:
    book, known = MemoryKeyBook(), KnownKeys(PEPPERS)
    text = await made(book)
    await refresh_keys(book, known)
    known.find(text, at_s=NOW_S + 61.5)
    book.away = True
    await write_last_use(book, known)
    book.away = False
    await write_last_use(book, known)
    await write_last_use(book, known)
    (record,) = await book.all()
    assert record.last_used_at_s == NOW_S + 60.0


async def test_limits_of_teams_are_known_with_the_keys() -> None:
    book, known, limits = MemoryKeyBook(), KnownKeys(PEPPERS), SharedLimits()
    text = await made(book)
    team = Team(name="research", cost_centre="cc-1", created_at_s=0.0, limits=RateLimits(requests_per_minute=2))
    await refresh_keys(book, known, teams=MemoryTeamBook(team), limits=limits)
    assert [one.name for one in limits.of(known.find(text, at_s=NOW_S))] == ["team/research/requests"]
