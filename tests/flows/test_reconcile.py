"""`app.flows.reconcile`, over real books: what was planted into a seller's export is found, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from app.documents.provider_export import read_export
from app.domain.errors import BadRequest
from app.domain.ledger.billing import Export
from app.domain.ledger.period import Period
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.reconciliation import Band, Cause, Reconciliation
from app.domain.pricing.charge import charge
from app.domain.pricing.price_list import DatedCard
from app.domain.usage import UsageSource
from app.flows.reconcile import Reconciling, compared_targets, period_of, reconcile_provider
from app.ports.ledger import AdjustmentBook
from app.ports.prices import PriceRow, PriceSource
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.call_book import PostgresCallBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.price_book import PostgresPriceBook
from tests.billing import MIDNIGHT, THE_DAY, USAGE, csv_of, hosted, line_of, usd
from tests.domain.ledger.test_reconcile_calls import TIERED
from tests.makers import CARD, NOON
from tests.ports.adjustment_book_suite import a_correction
from tests.ports.ledger_book_suite import receipt, rows

COST = charge(usage=USAGE, price=CARD)
FLEX = charge(usage=replace(USAGE, tier="flex"), price=TIERED)
UNCACHED = charge(usage=replace(USAGE, cached=0), price=CARD)
LONGER = charge(usage=replace(USAGE, output=140), price=CARD)


def books_of(database: Database) -> Reconciling:
    return Reconciling(calls=PostgresCallBook(database, batch_most=7), prices=PostgresPriceBook(database))


async def reconciled(database: Database, export: Export | str, *, period: Period | None = None) -> Reconciliation:
    if isinstance(export, str):
        export = read_export([("export", export.splitlines(keepends=True))])
    books, asked = books_of(database), period or period_of(export)
    targets = await compared_targets(books.calls, asked, provider="openai")
    return await reconcile_provider(books, export, period=asked, targets=targets)


async def a_month(database: Database) -> list[Receipt]:
    """Forty calls on two days at a seller's, one of them estimated, and others that its bill is not about."""
    given = [hosted(number, at=NOON + timedelta(days=number % 2)) for number in range(40)]
    given[39] = hosted(39, at=NOON + timedelta(days=1), usage_source=UsageSource.CHECKPOINT)
    for_tier = TIERED.digest
    given[38] = hosted(38, rate_card_digest=for_tier)
    elsewhere = [receipt(50), hosted(51, target="groq-mini", kind="groq")]
    await PostgresLedgerBook(database).book(rows([*given, *elsewhere]))
    row = PriceRow(
        name="hosted", model="gpt-5-mini", source=PriceSource.POLICY, dated=DatedCard(card=TIERED), first_seen_s=1
    )
    await PostgresPriceBook(database).remember([row])
    return given


async def test_an_export_of_the_books_themselves_leaves_nothing(database: Database) -> None:
    given = await a_month(database)
    result = await reconciled(database, csv_of(line_of(each) for each in given))
    assert (result.band, result.total.residual, result.causes, result.largest) == (Band.GREEN, 0, (), ())
    assert result.total.ours == result.total.provider == 40 * COST
    assert (result.total.our_requests, result.total.provider_requests) == (40, 40)
    assert len(result.days) == 2


async def test_five_planted_errors_are_five_found_each_by_its_name_and_to_the_last_nanodollar(
    database: Database,
) -> None:
    given = await a_month(database)
    lines = [line_of(each) for each in given]
    lines[3]["cost"] = usd(COST + 1_234)
    lines[8].update(cached_tokens="0", cost=usd(UNCACHED))
    lines[38].update(service_tier="flex", cost=usd(FLEX))
    missing = lines.pop(20)
    lines.append({**lines[5], "request_id": "req-nobody"})
    result = await reconciled(database, csv_of(reversed(lines)))
    found = {each.request: each.causes for each in result.largest}
    assert found == {
        "req-3": ((Cause.PRICE, 1_234),),
        "req-8": ((Cause.CACHED, UNCACHED - COST),),
        "req-38": ((Cause.TIER, FLEX - COST),),
        missing["request_id"]: ((Cause.NOT_AT_PROVIDER, -COST),),
        "req-nobody": ((Cause.UNLOGGED, COST),),
    }
    assert {line.cause: (line.requests, line.amount) for line in result.causes} == {
        cause: (1, amount) for causes in found.values() for cause, amount in causes
    }
    assert sum(line.amount for line in result.causes) == result.total.residual


