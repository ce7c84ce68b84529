"""`breakeven price …`: the catalogue of list prices, every card that was ever in force, and who disagrees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.output import AsJson, counted, note, write_json, write_table
from app.cli.price_correct import HELP, correct
from app.domain.errors import SetupError
from app.domain.pricing.doubts import Doubt
from app.domain.pricing.price_list import DatedCard, card_of_the_day
from app.domain.pricing.rate_card import RateCard
from app.flows.price_sync import Synced, catalogue_doubts, sync_catalogue
from app.ports.prices import CatalogueModel
from app.storage.litellm_map import installed_map, read_map
from app.storage.price_catalogue import PackagedCatalogue
from app.storage.rate_card_json import list_as_json
from app.system import SystemClock

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List prices: the catalogue, what was ever in force, and who disagrees.",
)

_DIGEST = re.compile(r"[0-9a-f]{16}")
_KINDS = ("prompt", "cached_prompt", "output", "cache_write", "cache_write_1h", "reasoning", "audio_prompt")
_MORE_KINDS = ("audio_output", "thousand_searches")

At = Annotated[str | None, typer.Option("--at", help="A day in UTC, such as 2026-07-29; today when left out.")]


@app.callback()
def price() -> None:
    """List prices: the catalogue, what was ever in force, and who disagrees."""


@app.command("list", help="What the catalogue prices, in USD per million tokens; `rates.targets.NAME.catalogue` names.")
def list_models(
    find: Annotated[str, typer.Argument(help="A part of the name, such as openai/ or mini.")] = "",
    at: At = None,
    json: AsJson = False,
) -> None:
    day = _day(at)
    found = [
        (model, card)
        for model in PackagedCatalogue().models()
        if find.lower() in model.name.lower() and (card := card_of_the_day(model.cards, day)) is not None
    ]
    if json:
        write_json([{"name": model.name, "title": model.title, **_card_view(card)} for model, card in found])
        return
    if not found:
        raise SetupError(f'the catalogue prices no model with "{find}" in its name: `breakeven price list` names all')
    write_table(
        head=("model", "prompt", "cached", "output", "long prompts", "service tiers", "rate card"),
        words=1,
        rows=[(model.name, *_brief(card), card.digest) for model, card in found],
    )
    note(f"{counted(len(found), 'model')}, in USD per million tokens; `breakeven price list NAME` lists fewer")


@app.command(help="One model's prices and the days of their changes, or the rate card of a digest on a receipt.")
def show(
    name: Annotated[str, typer.Argument(help="seller/model, or the 16 digits of a rate card.")],
    at: At = None,
    json: AsJson = False,
) -> None:
    if _DIGEST.fullmatch(name):
        _show_card(name, json=json)
        return
    catalogue = PackagedCatalogue()
    model = catalogue.find(name)
    if model is None:
        raise SetupError(f'{catalogue.version} has no model "{name}": `breakeven price list` names those that it has')
    cards = model.cards if at is None else [dated for dated in model.cards if dated.is_in_force(_day(at))]
    if json:
        write_json(_model_view(model, cards))
        return
    print(f"{model.name}: {model.title} ({catalogue.version})")
    if model.because:
        print(f"No rate card can say what it costs: {model.because}")
    for dated in cards:
        _write_card(dated.card, title=f"\n{_span(dated)}, rate card {dated.card.digest}, USD per million tokens")
    if model.also_billed:
        print(f"\nBilled besides, and on no rate card: {', '.join(model.also_billed)}")


@app.command(help="Write the catalogue's prices into the books. Exit status 1 when a change has to be looked at first.")
def sync(
    accept: Annotated[
        list[str] | None, typer.Option("--accept", help="A model whose change was looked at; may be repeated.")
    ] = None,
    json: AsJson = False,
) -> None:
    async def work(rooms: Office) -> Synced:
        day = datetime.fromtimestamp(rooms.clock.unix_us() / 1_000_000, UTC).date()
        return await sync_catalogue(
            rooms.prices, PackagedCatalogue(), clock=rooms.clock, day=day, accepted=frozenset(accept or ())
        )

    result = in_office(work)
    if json:
        held = [_doubt_view(doubt) for doubt in result.held_back]
        write_json({"models": result.models, "new_rows": result.new_rows, "held_back": held})
    else:
        print(f"{result.models} models, {result.new_rows} new prices")
        _write_doubts(result.held_back)
    if result.held_back:
        note("held back until somebody looked: then `breakeven price sync --accept MODEL`")
        raise typer.Exit(1)


@app.command(help="What is odd in the catalogue, and what litellm's map disputes. Exit status 1 when there is any.")
def check(
    models: Annotated[
        list[str] | None, typer.Argument(help="Only these; without any: all that both lists have.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="litellm's map as a file; else that of an installed one.")
    ] = None,
    at: At = None,
    json: AsJson = False,
) -> None:
    path = against or installed_map()
    second = read_map(path)
    catalogue = PackagedCatalogue()
    unknown = [name for name in models or () if catalogue.find(name) is None]
    if unknown:
        raise SetupError(f"{catalogue.version} has no model {unknown[0]}: `breakeven price list` names those it has")
    names = frozenset(models or ())
    doubts = [*catalogue_doubts(catalogue, day=_day(at), second=second, second_name=path.name, names=names)]
    if json:
        write_json([_doubt_view(doubt) for doubt in doubts])
    elif doubts:
        _write_doubts(doubts)
    else:
        print("nothing odd, nothing disputed")
    if doubts:
        raise typer.Exit(1)


app.command(help=HELP)(correct)


def _show_card(digest: str, *, json: bool) -> None:
    card = in_office(lambda rooms: rooms.prices.find(digest))
    if card is None:
        raise SetupError(f"no rate card {digest} was ever in force here: receipts name the digest after their prices")
    if json:
        write_json(_card_view(card))
    else:
        _write_card(card, title=f"rate card {digest}, {card.origin}, USD per million tokens")


def _write_card(card: RateCard, *, title: str) -> None:
    """A row for each size of prompt in each service tier; columns only for kinds that have a price."""
    sheets = [(tier, above, dict(sheet.prices())) for tier, above, sheet in card.whole_list().sheets()]
    kinds = [kind for kind in (*_KINDS, *_MORE_KINDS) if any(kind in prices for _, _, prices in sheets)]
    print(title)
    write_table(
        head=("service tier", "prompt over", *(kind.replace("_", " ") for kind in kinds)),
        words=1,
        rows=[
            (
                tier or "standard",
                "" if above < 0 else f"{above:,}",
                *(f"{prices[kind].normalize():f}" if kind in prices else "" for kind in kinds),
            )
            for tier, above, prices in sheets
        ],
    )


def _brief(card: RateCard) -> Sequence[str]:
    terms = card.whole_list()
    return (
        *(f"{price.normalize():f}" for price in (card.prompt, card.cached_prompt, card.output)),
        ", ".join(f"> {tier.above_tokens:,}" for tier in terms.context_tiers),
        ", ".join(tier.name for tier in terms.service_tiers),
    )


def _write_doubts(doubts: Iterable[Doubt]) -> None:
    for doubt in doubts:
        print(f"{doubt.name}: {doubt.message} ({doubt.kind.value})")


def _doubt_view(doubt: Doubt) -> dict[str, str]:
    return {"name": doubt.name, "kind": doubt.kind.value, "message": doubt.message}


def _model_view(model: CatalogueModel, cards: Iterable[DatedCard]) -> dict[str, object]:
    return {
        "name": model.name,
        "title": model.title,
        "context_tokens": model.context_tokens,
        "because": model.because,
        "also_billed": list(model.also_billed),
        "cards": [
            {
                "valid_from": dated.valid_from and dated.valid_from.isoformat(),
                "valid_to": dated.valid_to and dated.valid_to.isoformat(),
                **_card_view(dated.card),
            }
            for dated in cards
        ],
    }


def _card_view(card: RateCard) -> dict[str, object]:
    return {"rate_card": card.digest, "origin": card.origin, **list_as_json(card)}


def _span(dated: DatedCard) -> str:
    if dated.valid_from is None and dated.valid_to is None:
        return "Since ever"
    begin = "Since ever" if dated.valid_from is None else f"From {dated.valid_from}"
    return begin if dated.valid_to is None else f"{begin} to the day before {dated.valid_to}"


def _day(written: str | None) -> date:
    if written is None:
        return SystemClock().today()
    try:
        return date.fromisoformat(written)
    except ValueError as fault:
        raise typer.BadParameter("write a day, such as 2026-07-29", param_hint="--at") from fault
