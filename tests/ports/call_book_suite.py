"""What every book of calls does, the one in Postgres and the one in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from app.domain.ledger.billing import OurCall
from app.domain.money import Nanodollars
from app.domain.target import Hosting
from app.domain.usage import Usage, UsageSource
from app.ports import LedgerBook
from app.ports.billing import BORDER, CallBook, CalledTarget, CallsQuery
from app.ports.ledger import AdjustmentBook
from tests.billing import MIDNIGHT, THE_DAY, USAGE, hosted
from tests.makers import CARD, NOON
from tests.ports.adjustment_book_suite import a_correction
from tests.ports.ledger_book_suite import receipt, request_id, rows

QUERY = CallsQuery(since=THE_DAY.since, until=THE_DAY.until, targets=("hosted",))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBookAtHand:
    """A book with nothing in it, in small batches, and the books that it reads."""

    book: CallBook
    ledger: LedgerBook
    adjustments: AdjustmentBook


async def read(book: CallBook, query: CallsQuery = QUERY) -> list[OurCall]:
    return [call async for batch in book.calls(query) for call in batch]


class CallBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_an_attempt_comes_as_it_was_booked(self, at_hand: CallBookAtHand) -> None:
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
        given = hosted(1, usage=usage, usage_source=UsageSource.CHECKPOINT, duration_s=1.5)
        await at_hand.ledger.book(rows([given]))
        (call,) = await read(at_hand.book)
        (attempt,) = given.attempts
        assert (call.attempt_id, call.provider_request_id) == (attempt.attempt_id, "req-1")
        assert (call.target, call.model) == ("hosted", "gpt-5-mini")
        assert (call.usage, call.usage_source) == (usage, UsageSource.CHECKPOINT)
        assert call.began_at == NOON + timedelta(microseconds=1_100)
        assert call.ended_at - call.began_at == timedelta(seconds=1.5)
        assert (call.charge, call.credit) == (attempt.charge, 0)
        assert call.counted == ((NOON.date(), attempt.charge),)
        assert (call.price.digest, call.price.scaled) == (CARD.digest, CARD.scaled)

    async def test_all_come_once_by_their_ids_however_many_there_are(self, at_hand: CallBookAtHand) -> None:
        await at_hand.ledger.book(rows([hosted(number) for number in range(8, 0, -1)]))
        expected = [f"{request_id(number)}/1" for number in range(1, 9)]
        assert [call.attempt_id for call in await read(at_hand.book)] == expected

    async def test_targets_say_which_and_their_sellers_are_told(self, at_hand: CallBookAtHand) -> None:
        await at_hand.ledger.book(rows([hosted(1), hosted(2, target="away", kind="groq"), hosted(3), receipt(4)]))
        seen = await at_hand.book.targets(since=THE_DAY.since, until=THE_DAY.until)
        assert list(seen) == [
            CalledTarget(name="away", hosting=Hosting.MANAGED, kind="groq", attempts=1),
            CalledTarget(name="home", hosting=Hosting.SELF_HOSTED, kind="vllm", attempts=1),
            CalledTarget(name="hosted", hosting=Hosting.MANAGED, kind="openai", attempts=2),
        ]
        both = replace(QUERY, targets=("away", "home"))
        assert [call.target for call in await read(at_hand.book, both)] == ["away", "home"]
        assert await read(at_hand.book, replace(QUERY, targets=())) == []
        assert list(await at_hand.book.targets(since=THE_DAY.until, until=THE_DAY.until + BORDER)) == []

    async def test_around_the_period_calls_come_too_and_count_for_nothing_there(self, at_hand: CallBookAtHand) -> None:
        moments = (
            MIDNIGHT - BORDER - timedelta(seconds=1),
            MIDNIGHT - BORDER,
            MIDNIGHT,
            THE_DAY.until,
            THE_DAY.until + BORDER,
        )
        given = [hosted(number, at=at - timedelta(microseconds=number * 1000)) for number, at in enumerate(moments)]
        await at_hand.ledger.book(rows(given))
        found = await read(at_hand.book)
        assert [call.attempt_id[35] for call in found] == ["1", "2", "3"]
        assert [len(call.counted) for call in found] == [0, 1, 0]

    async def test_adjustments_count_and_those_without_tokens_or_prices_are_credits(
        self, at_hand: CallBookAtHand
    ) -> None:
        await at_hand.ledger.book(rows([hosted(1), hosted(2)]))
        base = a_correction(1)
        await at_hand.adjustments.adjust(
            [replace(base, adjustment_id="a", amount=Nanodollars(-10), rate_card_digest="first")]
        )
        await at_hand.adjustments.adjust(
            [replace(base, adjustment_id="b", amount=Nanodollars(4), output_added=3, cached_added=-1)]
        )
        await at_hand.adjustments.adjust([replace(base, adjustment_id="c", amount=Nanodollars(-1_000))])
        corrected, untouched = await read(at_hand.book)
        own = hosted(1).charge
        assert (corrected.charge, corrected.credit) == (own - 1_006, -1_000)
        assert corrected.counted == ((NOON.date(), Nanodollars(own - 1_006)),)
        assert corrected.price.digest == "first"
        assert (corrected.usage.output, corrected.usage.cached) == (USAGE.output + 3, USAGE.cached - 1)
        assert (untouched.charge, untouched.credit) == (own, 0)

    async def test_a_copy_for_a_shadow_is_a_call_like_any(self, at_hand: CallBookAtHand) -> None:
        await at_hand.ledger.book(rows([replace(hosted(2), shadow_of=request_id(1))]))
        assert [call.provider_request_id for call in await read(at_hand.book)] == ["req-2"]
