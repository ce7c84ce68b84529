"""`breakeven policy history`, `diff`, `rollback`, `release`: what was in force, what differs, and the way back."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.output import AsJson, console, counted, note, write_json, write_table
from app.domain.errors import PolicyInvalid
from app.domain.findings import Severity, finding_view
from app.flows.policy_archive import NotValid, RevisionUnknown, Word, find_policy, find_revision
from app.flows.policy_history import (
    PolicyPast,
    RolledBack,
    as_text,
    pin_view,
    policy_past,
    release_pin,
    revision_view,
    roll_back,
)
from app.flows.policy_moves import PolicyDiff, diff_view, policy_diff
from app.ports import Pin, Revision

MOST_REVISIONS = 1000
MOST_REQUESTS = 100_000
#: Request ids that the table for people names; JSON names all.
_IDS_SHOWN = 10

_HEAD = ("digest", "first seen", "author", "first in force", "state", "findings")
_WORDS = 5

Digest = Annotated[str, typer.Argument(metavar="DIGEST", help="Or its first digits, 4 or more.")]
Side = Annotated[str, typer.Argument(metavar="OLD", help="A digest, its first digits, `files` or `live`.")]
Other = Annotated[str, typer.Argument(metavar="NEW", help="The same for the other one.")]


def history(
    most: Annotated[int, typer.Option("--most", "-n", min=1, max=MOST_REVISIONS, help="How many revisions.")] = 20,
    show: Annotated[
        str | None, typer.Option("--show", metavar="DIGEST", help="Write out the files of one revision.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Every revision that was in force or was offered, the newest first."""
    if show is None:
        past, live = in_office(lambda rooms: _past_and_live(rooms, most=most))
        _write_past(past, live=live, as_json=json)
        return

    async def one(rooms: Office) -> tuple[Revision, Pin | None]:
        return await find_revision(rooms.archive, show), await rooms.archive.history.pinned()

    revision, pin = in_office(one)
    if json:
        write_json(revision_view(revision, pin=pin, with_files=True))
    else:
        _write_files(revision, pin=pin)


def rollback(
    digest: Digest,
    by: Annotated[str | None, typer.Option("--by", help="Who decided this; without it, your user name.")] = None,
    json: AsJson = False,
) -> None:
    """Pin an old revision: every gateway serves it within seconds, whatever the files say, until `release`."""
    try:
        done = in_office(lambda rooms: roll_back(rooms.archive, digest, by=by or _user()))
    except PolicyInvalid as fault:
        _write_refusal(fault, as_json=json)
        raise typer.Exit(1) from fault
    if json:
        write_json({"pin": pin_view(done.pin), "findings": [finding_view(each) for each in done.warnings]})
    else:
        _write_rolled_back(done)


def release(json: AsJson = False) -> None:
    """Release the pin: the files decide again."""
    pin = in_office(lambda rooms: release_pin(rooms.archive))
    if json:
        write_json({"released": pin_view(pin)})
    elif pin is None:
        note("nothing was pinned: the files decide, as before")
    else:
        print(f"released {pin.digest}, which {pin.by} had pinned: the files decide again within seconds")


def diff(
    old: Side,
    new: Other,
    last: Annotated[
        int, typer.Option("--last", min=0, max=MOST_REQUESTS, help="Past requests to decide again under both.")
    ] = 1000,
    json: AsJson = False,
) -> None:
    """What differs between two policies, and which of the last requests would go elsewhere."""
    try:
        made = in_office(lambda rooms: policy_diff(rooms.archive, old, new, last=last))
    except PolicyInvalid as fault:
        _write_refusal(fault, as_json=json)
        raise typer.Exit(1) from fault
    if json:
        write_json(diff_view(made))
    else:
        _write_diff(made)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


async def _past_and_live(rooms: Office, *, most: int) -> tuple[PolicyPast, str | None]:
    """The past, and the digest that serves; None while there is nothing that could."""
    past = await policy_past(rooms.archive, most=most)
    try:
        return past, (await find_policy(rooms.archive, Word.LIVE)).digest
    except (PolicyInvalid, RevisionUnknown):
        return past, None


