"""What every key book does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

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

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(self, at_hand: KeyBookAtHand) -> None:
        await at_hand.book.add(a_record())
        await at_hand.take_away()
        with pytest.raises(BooksAway):
            await at_hand.book.all()
        with pytest.raises(BooksAway):
            await at_hand.book.add(a_record("other"))
        with pytest.raises(BooksAway):
            await at_hand.book.revoke("abcdefgh", at_s=1.0)
        await at_hand.bring_back()
        assert await at_hand.book.all() == (a_record(),)
