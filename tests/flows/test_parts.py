"""The smaller parts of the request's story, by themselves."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.domain.errors import FaultKind, TargetFailure
from app.domain.ledger.receipt import Attempt
from app.domain.metering.measurement import Outcome
from app.domain.pricing.self_host import MeasuredRates
from app.domain.target import Machine
from app.domain.usage import Usage, UsageSource
from app.flows.dispatch import too_long
from app.flows.draft import CHECKPOINT_TOKENS, OpenAttempt, ReceiptDraft
from app.flows.gateway import Gateway
from app.flows.rates import refresh_rates
from app.flows.relay import fetch
from app.flows.settle import settle_without_waiting
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot
from tests.domain.pricing.lists import GPT_5_5
from tests.fakes.rates_book import MemoryRatesBook
from tests.flows.house import a_house
from tests.makers import CARD, NOON, a_plan, a_policy, a_receipt, a_target, some_facts


def _draft() -> tuple[ReceiptDraft, OpenAttempt]:
    draft = ReceiptDraft(
        facts=some_facts(),
        at_us=1_000_000,
        started_s=10.0,
        caller_label=None,
        policy_digest="d",
        decision=a_plan(),
    )
    return draft, draft.begin_attempt(target=a_target(), price=CARD, now_s=10.5, now_us=1_500_000)


def test_attempts_are_numbered_from_one_and_named_after_their_request() -> None:
    draft, first = _draft()
    draft.close_attempt(first, outcome=Outcome.REFUSED, now_s=11.0, failure=too_long("home"))
    second = draft.begin_attempt(target=a_target("away"), price=CARD, now_s=11.0, now_us=2_000_000)
    draft.close_attempt(second, outcome=Outcome.COMPLETE, now_s=12.0)
    receipt = draft.receipt(outcome=Outcome.COMPLETE, status=200, now_s=12.5)
    assert [each.attempt_id.rpartition("/")[2] for each in receipt.attempts] == ["1", "2"]
    assert receipt.duration_s == pytest.approx(2.5)
    assert receipt.overhead_s == pytest.approx(0.5)


def test_a_failure_without_work_is_free_and_keeps_its_reason() -> None:
    draft, attempt = _draft()
    gone = TargetFailure("nobody listens", kind=FaultKind.REFUSED_CONNECTION, target="home")
    closed = draft.close_attempt(attempt, outcome=Outcome.REFUSED, now_s=11.0, failure=gone)
    assert (closed.charge, closed.fault, closed.fault_message) == (0, "refused_connection", "nobody listens")


def _left_unseen(*, cap: int | None = None, most: int | None = None, context: int | None = None) -> Attempt:
    draft = ReceiptDraft(
        facts=some_facts(stream=False, output_tokens_most=most, n=2),
        at_us=1_000_000,
        started_s=10.0,
        caller_label=None,
        policy_digest="d",
        decision=a_plan(),
    )
    target = a_target(context_tokens=context)
    attempt = draft.begin_attempt(target=target, price=CARD, now_s=10.5, now_us=1_500_000, output_tokens_cap=cap)
    return draft.close_attempt(attempt, outcome=Outcome.ABANDONED, now_s=11.0)


def test_a_whole_answer_left_unseen_counts_as_its_cap_for_every_choice() -> None:
    left = _left_unseen(most=50, context=1000)
    assert (left.usage.output, left.usage_source, left.flags) == (100, UsageSource.HOLD, ("usage_estimated",))


def test_a_whole_answer_left_unseen_that_nothing_caps_or_holds_counts_as_its_intent() -> None:
    for left in (_left_unseen(), _left_unseen(context=1000)):
        assert (left.usage.output, left.usage_source) == (CHECKPOINT_TOKENS, UsageSource.CHECKPOINT)


def test_a_whole_answer_that_its_target_failed_is_not_charged_as_if_it_had_come() -> None:
    draft, _ = _draft()
    attempt = draft.begin_attempt(target=a_target(), price=CARD, now_s=10.5, now_us=1_500_000)
    cut = TargetFailure("cut", kind=FaultKind.CUT, target="home")
    closed = draft.close_attempt(attempt, outcome=Outcome.BROKEN, now_s=11.0, failure=cut)
    assert (closed.usage.output, closed.usage_source) == (0, UsageSource.GATEWAY_ESTIMATE)


def test_a_row_shows_the_prices_that_applied_and_what_they_could_not_be_sure_of() -> None:
    draft, _ = _draft()
    attempt = draft.begin_attempt(target=a_target(), price=GPT_5_5, now_s=10.5, now_us=1_500_000)
    attempt.meter.saw_usage(Usage(prompt=272_001, output=1_000, tier="ultrafast"))
    closed = draft.close_attempt(attempt, outcome=Outcome.COMPLETE, now_s=11.0)
    assert (closed.price_prompt, closed.price_output) == (10, 45)
    assert (closed.charge, closed.rate_card_digest) == (2_765_010_000, GPT_5_5.digest)
    assert "tier_unknown" in closed.flags


def test_a_snapshot_carries_the_moment_in_the_policys_timezone() -> None:
    gateway: Gateway = a_house().gateway
    assert gateway.snapshot(at_us=int(NOON.timestamp() * 1e6)).at == NOON


async def test_rates_that_were_measured_elsewhere_become_a_price_here() -> None:
    from dataclasses import replace

    target = a_target(rate_card=None, machine=Machine(type="box"))
    policy = replace(a_policy(target), machine_usd_per_hour={"box": Decimal("3.6")})
    fleet = Fleet(has_credential=lambda reference: True)
    fleet.follow(policy)
    book = MemoryRatesBook()
    rates = MeasuredRates(
        target="home", prefill_tokens_per_s=Decimal(1000), decode_tokens_per_s=Decimal(100),
        model="smollm2", engine_version="e 1", measured_at_s=1, concurrency=8,
    )  # fmt: skip
    await book.remember(rates)
    await refresh_rates(book, fleet, PolicySlot(policy))
    card = fleet.view(at_s=0)["home"].rate_card
    assert card is not None
    assert (card.prompt, card.output) == (1, 10)


async def test_a_whole_answer_without_usage_is_estimated_by_its_size() -> None:
    from app.flows.dispatch import Visit
    from app.flows.leash import Leashes

    house = a_house()
    draft, attempt = _draft()
    visit = Visit(attempt, draft=draft, leash=Leashes().leash(5), gateway=house.gateway)

    class Answer:
        status, content_type, provider_request_id = 200, "application/json", None

        def pieces(self) -> None:
            raise AssertionError

        async def body(self) -> tuple[bytes, Usage | None]:
            return b"x" * 4300, None

        async def close(self) -> None:
            return

    visit.answer = Answer()  # type: ignore[assignment]
    await fetch(visit)
    visit.end(None)
    assert draft.receipt(outcome=Outcome.COMPLETE, status=200, now_s=12).attempts[0].usage.output == 1000


def test_a_receipt_settled_without_waiting_is_told_to_everybody() -> None:
    house = a_house()
    receipt = a_receipt()
    settle_without_waiting(receipt, house.gateway)
    assert house.told.receipts == [receipt]
    assert house.journal.disk.receipts == [receipt]