def _write_past(past: PolicyPast, *, live: str | None, as_json: bool) -> None:
    views = [revision_view(one, pin=past.pin) for one in past.revisions]
    if as_json:
        write_json({"in_force": live, "pin": pin_view(past.pin), "revisions": views})
        return
    if past.pin is not None:
        note(f"{past.pin.digest} is pinned by {past.pin.by}: the files wait for `breakeven policy release`")
    if not views:
        note("no revision yet: a gateway writes its first one when it starts")
        return
    write_table(head=_HEAD, rows=[_row(view, live=live) for view in views], words=_WORDS)


def _row(view: Mapping[str, Any], *, live: str | None) -> tuple[str, ...]:
    states = ("in force" if view["digest"] == live else "", "pinned" if view["pinned"] else "")
    state = ", ".join(filter(None, states)) or ("refused" if view["in_force_at"] is None else "")
    return (
        str(view["digest"]),
        str(view["seen_at"]),
        str(view["author"]),
        str(view["in_force_at"] or "never"),
        state,
        str(len(view["findings"])),
    )


def _write_files(revision: Revision, *, pin: Pin | None) -> None:
    view = revision_view(revision, pin=pin)
    since = f"first in force {view['in_force_at']}" if view["in_force_at"] else "never in force"
    note(f"{revision.digest}, by {revision.author}, first seen {view['seen_at']}, {since}")
    for finding in revision.findings:
        note(as_text(finding))
    for name, text in sorted(revision.files.items()):
        print(f"# ── {name}")
        print(as_text(text).removesuffix("\n"))


def _write_refusal(fault: PolicyInvalid, *, as_json: bool) -> None:
    name = fault.name if isinstance(fault, NotValid) else Word.FILES.value
    if as_json:
        write_json({"not_valid": name, "findings": [finding_view(each) for each in fault.findings]})
        return
    for finding in fault.findings:
        print(finding)
    errors = sum(finding.severity is Severity.ERROR for finding in fault.findings)
    note(f"{name} is no valid policy for this version ({counted(errors, 'error')}): nothing was changed")


def _write_rolled_back(done: RolledBack) -> None:
    for finding in done.warnings:
        print(finding)
    instead = "" if done.before is None else f" instead of {done.before.digest}"
    print(f"pinned {done.pin.digest}{instead}, by {done.pin.by}: every gateway serves it within seconds")
    print("the files wait: `breakeven policy release` lets them decide again")


def _write_diff(made: PolicyDiff) -> None:
    out = console()
    view: Mapping[str, Any] = diff_view(made)
    print(f"from {made.old.digest} to {made.new.digest}")
    for change in made.changes:
        out.print(f"  {change}", soft_wrap=True)
    if not made.changes:
        print("  they decide alike")
    requests = view["requests"]
    print(f"{requests['looked_at']} requests decided again: {requests['moved']} would go elsewhere", end="")
    print(f", {requests['other_fallbacks']} more have other fallbacks" if requests["other_fallbacks"] else "")
    if requests["assumed"]:
        print(f"{requests['assumed']} of them to or from targets nobody had looked at then, taken for idle")
    if requests["ways"]:
        _write_ways(requests["ways"], requests["ids"])


def _write_ways(ways: Sequence[Mapping[str, Any]], moves: Sequence[Mapping[str, Any]]) -> None:
    rows = [(str(way["from"]), str(way["to"]), f"{way['count']:,}") for way in ways]
    write_table(head=("from", "to", "requests"), rows=rows, words=2)
    print("the newest of them:")
    for move in moves[:_IDS_SHOWN]:
        before, after = move["rule_from"], move["rule_to"]
        rules = "" if before == after else f', rule "{before or "none"}" → "{after or "none"}"'
        print(f"  {move['id']}  {move['model']}: {move['from']} → {move['to']}{rules}")
    if len(moves) > _IDS_SHOWN:
        print(f"  and {len(moves) - _IDS_SHOWN:,} more: --json names them all")