async def test_an_estimate_of_ours_a_shifted_day_and_a_second_billing_are_told_apart_too(database: Database) -> None:
    given = await a_month(database)
    lines = [line_of(each) for each in given]
    lines[39].update(output_tokens="140", cost=usd(LONGER))
    lines[4]["time"] = (NOON + timedelta(days=1)).isoformat()
    lines.append(dict(lines[7]))
    result = await reconciled(database, csv_of(lines))
    causes = {line.cause: (line.requests, line.more, line.less) for line in result.causes}
    assert causes == {
        Cause.BILLED_TWICE: (1, COST, 0),
        Cause.ESTIMATE: (1, LONGER - COST, 0),
        Cause.TIME_BORDER: (1, COST, -COST),
    }


async def test_rounded_lines_show_what_their_rounding_makes(database: Database) -> None:
    given = await a_month(database)
    result = await reconciled(database, csv_of(line_of(each, cost="0.0004") for each in given))
    (line,) = result.causes
    assert (line.cause, line.requests, line.amount) == (Cause.ROUNDING, 40, 40 * (400_000 - COST))


def bucket(day: datetime, *results: dict[str, object]) -> dict[str, object]:
    begin = int(day.timestamp())
    return {"object": "bucket", "start_time": begin, "end_time": begin + 86_400, "results": list(results)}


def used(model: str, count: int, **named: object) -> dict[str, object]:
    counts = {
        "input_tokens": USAGE.prompt * count,
        "input_cached_tokens": USAGE.cached * count,
        "output_tokens": USAGE.output * count,
        "num_model_requests": count,
    }
    return {"object": "organization.usage.completions.result", "model": f"{model}-2025-08-07", **counts, **named}


def paid(item: str, amount: int) -> dict[str, object]:
    value = float(usd(amount))
    return {"object": "organization.costs.result", "line_item": item, "amount": {"value": value, "currency": "usd"}}


def pages(*buckets: dict[str, object]) -> list[str]:
    return [json.dumps({"object": "page", "data": list(buckets), "has_more": False})]


def from_pages(usage: Sequence[str], costs: Sequence[str]) -> Export:
    return read_export([("usage.json", usage), ("costs.json", costs)])


async def test_sellers_days_of_usage_and_costs_leave_nothing_and_five_planted_errors_are_five_found(
    database: Database,
) -> None:
    models = ("alpha", "beta", "gamma", "delta", "epsilon")
    given = [
        hosted(
            10 * place + number,
            upstream_model=model,
            usage_source=UsageSource.CHECKPOINT if model == "epsilon" and number == 0 else UsageSource.PROVIDER_FINAL,
        )
        for place, model in enumerate(models)
        for number in range(10)
    ]
    await PostgresLedgerBook(database).book(rows(given))
    clean = from_pages(
        pages(bucket(MIDNIGHT, *(used(model, 10) for model in models))),
        pages(bucket(MIDNIGHT, *(paid(f"{model}-2025-08-07, all", 10 * COST) for model in models))),
    )
    result = await reconciled(database, clean)
    assert (result.band, result.causes, list(result.models)) == (Band.GREEN, (), sorted(models))
    assert result.total.provider == 50 * COST

    planted = from_pages(
        pages(
            bucket(
                MIDNIGHT,
                used("alpha", 11),
                used("beta", 10),
                used("gamma", 10, input_cached_tokens=0),
                used("delta", 9),
                used("epsilon", 10, output_tokens=10 * USAGE.output + 40),
            )
        ),
        pages(
            bucket(
                MIDNIGHT,
                paid("alpha-2025-08-07, all", 11 * COST),
                paid("beta-2025-08-07, all", 12 * COST),
                paid("gamma-2025-08-07, all", 10 * UNCACHED),
                paid("delta-2025-08-07, all", 9 * COST),
                paid("epsilon-2025-08-07, all", 9 * COST + LONGER),
            )
        ),
    )
    result = await reconciled(database, planted)
    assert {model: dict(causes) for (model, _), causes in result.causes_of_days.items()} == {
        "alpha": {Cause.UNLOGGED: COST},
        "beta": {Cause.PRICE: 2 * COST},
        "gamma": {Cause.CACHED: 10 * (UNCACHED - COST)},
        "delta": {Cause.NOT_AT_PROVIDER: -COST},
        "epsilon": {Cause.ESTIMATE: LONGER - COST},
    }
    assert result.band is Band.RED


