"""What every report book does, the one in Postgres and the one in memory. Figures are worked out by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations

import pytest

from app.domain.ledger.receipt import Attempt, Receipt
from app.domain.ledger.report import SHADOW, CostQuery, Dimension, Latency, Sums, added, bucket, compiled
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.target import Hosting
from app.domain.usage import NOTHING, Usage, UsageSource
from app.ports import Books, BooksAway, LedgerBook, ReportBook
from app.storage.receipt_json import encode
from tests.makers import a_caller, a_receipt, an_attempt, some_facts

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportBookAtHand:
    """A report book, the ledger book that feeds it, and what makes them go away and come back."""

    book: ReportBook
    ledger: LedgerBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]

    async def after(self, *receipts: Receipt) -> ReportBook:
        await self.ledger.book([encode(receipt) for receipt in receipts])
        return self.book


def told(number: int, at: datetime, *attempts: Attempt, **caller: object) -> Receipt:
    """A complete request at a moment, of some caller, with these attempts."""
    identity = f"019ab000-0000-7000-8000-{number:012x}"
    base = a_receipt(facts=some_facts(request_id=identity, caller=a_caller(**caller)))
    named = tuple(
        replace(attempt, attempt_id=f"{identity}/{place}", number=place) for place, attempt in enumerate(attempts, 1)
    )
    return replace(base, request_id=identity, at_us=int(at.timestamp()) * 1_000_000, attempts=named)


def asked(*by: Dimension, since: datetime = MIDNIGHT, until: datetime = MIDNIGHT + DAY, **named: object) -> CostQuery:
    return CostQuery(since=since, until=until, by=by, **named)  # type: ignore[arg-type]


def groups(books: Books) -> dict[tuple[str, ...], Sums]:
    assert len({line.group for line in books.lines}) == len(books.lines)
    return {line.group: line.sums for line in books.lines}


HOME = an_attempt(target="home", charge=Nanodollars(7))
HOSTED = an_attempt(target="openai", hosting=Hosting.MANAGED, kind="openai", charge=Nanodollars(1_000))
BROKEN = an_attempt(
    target="home",
    outcome=Outcome.BROKEN,
    usage=NOTHING,
    usage_source=UsageSource.NOTHING_SENT,
    ttft_s=None,
    tpot_s=None,
    charge=Nanodollars(0),
)


class ReportBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_a_request_counts_for_the_target_that_ended_it_and_money_for_each_attempts_own(
        self, at_hand: ReportBookAtHand
    ) -> None:
        tried = replace(BROKEN, usage=Usage(prompt=10, output=0), charge=Nanodollars(3))
        book = await at_hand.after(told(1, MIDNIGHT, tried, HOSTED))
        by_target = groups(await book.read(asked(Dimension.TARGET)))
        home, hosted = by_target[("home",)], by_target[("openai",)]
        assert (home.requests, home.attempts, home.charge, home.prompt_tokens, home.complete) == (0, 1, 3, 10, 0)
        assert (hosted.requests, hosted.attempts, hosted.charge, hosted.prompt_tokens) == (1, 1, 1_000, 900)
        assert hosted.complete == 1
        assert Latency.TTFT not in home.latency

    async def test_what_was_refused_before_a_dispatch_counts_for_no_target(self, at_hand: ReportBookAtHand) -> None:
        refused = replace(told(1, MIDNIGHT), outcome=Outcome.REFUSED, status=503)
        books = await (await at_hand.after(refused)).read(asked(Dimension.TARGET, Dimension.HOSTING))
        assert groups(books) == {("", ""): Sums(requests=1, refused=1)}
        assert books.by_hosting == {"": Sums(requests=1, refused=1)}

    async def test_every_figure_of_a_line_is_the_sum_of_its_receipts(self, at_hand: ReportBookAtHand) -> None:
        guessed = replace(
            HOME, usage=Usage(prompt=5, output=3, cached=2, reasoning=1), usage_source=UsageSource.GATEWAY_ESTIMATE
        )
        book = await at_hand.after(
            told(1, MIDNIGHT, HOME),
            replace(told(2, MIDNIGHT + HOUR, guessed), outcome=Outcome.ABANDONED),
            replace(told(3, MIDNIGHT, BROKEN), outcome=Outcome.BROKEN),
            replace(told(4, MIDNIGHT, HOSTED), outcome=Outcome.INTERRUPTED),
        )
        books = await book.read(asked())
        (line,) = books.lines
        assert line.group == ()
        assert replace(line.sums, latency={}) == Sums(
            requests=4,
            attempts=4,
            complete=1,
            abandoned=1,
            broken=1,
            interrupted=1,
            prompt_tokens=900 + 5 + 900,
            cached_tokens=128 + 2 + 128,
            output_tokens=100 + 3 + 100,
            reasoning_tokens=1,
            estimated_attempts=1,
            charge=Nanodollars(7 + 7 + 1_000),
            decode_tokens=99 + 2 + 99,
            decode_s=(99 + 2 + 99) * 0.02,
        )
        assert books.ledger_charge == 1_014
        assert {hosting: sums.charge for hosting, sums in books.by_hosting.items()} == {
            "self_hosted": 14,
            "managed": 1_000,
        }

    async def test_times_are_counted_of_complete_requests_alone(self, at_hand: ReportBookAtHand) -> None:
        slow = replace(HOME, ttft_s=9.0)
        book = await at_hand.after(
            told(1, MIDNIGHT, HOME),
            told(2, MIDNIGHT, HOME),
            told(3, MIDNIGHT, replace(slow, tpot_s=None)),
            replace(told(4, MIDNIGHT, slow), outcome=Outcome.BROKEN),
        )
        (line,) = (await book.read(asked(Dimension.MODEL))).lines
        assert line.sums.latency == {
            Latency.TTFT: {bucket(ms=250): 2, bucket(ms=9_000): 1},
            Latency.TPOT: {bucket(ms=20): 2},
            Latency.DURATION: {bucket(ms=2_310): 3},
        }

    async def test_by_key_there_are_no_times(self, at_hand: ReportBookAtHand) -> None:
        book = await at_hand.after(told(1, MIDNIGHT, HOME, key_id="k1"), told(2, MIDNIGHT, HOME, key_id="k2"))
        by_key = groups(await book.read(asked(Dimension.KEY)))
        assert {group: (sums.charge, sums.latency) for group, sums in by_key.items()} == {
            ("k1",): (7, {}),
            ("k2",): (7, {}),
        }

    async def test_a_period_begins_with_its_first_moment_and_ends_before_its_last(
        self, at_hand: ReportBookAtHand
    ) -> None:
        moments = [MIDNIGHT - timedelta(seconds=1), MIDNIGHT, MIDNIGHT + DAY - timedelta(seconds=1), MIDNIGHT + DAY]
        book = await at_hand.after(*(told(number, moment, HOME) for number, moment in enumerate(moments)))
        for by in ((), (Dimension.KEY,)):
            books = await book.read(asked(*by))
            assert sum(line.sums.requests for line in books.lines) == 2
            assert books.ledger_charge == 14

    async def test_days_and_hours_are_told_in_utc_whatever_the_zone_of_the_question(
        self, at_hand: ReportBookAtHand
    ) -> None:
        book = await at_hand.after(told(1, MIDNIGHT + 23 * HOUR, HOME), told(2, MIDNIGHT + 25 * HOUR, HOME))
        tokyo = timezone(9 * HOUR)
        question = asked(
            Dimension.DAY,
            Dimension.HOUR,
            since=(MIDNIGHT + 23 * HOUR).astimezone(tokyo),
            until=(MIDNIGHT + 26 * HOUR).astimezone(tokyo),
        )
        assert set(groups(await book.read(question))) == {
            ("2026-11-23", "2026-11-23T23:00Z"),
            ("2026-11-24", "2026-11-24T01:00Z"),
        }
        by_key = asked(Dimension.KEY, Dimension.DAY, until=MIDNIGHT + 2 * DAY)
        assert set(groups(await book.read(by_key))) == {("abcdefgh", "2026-11-23"), ("abcdefgh", "2026-11-24")}

    async def test_only_the_cost_centres_asked_for_are_told(self, at_hand: ReportBookAtHand) -> None:
        book = await at_hand.after(
            told(1, MIDNIGHT, HOME, cost_centre="cc-1"), told(2, MIDNIGHT, HOSTED, cost_centre="cc-2")
        )
        for by in ((), (Dimension.KEY,)):
            seen = await book.read(asked(*by, cost_centres=frozenset({"cc-2", "cc-9"})))
            assert [line.sums.charge for line in seen.lines] == [1_000]
            assert seen.ledger_charge == 1_000
            assert set(seen.by_hosting) == {"managed"}
        nothing = await book.read(asked(cost_centres=frozenset()))
        assert (nothing.lines, nothing.by_hosting, nothing.ledger_charge) == ((), {}, 0)

    async def test_copies_for_shadows_are_told_apart_and_still_sum_to_the_ledger(
        self, at_hand: ReportBookAtHand
    ) -> None:
        answer, copy = (
            told(1, MIDNIGHT, HOSTED),
            replace(told(2, MIDNIGHT, HOME), shadow_of=told(1, MIDNIGHT).request_id),
        )
        book = await at_hand.after(answer, copy)
        for by in ((), (Dimension.TEAM,), (Dimension.KEY, Dimension.DAY)):
            books = await book.read(asked(*by))
            assert {line.shadow: line.sums.charge for line in books.lines} == {False: 1_000, True: 7}
            assert {line.shadow: line.sums.requests for line in books.lines} == {False: 1, True: 1}
            assert {name: sums.charge for name, sums in books.by_hosting.items()} == {"managed": 1_000, SHADOW: 7}
            assert books.ledger_charge == 1_007
        timed = await book.read(asked())
        assert [sum(line.sums.latency[Latency.DURATION].values()) for line in timed.lines] == [1, 1]

    async def test_an_empty_period_has_no_line(self, at_hand: ReportBookAtHand) -> None:
        books = await at_hand.book.read(asked(Dimension.TEAM))
        assert (books.lines, books.by_hosting, books.ledger_charge) == ((), {}, 0)

    async def test_every_grouping_sums_to_the_ledger(self, at_hand: ReportBookAtHand) -> None:
        receipts = [
            told(1, MIDNIGHT, HOME, team="a"),
            told(2, MIDNIGHT + 5 * HOUR, BROKEN, HOSTED, team="b", key_id="other"),
            replace(told(3, MIDNIGHT, team="a"), outcome=Outcome.REFUSED),
        ]
        book = await at_hand.after(*receipts)
        for size in range(len(Dimension) + 1):
            for by in combinations(Dimension, size):
                if {Dimension.KEY, Dimension.HOUR} <= set(by):
                    continue
                books = await book.read(asked(*by))
                report = compiled(
                    query=asked(*by),
                    lines=books.lines,
                    by_hosting=books.by_hosting,
                    ledger_charge=books.ledger_charge,
                )
                assert (report.total.charge, report.total.requests) == (1_007, 3)
                assert report.total == added(list(books.by_hosting.values()))

    @pytest.mark.parametrize(
        "question",
        [
            asked(since=MIDNIGHT + timedelta(minutes=30)),
            asked(until=MIDNIGHT + timedelta(microseconds=1)),
            asked(Dimension.KEY, since=MIDNIGHT + HOUR),
            asked(Dimension.KEY, Dimension.HOUR),
            asked(since=MIDNIGHT.replace(tzinfo=None)),
            asked(since=MIDNIGHT + 2 * DAY),
        ],
    )
    async def test_a_question_the_books_cannot_answer_exactly_is_refused(
        self, at_hand: ReportBookAtHand, question: CostQuery
    ) -> None:
        with pytest.raises(ValueError):
            await at_hand.book.read(question)

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(
        self, at_hand: ReportBookAtHand
    ) -> None:
        book = await at_hand.after(told(1, MIDNIGHT, HOME))
        await at_hand.take_away()
        with pytest.raises(BooksAway):
            await book.read(asked())
        await at_hand.bring_back()
        assert (await book.read(asked())).ledger_charge == 7
