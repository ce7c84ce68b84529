"""`breakeven budget …`: what budgets are spent, what is held of them, and when they end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from app.bootstrap import Office, send_test_alert
from app.cli.books import in_office
from app.cli.output import AsJson, write_json, write_table
from app.domain.alert import AlertKind, percent
from app.domain.errors import BadRequest
from app.domain.money import shown
from app.flows.alerts import kept_view
from app.flows.budget_standings import BudgetStanding, budget_standings, standing_view, whose
from app.flows.policy_archive import Word, compiled_policy
from app.ports.alerts import AlertKept
from app.settings import read_settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="See budgets: what is spent, what is held, when they end; and their alerts.",
)

_HEAD = ("budget", "of", "every", "mode", "ends", "used up", "amount USD", "spent", "held", "lost", "left", "used %")
_WORDS = 6
_ALERTS_HEAD = ("raised (UTC)", "budget", "at", "spent USD", "state", "attempts", "next", "last error")


@app.command("list", help="Every budget of the policy files, in its present period.")
def list_all(json: AsJson = False) -> None:
    found = in_office(_standings)
    if json:
        write_json([standing_view(each) for each in found])
        return
    write_table(head=_HEAD, rows=[_row(each) for each in found], words=_WORDS)


@app.command(help="One budget in full.")
def show(
    name: Annotated[str, typer.Argument(help="As the policy files name it.")],
    json: AsJson = False,
) -> None:
    found = {each.budget.name: each for each in in_office(_standings)}
    if name not in found:
        raise BadRequest(
            f'the policy files have no budget "{name[:80]}"; they have: {", ".join(found) or "none"}', param="name"
        )
    view = standing_view(found[name])
    if json:
        write_json(view)
    else:
        write_table(head=("", ""), rows=[(key, _told(value)) for key, value in view.items()], words=2)


@app.command(help="Alerts of budgets, newest first: what was raised, whether it arrived, why not.")
def alerts(
    last: Annotated[int, typer.Option("--last", min=1, max=10_000, help="How many.")] = 50,
    json: AsJson = False,
) -> None:
    async def read(rooms: Office) -> Sequence[AlertKept]:
        return await rooms.alerts.latest(most=last)

    found = in_office(read)
    if json:
        write_json([kept_view(kept) for kept in found])
        return
    write_table(head=_ALERTS_HEAD, rows=[_alert_row(kept) for kept in found], words=len(_ALERTS_HEAD))


@app.command(
    "test-alert", help="Post a signed test alert to BREAKEVEN_ALERT_WEBHOOK_URL, once, and say what came back."
)
def try_alert(json: AsJson = False) -> None:
    alert_id = asyncio.run(send_test_alert(read_settings()))
    if json:
        write_json({"id": alert_id, "state": "delivered"})
    else:
        print(f"the receiver took the test alert {alert_id}")


async def _standings(rooms: Office) -> Sequence[BudgetStanding]:
    policy = (await compiled_policy(rooms.archive, Word.FILES)).policy
    return await budget_standings(policy, rooms.budgets, rooms.spend, at_s=rooms.clock.unix_us() / 1e6)


def _row(standing: BudgetStanding) -> tuple[str, ...]:
    budget = standing.budget
    return (
        budget.name,
        whose(budget),
        budget.every.value,
        budget.mode.value,
        f"{standing.end:%Y-%m-%d}",
        "" if standing.used_up_at is None else f"{standing.used_up_at:%Y-%m-%d}",
        shown(budget.amount),
        shown(standing.spent),
        shown(standing.held),
        shown(standing.lost),
        shown(standing.left),
        standing.used_percent,
    )


def _told(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)


def _alert_row(kept: AlertKept) -> tuple[str, ...]:
    alert = kept.alert
    about = f"{percent(alert.threshold_ppm)} %"
    return (
        f"{alert.raised_at:%Y-%m-%d %H:%M:%S}",
        alert.budget,
        about if alert.kind is AlertKind.SPENT else f"{about} {alert.kind.value}",
        f"{shown(alert.spent)} of {shown(alert.amount)}",
        kept.state.value,
        str(kept.attempts),
        "" if kept.next_at is None else f"{kept.next_at:%H:%M:%S}",
        kept.last_error or "",
    )
