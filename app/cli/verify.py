"""`breakeven verify`: the books prove themselves."""

from __future__ import annotations

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.output import AsJson, note, write_json, write_table
from app.domain.budget import Mode
from app.domain.errors import PolicyInvalid
from app.domain.ledger.invariants import SAID, Checked
from app.flows.policy_archive import NotValid, Word, compiled_policy
from app.flows.verify import verified

app = typer.Typer(add_completion=False)


@app.command(help="Check what must always hold of the books.")
def verify(json: AsJson = False) -> None:
    """Exit status 1 when anything does not hold. Only reads, and may run beside a busy gateway; of many millions of
    rows it takes minutes."""

    async def check(rooms: Office) -> list[Checked]:
        found = []
        async for checked in verified(rooms.proof, rooms.months, soft_accounts=await _soft_accounts(rooms)):
            found.append(checked)
            if not json:
                note(f"{len(found)} of {len(SAID)}: {SAID[checked.invariant]}")
        return found

    found = in_office(check)
    if json:
        write_json({"holds": all(each.holds for each in found), "invariants": [_view(each) for each in found]})
    else:
        _write(found)
    if not all(each.holds for each in found):
        raise typer.Exit(1)


async def _soft_accounts(rooms: Office) -> list[str]:
    """Of the policy's budgets; with files that cannot be read every overrun is told."""
    try:
        compiled = await compiled_policy(rooms.archive, Word.FILES)
    except (PolicyInvalid, NotValid):
        return []
    return [budget.account for budget in compiled.policy.budgets.values() if budget.mode is not Mode.HARD]


def _view(checked: Checked) -> dict[str, object]:
    return {
        "invariant": checked.invariant.value,
        "says": SAID[checked.invariant],
        "holds": checked.holds,
        "rows": checked.rows,
        "violations": checked.violations,
        "named": list(checked.named),
    }


def _write(found: list[Checked]) -> None:
    rows = [
        (SAID[each.invariant], "holds" if each.holds else "broken", f"{each.rows:,}", f"{each.violations:,}")
        for each in found
    ]
    write_table(head=("invariant", "", "rows", "violations"), rows=rows, words=2)
    for each in found:
        for name in each.named:
            note(f"{each.invariant}: {name}")
