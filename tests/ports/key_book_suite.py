"""What every key book does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from app.domain.limits import UNLIMITED, RateLimits
from app.ports import BooksAway, KeyBook, KeyRecord, RowsRefused
from tests.makers import a_caller


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBookAtHand:
    """A book with no keys in it, and what makes it go away and come back."""

    book: KeyBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]


def a_record(key_id: str = "abcdefgh", **caller: object) -> KeyRecord:
    return KeyRecord(
        caller=a_caller(key_id=key_id, **caller),
        name="the nightly job",
        digest=bytes(range(32)),
        pepper_version=1,
        created_at_s=1_795_435_200.123456789,
    )


class KeyBookSuite:
    """Subclasses give the fixture `at_hand`."""

    @pytest.mark.parametrize(
        "record",
        [
            a_record(),
            a_record(
                tags=("b", "a", "b", 'x,y "z"'), models=frozenset({"chat", "org/model"}), expires_at_s=1e9 + 1 / 3
            ),
            a_record(models=frozenset()),
            a_record(team="tëam 日本"),
            replace(a_record(), revoked_at_s=1_795_435_201.5),
            replace(
                a_record(),
                limits=RateLimits(requests_per_minute=100, tokens_per_minute=10**12),
                lineage="firstkey",
                last_used_at_s=1_795_435_260.0,
            ),
        ],
    )
    async def test_a_key_comes_back_exactly_as_it_was_added(self, at_hand: KeyBookAtHand, record: KeyRecord) -> None:
        await at_hand.book.add(record)
        assert await at_hand.book.all() == (record,)

    async def test_keys_come_oldest_first(self, at_hand: KeyBookAtHand) -> None:
        young, old = replace(a_record("young"), created_at_s=2.0), replace(a_record("old"), created_at_s=1.0)
        await at_hand.book.add(young)
        await at_hand.book.add(old)
        assert await at_hand.book.all() == (old, young)

    async def test_a_key_id_is_given_once(self, at_hand: KeyBookAtHand) -> None:
        await at_hand.book.add(a_record())
        with pytest.raises(RowsRefused):
            await at_hand.book.add(replace(a_record(), name="another"))
        assert await at_hand.book.all() == (a_record(),)

    async def test_the_first_revocation_stands(self, at_hand: KeyBookAtHand) -> None:
        await at_hand.book.add(a_record("one"))
        await at_hand.book.add(a_record("two"))
        assert await at_hand.book.revoke("one", at_s=100.25)
        assert not await at_hand.book.revoke("one", at_s=200.0)
        assert {record.caller.key_id: record.revoked_at_s for record in await at_hand.book.all()} == {
            "one": 100.25,
            "two": None,
        }

    async def test_nobody_revokes_a_key_that_is_not_there(self, at_hand: KeyBookAtHand) -> None:
        assert not await at_hand.book.revoke("missing", at_s=1.0)

    async def test_a_key_that_is_followed_ends_in_time_and_names_its_successor(self, at_hand: KeyBookAtHand) -> None:
        book, new = at_hand.book, replace(a_record("newwwwww"), created_at_s=2e9, lineage="oldddddd")
        await book.add(a_record("oldddddd"))
        assert await book.follow("oldddddd", by=new, until_s=3e9)
        old, added = await book.all()
        assert (old.caller.expires_at_s, old.successor, old.revoked_at_s) == (3e9, "newwwwww", None)
        assert added == new
        assert old.root == added.root == "oldddddd"

    async def test_a_key_that_ends_sooner_still_does_when_it_is_followed(self, at_hand: KeyBookAtHand) -> None:
        await at_hand.book.add(a_record("oldddddd", expires_at_s=5.0))
        assert await at_hand.book.follow("oldddddd", by=replace(a_record("newwwwww"), created_at_s=2e9), until_s=9.0)
        assert (await at_hand.book.all())[0].caller.expires_at_s == 5.0

    async def test_what_cannot_be_followed_adds_nothing(self, at_hand: KeyBookAtHand) -> None:
        book = at_hand.book
        await book.add(replace(a_record("revoked2"), revoked_at_s=1.0))
        await book.add(a_record("followed"))
        assert await book.follow("followed", by=a_record("firstnew"), until_s=9.0)
        for key_id in ("revoked2", "followed", "missing2"):
            assert not await book.follow(key_id, by=a_record("another2"), until_s=9.0)
        with pytest.raises(RowsRefused):
            await book.follow("firstnew", by=a_record("followed"), until_s=9.0)
        assert {record.caller.key_id: record.successor for record in await book.all()} == {
            "revoked2": None,
            "followed": "firstnew",
            "firstnew": None,
        }

    async def test_limits_change_for_all_keys_that_followed_one_another(self, at_hand: KeyBookAtHand) -> None:
        book, limits = at_hand.book, RateLimits(requests_per_minute=5)
        await book.add(a_record("first222"))
        await book.add(a_record("other222"))
        await book.follow("first222", by=replace(a_record("second22"), lineage="first222"), until_s=9e9)
        assert await book.limit("second22", limits)
        assert not await book.limit("missing2", limits)
        assert {record.caller.key_id: record.limits for record in await book.all()} == {
            "first222": limits,
            "second22": limits,
            "other222": UNLIMITED,
        }

    async def test_the_last_use_never_goes_back(self, at_hand: KeyBookAtHand) -> None:
        book = at_hand.book
        await book.add(a_record("one"))
        await book.add(a_record("two"))
        await book.used({})
        await book.used({"one": 120.0, "missing": 60.0})
        await book.used({"one": 60.0, "two": 180.0})
        assert {record.caller.key_id: record.last_used_at_s for record in await book.all()} == {
            "one": 120.0,
            "two": 180.0,
        }

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(self, at_hand: KeyBookAtHand) -> None:
        await at_hand.book.add(a_record())
        await at_hand.take_away()
        with pytest.raises(BooksAway):
            await at_hand.book.all()
        with pytest.raises(BooksAway):
            await at_hand.book.add(a_record("other"))
        with pytest.raises(BooksAway):
            await at_hand.book.revoke("abcdefgh", at_s=1.0)
        with pytest.raises(BooksAway):
            await at_hand.book.follow("abcdefgh", by=a_record("other"), until_s=1.0)
        with pytest.raises(BooksAway):
            await at_hand.book.limit("abcdefgh", UNLIMITED)
        with pytest.raises(BooksAway):
            await at_hand.book.used({"abcdefgh": 60.0})
        await at_hand.bring_back()
        assert await at_hand.book.all() == (a_record(),)
