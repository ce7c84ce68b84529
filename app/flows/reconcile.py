"""A seller's export is held against the books: which targets, which period, and a cause for every difference."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from app.domain.errors import BadRequest
from app.domain.ledger.billing import BilledDay, Export, OurCall, our_name
from app.domain.ledger.period import Period
from app.domain.ledger.reconcile_calls import BilledIndex, weigh_billed, weigh_ours, weigh_pair
from app.domain.ledger.reconcile_days import OurDays, weigh_days
from app.domain.ledger.reconciliation import Cause, Reconciliation, Tally
from app.domain.pricing.rate_card import RateCard
from app.domain.target import Hosting
from app.ports.billing import CallBook, CalledTarget, CallsQuery
from app.ports.prices import PriceBook

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciling:
    """The books that a reconciliation reads; it writes in none."""

    calls: CallBook
    prices: PriceBook


def period_of(export: Export) -> Period:
    """The whole UTC days from the first to the last that the export speaks of. Raises BadRequest when there is none."""
    days = {line.at.astimezone(UTC).date() for line in export.calls} | {line.day for line in export.days}
    if not days:
        raise BadRequest(
            "the export holds no line at all, beside its head if it has one: see that it is an export of costs or "
            "usage, and ask the seller for the period again",
            param="file",
        )
    since, until = (datetime.combine(day, time.min, UTC) for day in (min(days), max(days)))
    return Period(since=since, until=until + _DAY)


async def compared_targets(
    book: CallBook, period: Period, *, provider: str = "", names: Collection[str] = ()
) -> tuple[CalledTarget, ...]:
    """The targets with attempts in the period that a seller's bill is about: those named, or the managed ones of that
    provider, or without both all managed ones, as long as they have one provider.

    Raises BadRequest naming what there is, also for a target of our own, which no seller bills; and BooksAway.
    """
    seen = await book.targets(since=period.since, until=period.until)
    managed = [each for each in seen if each.hosting is Hosting.MANAGED]
    offered = ", ".join(f"{each.name} ({each.kind})" for each in managed) or "none"
    if names:
        if missing := sorted(set(names) - {each.name for each in seen}):
            raise BadRequest(
                f"the books have no attempt at {missing[0][:80]!r} in this period; managed targets with attempts: "
                f"{offered}",
                param="target",
            )
        if ours := sorted(set(names) - {each.name for each in managed}):
            raise BadRequest(
                f"{ours[0]} is self-hosted: no seller sends a bill for it that an export could be held against. What "
                "its requests cost follows from the price of its machine and its measured speed (`breakeven report "
                f"cost --by target`); managed targets with attempts: {offered}",
                param="target",
            )
        return tuple(each for each in seen if each.name in set(names))
    chosen = [each for each in managed if not provider or each.kind.lower() == provider.lower()]
    if not chosen:
        wanted = f"managed targets of provider {provider[:80]!r}" if provider else "managed targets"
        raise BadRequest(
            f"the books have no attempts at {wanted} in this period; managed targets with attempts: {offered}. Name "
            "some with --target, or another period with --from",
            param="provider",
        )
    if len({each.kind for each in chosen}) > 1:
        raise BadRequest(
            f"whose bill is this? Say it with --provider, or with --target; managed targets with attempts: {offered}",
            param="provider",
        )
    return tuple(chosen)


async def reconcile_provider(
    books: Reconciling,
    export: Export,
    *,
    period: Period,
    targets: Sequence[CalledTarget],
    projects: Collection[str] = (),
) -> Reconciliation:
    """Both accounts of the period, and a cause for every nanodollar between them.

    The attempts pass by a batch at a time. Raises BadRequest for an export that cannot be held against this period,
    and BooksAway.
    """
    query = CallsQuery(since=period.since, until=period.until, targets=tuple(sorted({each.name for each in targets})))
    cards = _Cards(books.prices)
    if export.calls:
        return await _call_by_call(books, export, query, period=period, cards=cards)
    lines = [line for line in export.days if not projects or line.project in projects]
    _check_days(lines, period=period, projects=projects)
    ours = OurDays(all_models=any(_is_of_all_models(line) for line in lines))
    async for batch in books.calls.calls(query):
        for call in batch:
            ours.add(call, card=await cards.of(call))
    tally = Tally(period)
    weigh_days(tally, ours, lines, unit=export.unit)
    return tally.compiled()


async def _call_by_call(
    books: Reconciling, export: Export, query: CallsQuery, *, period: Period, cards: _Cards
) -> Reconciliation:
    tally, index = Tally(period), BilledIndex(export.calls)
    models: set[str] = set()
    names: dict[str, str] = {}
    async for batch in books.calls.calls(query):
        for call in batch:
            models.add(call.model)
            billed = index.take(call.provider_request_id, call.attempt_id)
            if billed is None:
                weigh_ours(tally, call)
            else:
                weigh_pair(tally, call, billed, card=await cards.of(call), unit=export.unit)
    for cause, lines in ((Cause.UNLOGGED, index.left()), (Cause.BILLED_TWICE, iter(index.twice))):
        for line in lines:
            if line.model not in names:
                names[line.model] = our_name(line.model, ours=models)
            weigh_billed(tally, line, model=names[line.model], cause=cause)
    return tally.compiled()


def _check_days(lines: Sequence[BilledDay], *, period: Period, projects: Collection[str]) -> None:
    if any(moment.time() != time.min for moment in (period.since, period.until)):
        raise BadRequest(
            "this export speaks of whole UTC days: name days with --from and --to, such as 2026-11-23", param="from"
        )
    if projects and not lines:
        raise BadRequest("the export holds no line of that project: leave --project out to see all", param="project")


def _is_of_all_models(line: BilledDay) -> bool:
    return line.model is None and any((line.cost, line.tokens.prompt, line.tokens.output))


@dataclass(slots=True)
class _Cards:
    """Rate cards by their digest; where the book does not know one, the prices on the row are all that is known."""

    book: PriceBook
    known: dict[str, RateCard | None] = field(default_factory=dict)

    async def of(self, call: OurCall) -> RateCard:
        digest = call.price.digest
        if digest not in self.known:
            self.known[digest] = await self.book.find(digest)
        return self.known[digest] or call.price
