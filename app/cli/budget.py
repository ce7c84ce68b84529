"""`breakeven budget …`: what budgets are spent, what is held of them, and when they end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.output import AsJson, write_json, write_table
from app.domain.errors import BadRequest
from app.domain.money import dollars, shown
from app.flows.budget_standings import BudgetStanding, budget_standings
from app.flows.policy_archive import Word, compiled_policy

app = typer.Typer(no_args_is_help=True, help="See budgets: what is spent, what is held, when they end.")

_HEAD = ("budget", "of", "every", "mode", "ends", "used up", "amount USD", "spent", "held", "left", "used %")
_WORDS = 6


@app.command("list", help="Every budget of the policy files, in its present period.")
def list_all(json: AsJson = False) -> None:
    found = in_office(_standings)
    if json:
        write_json([_view(each) for each in found])
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
    view = _view(found[name])
    if json:
        write_json(view)
    else:
        write_table(head=("", ""), rows=[(key, str(value)) for key, value in view.items()], words=2)


async def _standings(rooms: Office) -> Sequence[BudgetStanding]:
    policy = (await compiled_policy(rooms.archive, Word.FILES)).policy
    return await budget_standings(policy, rooms.budgets, rooms.spend, at_s=rooms.clock.unix_us() / 1e6)


def _of(standing: BudgetStanding) -> str:
    budget = standing.budget
    whose = {
        "team": budget.team,
        "cost centre": budget.cost_centre,
        "key": budget.key,
        "model": budget.model,
        "tag": budget.tag,
    }
    return ", ".join(f"{kind} {name}" for kind, name in whose.items() if name is not None) or "the whole gateway"


def _row(standing: BudgetStanding) -> tuple[str, ...]:
    budget = standing.budget
    return (
        budget.name,
        _of(standing),
        budget.every.value,
        budget.mode.value,
        f"{standing.end:%Y-%m-%d}",
        "" if standing.used_up_at is None else f"{standing.used_up_at:%Y-%m-%d}",
        shown(budget.amount),
        shown(standing.spent),
        shown(standing.held),
        shown(standing.left),
        f"{100 * standing.spent / budget.amount:.1f}" if budget.amount else "100.0",
    )


def _view(standing: BudgetStanding) -> dict[str, object]:
    """Dollars as text, exact."""
    budget = standing.budget
    return {
        "name": budget.name,
        "of": _of(standing),
        "every": budget.every.value,
        "mode": budget.mode.value,
        "begin": standing.begin.isoformat(),
        "end": standing.end.isoformat(),
        "usd": str(dollars(budget.amount)),
        "spent_usd": str(dollars(standing.spent)),
        "held_usd": str(dollars(standing.held)),
        "lost_usd": str(dollars(standing.lost)),
        "left_usd": str(dollars(standing.left)),
        "overrun_usd": str(dollars(standing.overrun)),
        "used_up_at": None if standing.used_up_at is None else standing.used_up_at.isoformat(),
    }
