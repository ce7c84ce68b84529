"""`app.flows.hold` and `app.flows.funding`: money is held before a dispatch, and settled whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from app.domain.budget import Budget, Every, Mode, PastStep
from app.domain.errors import BadRequest, BudgetExceeded, FaultKind, LedgerUnavailable, TargetFailure
from app.domain.ledger.view import receipt_view
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.plan import Plan
from app.domain.routing.policy import Policy
from app.domain.target import Capability
from app.flows.answer import answer
from app.flows.funding import fund
from app.flows.hold import UNBOUNDED
from app.ports.ledger import LeaseGranted, LeaseWanted
from app.providers.scripted import Script
from app.storage.receipt_json import decode, encode
from tests.fakes.budget_book import MemoryBudgetBook
from tests.flows.house import Caller, House, a_house, asked
from tests.makers import a_policy, a_route, a_target

#: Much less than a request of 900 prompt tokens may cost at most.
CENT = Nanodollars(10_000_000)


def under(*budgets: Budget, names: tuple[str, ...] = ("home",), context_tokens: int | None = 8_192) -> Policy:
    targets = [a_target(name, context_tokens=context_tokens) for name in names]
    policy = a_policy(*targets, route=a_route(*names, output_tokens_most=500))
    return replace(
        policy,
        budgets={budget.name: budget for budget in budgets},
        degrading=tuple(budget for budget in budgets if budget.past),
    )


def a_budget(amount: int = CENT, **named: object) -> Budget:
    return Budget(name="team", amount=Nanodollars(amount), every=Every.DAY, team="research", **named)  # type: ignore[arg-type]


class CountingBook(MemoryBudgetBook):
    """Counts how often it is asked."""

    rounds = 0

    async def lease(self, wanted: Sequence[LeaseWanted], *, holder: str) -> Sequence[LeaseGranted]:
        self.rounds += 1
        return await super().lease(wanted, holder=holder)


@contextlib.asynccontextmanager
async def kept(house: House, book: MemoryBudgetBook) -> AsyncIterator[None]:
    task = asyncio.create_task(house.gateway.treasury.keep(book))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_what_may_be_spent_is_held_while_it_runs_and_only_its_charge_is_gone_after_it() -> None:
    house, book = a_house(policy=under(a_budget())), MemoryBudgetBook()
    async with kept(house, book):
        await answer(asked(house), Caller(), house.gateway)
    (receipt,) = house.told.receipts
    (hold,) = receipt.holds
    assert hold.account == a_budget().account
    assert 0 < receipt.charge <= hold.amount
    await house.gateway.treasury.leave(book)
    ((_, account),) = [(name, each.account) for name, each in book.kept.items()]
    assert account.standing().leased == receipt.charge


async def test_a_budget_without_room_refuses_with_its_name_and_dispatches_nothing() -> None:
    house, book = a_house(policy=under(a_budget(1_000))), MemoryBudgetBook()
    async with kept(house, book):
        with pytest.raises(BudgetExceeded, match=r'the budget "team" \(\$0.000001 a day\).*begins anew at') as refused:
            await answer(asked(house), Caller(), house.gateway)
    assert refused.value.budget == "team"
    (receipt,) = house.told.receipts
    assert (receipt.outcome, receipt.status, receipt.attempts, receipt.holds) == (Outcome.REFUSED, 402, (), ())
    assert house.told.dispatches == []


def with_a_dear_first_choice(amount: int) -> Policy:
    policy = under(a_budget(amount), names=("dear", "home"))
    dear = a_target("dear", rate_card=RateCard.of(prompt=Decimal(25), cached_prompt=Decimal(25), output=Decimal(200)))
    return replace(policy, targets={**policy.targets, "dear": dear})


async def test_a_first_choice_beyond_the_budget_is_passed_over_for_a_fallback_that_fits() -> None:
    policy = with_a_dear_first_choice(CENT)
    house, book = a_house({"dear": [Script()], "home": [Script()]}, policy=policy), MemoryBudgetBook()
    async with kept(house, book):
        await answer(asked(house), Caller(), house.gateway)
    (receipt,) = house.told.receipts
    assert isinstance(receipt.decision, Plan)
    assert receipt.decision.order == ("dear", "home")
    assert house.told.dispatches == ["home"]
    assert [hold.amount >= receipt.charge for hold in receipt.holds] == [True]
    assert receipt.flag_words == {"passed_over"}
    assert receipt.remarks == ('Dear had to be passed over: the budget "team" has no room for what it may cost there.',)


async def test_a_target_that_was_passed_over_is_not_asked_after_a_failure_either() -> None:
    policy = with_a_dear_first_choice(CENT)
    broken = Script(fault=FaultKind.AUTH)
    house, book = a_house({"dear": [Script()], "home": [broken]}, policy=policy), MemoryBudgetBook()
    async with kept(house, book):
        with pytest.raises(TargetFailure):
            await answer(asked(house), Caller(), house.gateway)
    assert set(house.told.dispatches) == {"home"}


async def test_a_refusal_for_money_says_the_least_that_would_be_held_what_is_left_and_what_helps() -> None:
    house, book = a_house(policy=with_a_dear_first_choice(2_000)), MemoryBudgetBook()
    async with kept(house, book):
        with pytest.raises(BudgetExceeded) as refused:
            await answer(asked(house), Caller(), house.gateway)
    told = str(refused.value)
    assert " at home (a prompt of " in told
    assert "$0.000002 are neither spent nor set aside" in told
    assert "shorten the prompt, or have it raised" in told
    (receipt,) = house.told.receipts
    view = receipt_view(receipt)
    assert view["flags"] == ["budget_refused"]
    assert view["why"][0] == f"{told[0].upper()}{told[1:]}."  # type: ignore[index]
    assert decode(encode(receipt)) == receipt


async def test_where_the_answer_is_what_costs_too_much_fewer_tokens_help() -> None:
    house, book = a_house(policy=under(a_budget(500_000))), MemoryBudgetBook()
    async with kept(house, book):
        with pytest.raises(BudgetExceeded, match="ask for fewer tokens, or have it raised"):
            await answer(asked(house), Caller(), house.gateway)


async def test_a_request_under_no_budget_asks_nobody() -> None:
    house = a_house(policy=under(a_budget(1, mode=Mode.WATCH)))
    await answer(asked(house), Caller(), house.gateway)
    assert house.told.receipts[0].holds == ()


async def test_with_the_books_away_and_no_lease_nothing_is_dispatched() -> None:
    house, book = a_house(policy=under(a_budget())), MemoryBudgetBook()
    book.away = True
    async with kept(house, book):
        with pytest.raises(LedgerUnavailable, match="Postgres, where more is kept, is away"):
            await answer(asked(house), Caller(), house.gateway)
    assert house.told.dispatches == []


async def test_books_that_say_nothing_are_away_and_no_budget_is_called_used_up() -> None:
    """A server that is frozen may keep even a question that was given up from ending."""

    class Frozen(MemoryBudgetBook):
        async def lease(self, wanted: Sequence[LeaseWanted], *, holder: str) -> Sequence[LeaseGranted]:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(30)
            await asyncio.sleep(30)
            return ()

    house = a_house(policy=under(a_budget()))
    async with kept(house, Frozen()):
        with pytest.raises(LedgerUnavailable, match="Postgres, where more is kept, is away"):
            await answer(asked(house), Caller(), house.gateway)
    assert house.told.dispatches == []


async def test_a_gateway_that_is_closed_says_why_and_takes_nothing_on() -> None:
    house = a_house(policy=under())
    closed = replace(house.gateway, closed=lambda: "Postgres is away, and so is everybody")
    with pytest.raises(LedgerUnavailable, match="Postgres is away, and so"):
        await answer(asked(house), Caller(), closed)
    assert (house.told.dispatches, house.told.receipts) == ([], [])


async def test_with_the_books_away_requests_go_on_within_the_lease() -> None:
    house, book = a_house(policy=under(a_budget(100 * CENT))), MemoryBudgetBook()
    async with kept(house, book):
        await answer(asked(house), Caller(), house.gateway)
        book.away = True
        await answer(asked(house), Caller(), house.gateway)
    assert len(house.told.receipts) == 2


async def test_what_nothing_bounds_is_the_callers_fault_under_a_hard_budget_alone() -> None:
    route = a_route("home")
    for mode, refused in ((Mode.HARD, True), (Mode.SOFT, False)):
        policy = under(a_budget(mode=mode), context_tokens=None)
        seeing = replace(policy.targets["home"], can=frozenset(Capability))
        policy = replace(policy, routes={"chat": route}, targets={"home": seeing})
        house, book = a_house(policy=policy), MemoryBudgetBook()
        async with kept(house, book):
            if refused:
                with pytest.raises(BadRequest, match="nothing bounds") as fault:
                    await answer(asked(house, has_images=True), Caller(), house.gateway)
                assert fault.value.code == UNBOUNDED
            else:
                await answer(asked(house, has_images=True), Caller(), house.gateway)


async def test_a_soft_budget_holds_the_likely_charge() -> None:
    amounts = {}
    for mode in (Mode.HARD, Mode.SOFT):
        house, book = a_house(policy=under(a_budget(100 * CENT, mode=mode))), MemoryBudgetBook()
        async with kept(house, book):
            await answer(asked(house, prompt_tokens=10, output_tokens_most=400), Caller(), house.gateway)
        amounts[mode] = house.told.receipts[0].holds[0].amount
    assert amounts[Mode.SOFT] < amounts[Mode.HARD]


async def test_past_its_end_a_budget_with_a_last_step_leads_to_its_targets_and_holds_nothing() -> None:
    budget = a_budget(1_000, past=(PastStep(from_ppm=1_000_000, only=("second",)),))
    house = a_house({"home": [Script()], "second": [Script()]}, policy=under(budget, names=("home", "second")))
    book = MemoryBudgetBook()
    async with kept(house, book):
        await answer(asked(house), Caller(), house.gateway)
    (receipt,) = house.told.receipts
    assert [attempt.target for attempt in receipt.attempts] == ["second"]
    assert receipt.holds == ()


async def test_a_further_attempt_holds_more_than_the_first() -> None:
    failing = Script(fault=FaultKind.REFUSED_CONNECTION)
    policy = under(a_budget(100 * CENT), names=("home", "second"))
    house, book = a_house({"home": [failing], "second": [Script()]}, policy=policy), MemoryBudgetBook()
    async with kept(house, book):
        await answer(asked(house), Caller(), house.gateway)
    (receipt,) = house.told.receipts
    assert [attempt.target for attempt in receipt.attempts] == ["home", "second"]
    assert receipt.charge <= receipt.holds[0].amount


async def test_a_caller_who_leaves_frees_the_rest_of_the_hold() -> None:
    house, book = a_house(policy=under(a_budget(100 * CENT))), MemoryBudgetBook()
    caller = Caller(leaves_after=0)
    caller.left = True
    async with kept(house, book):
        with contextlib.suppress(Exception):
            await answer(asked(house, stream=True), caller, house.gateway)
    (receipt,) = house.told.receipts
    assert receipt.outcome is Outcome.ABANDONED
    assert receipt.holds
    await house.gateway.treasury.leave(book)
    ((_, each),) = book.kept.items()
    assert each.account.standing().leased == receipt.charge


async def test_many_at_once_wait_for_one_question_and_share_what_there_is() -> None:
    house, book = a_house(policy=under(a_budget(100 * CENT))), CountingBook()
    snapshot = house.gateway.snapshot(at_us=house.gateway.clock.unix_us())
    async with kept(house, book):
        funded = await asyncio.gather(*(fund(asked(house), snapshot, house.gateway) for _ in range(20)))
    assert all(one.holds for one in funded)
    assert book.rounds < 20