async def test_books_that_were_corrected_are_compared_as_they_stand(database: Database) -> None:
    await PostgresLedgerBook(database).book(rows([hosted(1), hosted(2)]))
    adjustments: AdjustmentBook = PostgresAdjustmentBook(database)
    base = a_correction(1, amount=LONGER - COST)
    await adjustments.adjust([replace(base, output_added=40, reason="the seller counted more")])
    longer = line_of(hosted(1), output_tokens="140", cost=usd(LONGER))
    assert (await reconciled(database, csv_of([longer, line_of(hosted(2))]))).causes == ()
    by_day = "day,model,requests,input_tokens,cached_tokens,output_tokens,cost\n"
    day = f"2026-11-23,gpt-5-mini,2,1800,256,240,{usd(LONGER + COST)}\n"
    assert (await reconciled(database, by_day + day)).causes == ()


async def test_lines_outside_the_period_find_their_calls_and_are_not_summed(database: Database) -> None:
    late = hosted(1, at=THE_DAY.until - timedelta(seconds=1))
    await PostgresLedgerBook(database).book(rows([late, hosted(2)]))
    after = (THE_DAY.until + timedelta(seconds=3)).isoformat()
    export = csv_of([line_of(late, time=after), line_of(hosted(2))])
    result = await reconciled(database, export, period=THE_DAY)
    (line,) = result.causes
    assert (line.cause, line.amount, result.total.provider) == (Cause.TIME_BORDER, -COST, COST)
    assert (await reconciled(database, export)).total.residual == 0


async def test_projects_may_be_chosen(database: Database) -> None:
    await PostgresLedgerBook(database).book(rows([hosted(1)]))
    text = f"day,model,project_id,cost\n2026-11-23,gpt-5-mini,ours,{usd(COST)}\n2026-11-23,gpt-5-mini,theirs,5\n"
    export = read_export([("export", text.splitlines(keepends=True))])
    books, period = books_of(database), period_of(export)
    targets = await compared_targets(books.calls, period)

    async def total(*projects: str) -> int:
        result = await reconcile_provider(books, export, period=period, targets=targets, projects=projects)
        return result.total.residual

    assert (await total(), await total("ours")) == (5_000_000_000, 0)
    with pytest.raises(BadRequest, match="holds no line of that project"):
        await total("nobody")


async def test_days_are_compared_by_whole_days(database: Database) -> None:
    await PostgresLedgerBook(database).book(rows([hosted(1)]))
    noon_on = Period(since=NOON - timedelta(hours=1), until=THE_DAY.until)
    with pytest.raises(BadRequest, match="whole UTC days"):
        await reconciled(database, "day,cost\n2026-11-23,1\n", period=noon_on)
    with pytest.raises(BadRequest, match="no line at all"):
        period_of(Export())


async def test_whose_bill_it_is_is_said_or_plain(database: Database) -> None:
    ledger, book = PostgresLedgerBook(database), PostgresCallBook(database)

    async def names(*, provider: str = "", names: Sequence[str] = ()) -> list[str]:
        chosen = await compared_targets(book, THE_DAY, provider=provider, names=names)
        return [each.name for each in chosen]

    with pytest.raises(BadRequest, match="no attempts at managed targets in this period"):
        await names()
    await ledger.book(rows([hosted(1), hosted(2, target="hosted-2"), receipt(3)]))
    assert await names() == ["hosted", "hosted-2"]
    await ledger.book(rows([hosted(4, target="fast", kind="groq")]))
    with pytest.raises(BadRequest, match=r"--provider, or with --target; .*fast \(groq\), hosted \(openai\)"):
        await names()
    assert await names(provider="OpenAI") == ["hosted", "hosted-2"]
    assert await names(names=["fast", "hosted"]) == ["fast", "hosted"]
    with pytest.raises(BadRequest, match=r"home is self-hosted: no seller sends a bill .*: fast \(groq\), hosted"):
        await names(names=["fast", "home"])
    with pytest.raises(BadRequest, match="no attempt at 'hostde'"):
        await names(names=["hostde"])
    with pytest.raises(BadRequest, match="provider 'anthropic'"):
        await names(provider="anthropic")


def test_a_period_is_the_whole_days_of_the_export() -> None:
    export = read_export([("export", ["request_id,time,cost\n", "a,2026-11-23T23:59:59Z,1\n", "b,2026-11-25,1\n"])])
    assert period_of(export) == Period(since=MIDNIGHT, until=MIDNIGHT + timedelta(days=3))
