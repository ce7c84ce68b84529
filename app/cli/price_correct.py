"""`breakeven price correct`: attempts priced anew, by adjustments."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.output import AsJson, note, write_json, write_table
from app.domain.errors import BadRequest
from app.domain.ledger.period import Period, read_range
from app.domain.ledger.rerating import NewPrice
from app.domain.money import Nanodollars, shown
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import Sheet, Terms
from app.flows.policy_archive import Word, compiled_policy
from app.flows.price_correct import Corrected, Correcting, correct_prices
from app.ports.corrections import RatedQuery

HELP = (
    "Price a period's attempts anew, by the policy's prices, a rate card, or prices given here. What differs is "
    "booked as adjustments; no row is edited, a second run changes nothing, and what belongs to a closed month counts "
    "for the open one. `breakeven report cost --as-of DAY` still gives the report of before."
)

_NEEDED = ("prompt", "cached_prompt", "output")
_KINDS = (*_NEEDED, "cache_write", "cache_write_1h", "reasoning", "audio_prompt", "audio_output", "thousand_searches")


def correct(
    first: Annotated[str, typer.Option("--from", help="The first period: 2026-11, 2026-11-23, 7d … (UTC)")],
    last: Annotated[str | None, typer.Option("--to", help="The last period, included; today when left out.")] = None,
    target: Annotated[str | None, typer.Option(help="Only attempts at this target.")] = None,
    model: Annotated[str | None, typer.Option(help="Only requests that asked for this model.")] = None,
    card: Annotated[str | None, typer.Option(help="The 16 digits of a rate card; needs --target.")] = None,
    usd: Annotated[
        str | None,
        typer.Option(
            help="USD per million tokens, such as prompt=0.25,cached_prompt=0.025,output=2; needs --target. "
            f"Kinds: {', '.join(_KINDS)} (USD per thousand)."
        ),
    ] = None,
    policy: Annotated[str, typer.Option(help="Whose prices: files, live, or a policy's digest.")] = Word.FILES.value,
    reason: Annotated[str, typer.Option(help="Why, for finance.")] = "price correction",
    by: Annotated[str | None, typer.Option(help="Who asks for it; this user where nobody is named.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and book nothing.")] = False,
    json: AsJson = False,
) -> None:
    who = by or os.environ.get("USER") or f"user {os.getuid()}"
    given = _given(usd)
    if (card is not None or given is not None) and target is None:
        raise BadRequest("a price given here is that of one target: name it with --target", param="target")
    if card is not None and given is not None:
        raise BadRequest("--card and --usd are two prices: give one of them", param="card")

    async def work(rooms: Office) -> tuple[Period, Corrected]:
        now = datetime.fromtimestamp(rooms.clock.unix_us() / 1_000_000, UTC)
        period = read_range(first=first, last=last, now=now)
        price = await _prices(rooms, target=target, policy=policy, card=card, given=given)
        books = Correcting(rated=rooms.rated, adjustments=rooms.adjustments, prices=rooms.prices, clock=rooms.clock)
        query = RatedQuery(since=period.since, until=period.until, target=target, model=model)
        return period, await correct_prices(books, query, new_price=price, reason=reason, by=who, dry_run=dry_run)

    period, result = in_office(work)
    if json:
        write_json(_view(result, period=period, dry_run=dry_run))
    else:
        _write(result, period=period, dry_run=dry_run)
    for name, attempts in sorted(result.without_price.items()):
        note(f"{attempts:,} attempts at {name} stay as they are: no price of their day is known; give one with --usd")
    if not dry_run and result.booked < result.touched:
        missed = result.touched - result.booked
        note(f"{missed:,} attempts were corrected by somebody else meanwhile: run this again to see what is left")


async def _prices(
    rooms: Office, *, target: str | None, policy: str, card: str | None, given: RateCard | None
) -> NewPrice:
    if card is not None:
        given = await rooms.prices.find(card)
        if given is None:
            message = f"no rate card {card[:40]!r} was ever in force here: receipts name the digest after their prices"
            raise BadRequest(message, param="card")
    if given is not None:
        always = given
        return lambda _, __: always
    targets = (await compiled_policy(rooms.archive, policy)).policy.targets
    if target is not None and target not in targets:
        raise BadRequest(
            f"the policy has no target {target[:80]!r} any more: give its price with --usd or --card, or name an older "
            "policy with --policy",
            param="target",
        )

    def of_the_day(name: str, day: date) -> RateCard | None:
        return targets[name].price_of(day) if name in targets else None

    return of_the_day


def _given(usd: str | None) -> RateCard | None:
    """The card that `prompt=…,cached_prompt=…,output=…` writes. Raises BadRequest."""
    if usd is None:
        return None
    prices: dict[str, Decimal] = {}
    for part in usd.split(","):
        kind, equals, written = (each.strip() for each in part.partition("="))
        if kind not in _KINDS or not equals or kind in prices:
            raise BadRequest(f"{part.strip()[:40]!r} is no price: write each of {', '.join(_KINDS)} once", param="usd")
        try:
            prices[kind] = Decimal(written)
        except InvalidOperation as fault:
            raise BadRequest(f"{written[:40]!r} is no amount: write such as {kind}=0.25", param="usd") from fault
    missing = [kind for kind in _NEEDED if kind not in prices]
    if missing:
        raise BadRequest(f"the prices lack {', '.join(missing)}: {', '.join(_NEEDED)} are needed", param="usd")
    try:
        return RateCard.under(Terms(sheet=Sheet(**prices)), origin="price correct")
    except ValueError as fault:
        raise BadRequest(str(fault), param="usd") from fault


def _write(result: Corrected, *, period: Period, dry_run: bool) -> None:
    said = "would change" if dry_run else "changed"
    print(
        f"{period.since:%Y-%m-%d %H:%M} to {period.until:%Y-%m-%d %H:%M} UTC: {result.attempts:,} attempts looked at, "
        f"{result.touched:,} {said}, {shown(result.difference)} USD"
    )
    if not result.parts:
        return
    rows = [
        (
            part.target,
            part.card_before,
            part.card_after,
            f"{part.attempts:,}",
            shown(part.before),
            shown(part.after),
            shown(Nanodollars(part.after - part.before)),
        )
        for part in result.parts
    ]
    write_table(
        head=("target", "rate card", "becomes", "attempts", "USD before", "USD after", "difference"), rows=rows, words=3
    )


def _view(result: Corrected, *, period: Period, dry_run: bool) -> dict[str, object]:
    return {
        "since": period.since.isoformat(),
        "until": period.until.isoformat(),
        "dry_run": dry_run,
        "attempts": result.attempts,
        "touched": result.touched,
        "booked": result.booked,
        "difference_usd": shown(result.difference),
        "without_price": result.without_price,
        "parts": [
            {
                "target": part.target,
                "rate_card_before": part.card_before,
                "rate_card_after": part.card_after,
                "attempts": part.attempts,
                "before_usd": shown(part.before),
                "after_usd": shown(part.after),
            }
            for part in result.parts
        ],
    }
