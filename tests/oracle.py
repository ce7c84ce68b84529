"""The join of what a scripted upstream would bill with what the books say: the difference must be empty."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import Usage, UsageSource
from tests.books import said
from tests.command_line import Ran, breakeven
from tests.gateway_process import POLL_S, GatewayProcess
from tests.upstream import Heard

#: Ended, and all that it left adopted and booked, within this time of its successor's start.
SETTLED_WITHIN_S = 60.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Difference:
    """What does not fit, by attempt id. All empty: nothing is lost and nothing is double."""

    #: Billed, and in no book.
    lost: list[str] = field(default_factory=list)
    #: In the books twice.
    double: list[str] = field(default_factory=list)
    #: Charged as complete though no target heard of it.
    invented: list[str] = field(default_factory=list)
    #: Complete by the target's own usage, and not what the target would bill.
    wrong: list[str] = field(default_factory=list)
    #: Estimated without a flag, under what the gateway had read, or over what was held.
    out_of_bounds: list[str] = field(default_factory=list)
    #: No fault: estimated at what the gateway had read or more, and at less than what was made; the rest was on its way
    #: or made before the target knew that nobody listens. By how many tokens each.
    on_its_way: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any((self.lost, self.double, self.invented, self.wrong, self.out_of_bounds))


def joined(heard: Sequence[Heard], receipts: Sequence[Receipt], *, price: RateCard) -> Difference:
    """The difference between what was heard and what is booked. `price` is that of every target."""
    found = Difference()
    bills = {each.attempt_id: each.bill for each in heard if each.bill is not None}
    read = {each.attempt_id: each.delivered_tokens for each in heard}
    booked = {attempt.attempt_id: (receipt, attempt) for receipt in receipts for attempt in receipt.attempts}
    counted = Counter(attempt.attempt_id for receipt in receipts for attempt in receipt.attempts)
    counted += Counter(each.attempt_id for each in heard) - Counter({each.attempt_id for each in heard})
    found.double = sorted(name for name, count in counted.items() if count > 1)
    found.lost = sorted(bills.keys() - booked.keys())
    for name, (receipt, attempt) in booked.items():
        bill = bills.get(name)
        delivered = 0 if bill is None else charge(usage=Usage(prompt=0, output=read[name]), price=price)
        if attempt.usage_source is UsageSource.PROVIDER_FINAL:
            if bill is None:
                found.invented.append(name)
            elif (attempt.usage.prompt, attempt.usage.output) != (bill.prompt, bill.output):
                found.wrong.append(name)
        elif attempt.outcome is not Outcome.REFUSED:
            held = min((hold.amount for hold in receipt.holds), default=None)
            if not attempt.flags or attempt.charge < delivered or (held is not None and receipt.charge > held):
                found.out_of_bounds.append(
                    f"{attempt.outcome.value} {name}: {delivered} <= {attempt.charge} <= {held}, {attempt.flags}"
                )
            elif bill is not None and attempt.usage.output < bill.output:
                found.on_its_way[name] = bill.output - attempt.usage.output
    return found


async def settled_books(gateway: GatewayProcess) -> None:
    """Wait until no lease is open but those of the processes that live now: what the dead ones left is all booked."""
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while await _unsettled(gateway):
            await asyncio.sleep(POLL_S)


async def _unsettled(gateway: GatewayProcess) -> bool:
    living = [home.name for home in (gateway.settings.spool_directory / "homes").iterdir()]
    leases = await said(
        gateway.database_url, "select holder from budget_lease where state <> 'closed' and granted - returned > used"
    )
    return bool(leases) or len(living) > gateway.workers


async def nothing_is_missing(gateway: GatewayProcess, heard: Sequence[Heard], *, price: RateCard) -> list[Receipt]:
    """After a fault: what was heard is booked, once and rightly, the budget says the same, and verify finds nothing.

    The receipts."""
    await settled_books(gateway)
    receipts = await gateway.receipts(len({each.attempt_id.partition("/")[0] for each in heard}), within_s=30.0)
    assert not (difference := joined(heard, receipts, price=price)), difference
    await _spent_in_one_period_each(gateway, receipts)
    assert broken_ones(await asyncio.to_thread(proven, gateway)) == []
    return receipts


async def _spent_in_one_period_each(gateway: GatewayProcess, receipts: Sequence[Receipt]) -> None:
    """Each budget is one over everything: it was spent in each period what the receipts of that moment cost, and in all
    of them what all cost."""
    spent_in_all: Counter[str] = Counter()
    for row in await said(gateway.database_url, "select account, begin_at, end_at, spent, overrun from budget_account"):
        begin_us, end_us = ((row[edge] - EPOCH) // timedelta(microseconds=1) for edge in ("begin_at", "end_at"))
        fell = sum(receipt.charge for receipt in receipts if begin_us <= receipt.at_us < end_us)
        assert (row["spent"], row["overrun"]) == (fell, 0), row
        spent_in_all[row["account"]] += row["spent"]
    assert set(spent_in_all.values()) <= {sum(receipt.charge for receipt in receipts)}, spent_in_all


def proven(gateway: GatewayProcess) -> Ran:
    """`breakeven verify --json` over its books."""
    return breakeven(
        "verify",
        "--json",
        DATABASE_URL=gateway.database_url,
        BREAKEVEN_DATA=str(gateway.data),
        BREAKEVEN_POLICIES=str(gateway.policies),
    )


def broken_ones(ran: Ran) -> list[object]:
    """The invariants that do not hold; a sentence when verify did not speak at all."""
    try:
        return [each for each in json.loads(ran.out)["invariants"] if not each["holds"]]
    except ValueError:
        return [ran.err or ran.out]
