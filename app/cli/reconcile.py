"""`breakeven reconcile provider FILE`: a seller's export against the books, and a cause for every difference."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.output import AsJson, note, write_json, write_table
from app.documents.provider_export import UNDERSTOOD, read_export
from app.domain.errors import BadRequest
from app.domain.ledger.billing import Export
from app.domain.ledger.period import Period, read_range
from app.domain.ledger.reconciliation import (
    EXPLAIN_MOST_PPM,
    GREEN_MOST_PPM,
    Band,
    Cause,
    Compared,
    Finding,
    Reconciliation,
)
from app.domain.money import Nanodollars, shown
from app.flows.reconcile import Reconciling, compared_targets, period_of, reconcile_provider
from app.ports.billing import CalledTarget

_LARGEST = 10
_SAID = {
    Cause.UNLOGGED: "the export has it, our books do not",
    Cause.BILLED_TWICE: "the export has the request a second time",
    Cause.NOT_AT_PROVIDER: "our books have it, the export does not",
    Cause.PRICE: "the same tokens for other money",
    Cause.CACHED: "as many tokens, but others of them cached",
    Cause.TIER: "billed in another service tier",
    Cause.ESTIMATE: "our row is estimated, the seller counted",
    Cause.USAGE: "the seller counted other tokens",
    Cause.CREDIT: "a credit in our books that the export does not have",
    Cause.TIME_BORDER: "counted for another UTC day, or another period",
    Cause.ROUNDING: "as small as the export's own rounding",
    Cause.UNEXPLAINED: "the export does not say enough to tell",
}

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Hold the books against what others say that they bill."
)


@app.callback()
def reconcile() -> None:
    """Hold the books against what others say that they bill."""


@app.command(
    help="Compare a seller's export with the books: total, models, days, and a cause for every difference. Exit status "
    f"1 when the total or a model is off by more than {EXPLAIN_MOST_PPM / 10_000:g} %. Nothing is booked.",
    epilog=f"Understood are {UNDERSTOOD}.",
)
def provider(
    files: Annotated[list[Path], typer.Argument(help="The export; several when it has parts, or tokens and costs.")],
    seller: Annotated[
        str | None, typer.Option("--provider", help="Whose bill it is, such as openai: all its targets are compared.")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    first: Annotated[
        str | None, typer.Option("--from", help="The first period: 2026-11, 2026-11-23 … (UTC); the export's when out.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last period, included; today when left out.")] = None,
    project: Annotated[list[str] | None, typer.Option(help="Only this project of the export; may be repeated.")] = None,
    largest: Annotated[int, typer.Option(min=0, max=1000, help="How many single requests are listed.")] = _LARGEST,
    json: AsJson = False,
) -> None:
    if seller and target:
        raise BadRequest("name the provider or its targets, not both", param="target")
    export = _read(files)

    async def work(rooms: Office) -> tuple[tuple[CalledTarget, ...], Reconciliation]:
        period = _period(export, first=first, last=last, now_s=rooms.clock.unix_us() / 1_000_000)
        targets = await compared_targets(
            rooms.calls, period, provider=seller or export.provider, names=frozenset(target or ())
        )
        books = Reconciling(calls=rooms.calls, prices=rooms.prices)
        return targets, await reconcile_provider(
            books, export, period=period, targets=targets, projects=frozenset(project or ())
        )

    targets, result = in_office(work)
    if json:
        write_json(_view(result, export=export, targets=targets, largest=largest))
    else:
        _write(result, export=export, targets=targets, largest=largest)
    _write_notes(result, export=export, projects=project or ())
    if result.band is Band.RED:
        raise typer.Exit(1)


def _read(files: Sequence[Path]) -> Export:
    with contextlib.ExitStack() as stack:
        opened = [(str(path), stack.enter_context(path.open(encoding="utf-8-sig", newline=""))) for path in files]
        try:
            return read_export(opened)
        except UnicodeDecodeError as fault:
            raise BadRequest(
                f"the export is no UTF-8 text ({fault.reason}): save it as CSV or JSON in UTF-8"
            ) from fault


def _period(export: Export, *, first: str | None, last: str | None, now_s: float) -> Period:
    if first is None and last is None:
        return period_of(export)
    return read_range(first=first, last=last, now=datetime.fromtimestamp(now_s, UTC))


def _write(result: Reconciliation, *, export: Export, targets: Sequence[CalledTarget], largest: int) -> None:
    how = "request by request" if export.calls else "day by day"
    named = ", ".join(f"{each.name} ({each.kind}, {each.attempts:,} attempts)" for each in targets)
    print(
        f"{result.period.since:%Y-%m-%d %H:%M} to {result.period.until:%Y-%m-%d %H:%M} UTC, {how}\n"
        f"targets: {named or 'none'}\n"
    )
    write_table(
        head=("model", "day", *_FIGURES), words=2, rows=_rows(result), total=("total", "", *_figures(result.total))
    )
    print()
    write_table(
        title="causes of the residual, USD",
        head=("cause", "what it is", "requests", "billed more", "billed less", "together"),
        words=2,
        rows=[
            (
                _words(line.cause),
                _SAID[line.cause],
                f"{line.requests:,}",
                *map(shown, (line.more, line.less, line.amount)),
            )
            for line in result.causes
        ],
        total=("residual", "", "", "", "", shown(result.total.residual)),
    )
    if result.largest and largest:
        print()
        write_table(
            title="the largest single requests, USD",
            head=("request", "model", "day", "cause", "ours", "provider", "residual"),
            words=4,
            rows=[_finding_row(each) for each in result.largest[:largest]],
        )


def _rows(result: Reconciliation) -> list[tuple[str, ...]]:
    """Each model, then its days."""
    rows: list[tuple[str, ...]] = []
    for model, compared in result.models.items():
        rows.append((model, "", *_figures(compared)))
        rows.extend(
            ("", f"{day:%Y-%m-%d}", *_figures(each)) for (name, day), each in result.days.items() if name == model
        )
    return rows


_FIGURES = ("our requests", "provider's", "ours USD", "provider USD", "residual USD", "%", "band")


def _figures(compared: Compared) -> tuple[str, ...]:
    counted = compared.provider_requests
    return (
        f"{compared.our_requests:,}",
        "–" if counted is None else f"{counted:,}",
        shown(compared.ours),
        shown(compared.provider),
        shown(compared.residual),
        "–" if compared.ppm is None else f"{compared.ppm / 10_000:.2f}",
        compared.band.name.lower(),
    )


def _finding_row(finding: Finding) -> tuple[str, ...]:
    return (
        finding.request,
        finding.model,
        f"{finding.day:%Y-%m-%d}",
        ", ".join(_words(cause) for cause, _ in finding.causes),
        *("–" if amount is None else shown(amount) for amount in (finding.ours, finding.provider)),
        shown(finding.residual),
    )


def _words(cause: Cause) -> str:
    return cause.value.replace("_", " ")


def _write_notes(result: Reconciliation, *, export: Export, projects: Sequence[str]) -> None:
    outside = sum(not result.period.since <= line.at < result.period.until for line in export.calls)
    if outside:
        note(f"{outside:,} lines of the export are outside the period: they are used to find requests, and not summed")
    there = sorted({line.project for line in export.days if line.project})
    if len(there) > 1 and not projects:
        note(f"the export has {len(there)} projects, all are compared ({', '.join(there[:5])}): --project chooses")
    if export.days and not export.has_money:
        note("the export names no money: its tokens are valued at our prices; give the export of costs beside it")
    if export.days and not export.has_tokens:
        note("the export names no tokens, so that few causes can be told: give the export of usage beside it")
    if result.band is Band.RED:
        note(
            f"red: the total or a model is off by more than {EXPLAIN_MOST_PPM / 10_000:g} % of what the provider bills"
        )
    elif result.band is Band.EXPLAIN:
        note(f"the total or a model is off by more than {GREEN_MOST_PPM / 10_000:g} %: see the causes")


def _view(
    result: Reconciliation, *, export: Export, targets: Sequence[CalledTarget], largest: int
) -> dict[str, object]:
    return {
        "since": result.period.since.isoformat(),
        "until": result.period.until.isoformat(),
        "by": "request" if export.calls else "day",
        "targets": [{"name": each.name, "kind": each.kind, "attempts": each.attempts} for each in targets],
        "band": result.band.name.lower(),
        "total": _plain(result.total),
        "models": [{"model": model, **_plain(each)} for model, each in result.models.items()],
        "days": [
            {
                "model": model,
                "day": day.isoformat(),
                **_plain(each),
                "causes": {
                    cause.value: int(amount) for cause, amount in result.causes_of_days.get((model, day), {}).items()
                },
            }
            for (model, day), each in result.days.items()
        ],
        "causes": [
            {
                "cause": line.cause.value,
                "requests": line.requests,
                "more_nanodollars": int(line.more),
                "less_nanodollars": int(line.less),
                "nanodollars": int(line.amount),
                "usd": shown(line.amount),
            }
            for line in result.causes
        ],
        "largest": [_finding_view(each) for each in result.largest[:largest]],
    }


def _plain(compared: Compared) -> dict[str, object]:
    return {
        "our_requests": compared.our_requests,
        "provider_requests": compared.provider_requests,
        "ours_usd": shown(compared.ours),
        "provider_usd": shown(compared.provider),
        "residual_usd": shown(compared.residual),
        "residual_nanodollars": int(compared.residual),
        "residual_ppm": compared.ppm,
        "band": compared.band.name.lower(),
    }


def _finding_view(finding: Finding) -> dict[str, object]:
    def usd(amount: Nanodollars | None) -> str | None:
        return None if amount is None else shown(amount)

    return {
        "request": finding.request,
        "model": finding.model,
        "day": finding.day.isoformat(),
        "ours_usd": usd(finding.ours),
        "provider_usd": usd(finding.provider),
        "residual_usd": shown(finding.residual),
        "causes": {cause.value: int(amount) for cause, amount in finding.causes},
    }
