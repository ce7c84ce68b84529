"""`app.storage.rated_book`: attempts as they stand, with everything that adjustments added."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.domain.ledger.adjustment import Adjustment
from app.domain.ledger.rerating import Rated
from app.domain.money import Nanodollars
from app.domain.usage import Usage
from app.ports.corrections import RatedQuery
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.rated_book import PostgresRatedBook
from tests.makers import NOON, an_attempt, some_facts
from tests.ports.adjustment_book_suite import a_correction
from tests.ports.ledger_book_suite import receipt, request_id, rows

THE_DAY = RatedQuery(since=NOON - timedelta(hours=12), until=NOON + timedelta(hours=12))


async def read(book: PostgresRatedBook, query: RatedQuery = THE_DAY) -> list[Rated]:
    return [rated async for batch in book.rated(query) for rated in batch]


async def test_an_attempt_comes_as_it_was_booked_with_every_kind_of_token(database: Database) -> None:
    usage = Usage(
        prompt=900,
        output=100,
        cached=100,
        reasoning=7,
        cache_write=50,
        cache_write_1h=20,
        audio_prompt=9,
        audio_output=3,
        searches=2,
        tier="flex",
    )
    given = receipt(1)
    given = replace(given, attempts=(replace(given.attempts[0], usage=usage),))
    await PostgresLedgerBook(database).book(rows([given]))
    (rated,) = await read(PostgresRatedBook(database))
    (attempt,) = given.attempts
    assert (rated.usage, rated.charge, rated.adjustments) == (usage, attempt.charge, 0)
    assert (rated.attempt_id, rated.target, rated.rate_card_digest) == (
        attempt.attempt_id,
        attempt.target,
        attempt.rate_card_digest,
    )
    assert rated.started_at == datetime.fromtimestamp(attempt.started_us / 1e6, UTC)


async def test_prices_and_tokens_that_were_adjusted_count_and_a_credit_does_not(database: Database) -> None:
    await PostgresLedgerBook(database).book(rows([receipt(1)]))
    book = PostgresAdjustmentBook(database)
    base: Adjustment = a_correction(1)
    await book.adjust([replace(base, adjustment_id="a", amount=Nanodollars(-10), rate_card_digest="first")])
    await book.adjust([replace(base, adjustment_id="b", amount=Nanodollars(-20), rate_card_digest="second")])
    await book.adjust([replace(base, adjustment_id="c", amount=Nanodollars(4), output_added=3, cached_added=-1)])
    await book.adjust([replace(base, adjustment_id="d", amount=Nanodollars(-1_000))])
    (rated,) = await read(PostgresRatedBook(database))
    attempt = receipt(1).attempts[0]
    assert rated.charge == attempt.charge - 26
    assert rated.rate_card_digest == "second"
    assert (rated.usage.output, rated.usage.cached) == (attempt.usage.output + 3, attempt.usage.cached - 1)
    assert rated.adjustments == 4


async def test_all_come_once_in_batches_of_any_size(database: Database) -> None:
    await PostgresLedgerBook(database).book(rows([receipt(number) for number in range(7)]))
    for batch_most in (1, 3, 7, 100):
        found = await read(PostgresRatedBook(database, batch_most=batch_most))
        assert [rated.attempt_id for rated in found] == [f"{request_id(number)}/1" for number in range(7)]


async def test_period_target_and_model_say_which(database: Database) -> None:
    other = receipt(2, facts=some_facts(request_id=request_id(2), model="other"))
    away = replace(receipt(3), attempts=(an_attempt(attempt_id=f"{request_id(3)}/1", target="away"),))
    await PostgresLedgerBook(database).book(rows([receipt(1), other, away]))
    book = PostgresRatedBook(database)

    async def numbers(query: RatedQuery) -> list[str]:
        return [rated.attempt_id[35] for rated in await read(book, query)]

    assert await numbers(THE_DAY) == ["1", "2", "3"]
    assert await numbers(replace(THE_DAY, model="other")) == ["2"]
    assert await numbers(replace(THE_DAY, target="away")) == ["3"]
    assert await numbers(replace(THE_DAY, target="away", model="other")) == []
    second = datetime.fromtimestamp(receipt(2).at_us / 1e6, UTC)
    assert await numbers(replace(THE_DAY, since=second)) == ["2", "3"]
    assert await numbers(replace(THE_DAY, until=second)) == ["1"]
