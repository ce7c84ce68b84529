from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import pytest

from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.self_host import MeasuredRates
from app.domain.routing.policy import Policy
from app.domain.target import Hosting, Machine
from app.flows.prices import PricesInForce
from app.flows.rates import keep_rates_fresh
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot
from app.ports import BooksAway
from app.ports.prices import PriceSource
from tests.fakes.price_book import MemoryPriceBook
from tests.fakes.rates_book import MemoryRatesBook
from tests.makers import CARD, CHEAP, NOON, a_policy, a_target

CHANGE = date(2026, 12, 1)
CHANGING = (DatedCard(card=CARD, valid_to=CHANGE), DatedCard(card=CHEAP, valid_from=CHANGE))


@dataclass(frozen=True, slots=True)
class _Clock:
    """ports.Clock at noon."""

    def monotonic_s(self) -> float:
        return 1.0

    def unix_us(self) -> int:
        return int(NOON.timestamp()) * 1_000_000


def fleet() -> Fleet:
    return Fleet(has_credential=lambda _: True, today=NOON.date)


def in_force(policy: Policy, *, seen: Fleet | None = None) -> tuple[PricesInForce, MemoryPriceBook, PolicySlot]:
    book, slot, seen = MemoryPriceBook(), PolicySlot(policy), seen or fleet()
    seen.follow(policy)
    return PricesInForce(book=book, fleet=seen, slot=slot, clock=_Clock()), book, slot


async def test_every_card_of_the_policy_can_be_looked_up_those_to_come_too() -> None:
    prices, book, _ = in_force(a_policy(a_target("a"), a_target("b", rate_card=CHEAP, price_list=CHANGING)))
    assert await prices.remember() == 3
    assert await book.find(CARD.digest) == CARD
    assert [row.dated for row in await book.rows(name="b")] in ([*CHANGING], [*reversed(CHANGING)])
    assert {row.first_seen_s for row in await book.rows()} == {int(NOON.timestamp())}


async def test_what_is_written_down_is_not_sent_again_and_a_new_policy_is() -> None:
    prices, book, slot = in_force(a_policy())
    assert [await prices.remember(), await prices.remember()] == [1, 0]
    book.away = True
    assert await prices.remember() == 0
    book.away = False
    slot.swap(a_policy(a_target(rate_card=CHEAP)))
    assert await prices.remember() == 1


async def test_a_measured_price_is_written_down_as_measured() -> None:
    target = a_target(rate_card=None, machine=Machine(type="l4"))
    policy = replace(a_policy(target), machine_usd_per_hour={"l4": Decimal("0.8")})
    seen = fleet()
    prices, book, _ = in_force(policy, seen=seen)
    assert await prices.remember() == 0
    rates = MeasuredRates(
        target="home",
        prefill_tokens_per_s=Decimal(900),
        decode_tokens_per_s=Decimal(300),
        model="smollm2",
        engine_version="1",
    )
    seen.measured([rates], policy=policy)
    assert await prices.remember() == 1
    (row,) = await book.rows()
    assert (row.source, row.dated.card) == (PriceSource.MEASURED, seen.view(at_s=1.0)["home"].rate_card)


async def test_what_could_not_be_written_down_is_written_down_later() -> None:
    prices, book, _ = in_force(a_policy())
    book.away = True
    with pytest.raises(BooksAway):
        await prices.remember()
    pauses = 0

    async def pause(_: float) -> None:
        nonlocal pauses
        pauses += 1
        book.away = pauses < 2
        if pauses == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await prices.keep(pause=pause)
    assert len(await book.rows()) == 1


async def test_a_price_changes_on_its_day_though_postgres_is_away() -> None:
    days = iter([date(2026, 11, 30), CHANGE])
    target = a_target("api", hosting=Hosting.MANAGED, rate_card=CHEAP, price_list=CHANGING)
    policy = a_policy(target)
    seen = Fleet(has_credential=lambda _: True, today=lambda: next(days))
    seen.follow(policy)
    assert seen.view(at_s=1.0)["api"].rate_card == CARD
    book, waits = MemoryRatesBook(), iter([None])
    book.away = True

    async def pause(_: float) -> None:
        if next(waits, "over") == "over":
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await keep_rates_fresh(book, seen, PolicySlot(policy), pause=pause)
    assert seen.view(at_s=2.0)["api"].rate_card == CHEAP
