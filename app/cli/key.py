"""`breakeven key …`: virtual keys, and the operator's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from app.bootstrap import Office
from app.bootstrap.policy import unknown_models
from app.cli.books import in_office
from app.cli.limits import RequestsPerMinute, TokensPerMinute, limits_text, limits_view
from app.cli.output import AsJson, note, write_json, write_table
from app.domain.errors import BadRequest, SetupError
from app.domain.keys import read_key
from app.flows.keys import (
    KeyWish,
    NewKey,
    Revocation,
    create_key,
    find_key,
    list_keys,
    make_operator_key,
    revoke_key,
    rotate_key,
)
from app.flows.teams import read_limits
from app.ports import KeyRecord
from app.settings import read_settings

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Make, list, rotate, limit and revoke virtual keys.")

_FROM_NOW = re.compile(r"([1-9]\d{0,4})([dh])", re.ASCII)
_MICROSECONDS = 1_000_000

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `key list` shows it.")]


@app.command(help="Make a key. It is shown once and stored nowhere.")
def create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    team: Annotated[str, typer.Option(help="Whose requests these are.")],
    cost_centre: Annotated[
        str | None, typer.Option("--cost-centre", help="Who pays for them; left out: who pays for the team.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag on every request; may be given again.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Allow this model only; may be given again.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 2027-01-31, 2027-01-31T12:00Z, 30d, 12h.")] = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    json: AsJson = False,
) -> None:
    limits = read_limits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)

    async def make(rooms: Office) -> NewKey:
        now = datetime.fromtimestamp(rooms.clock.unix_us() / _MICROSECONDS, UTC)
        wish = KeyWish(
            name=name,
            team=team,
            cost_centre=cost_centre,
            tags=tuple(tag or ()),
            models=frozenset(model) if model else None,
            expires_at_s=None if expires is None else read_expiry(expires, now=now).timestamp(),
            limits=limits,
        )
        return await create_key(
            rooms.keys,
            wish,
            peppers=rooms.peppers,
            random_bytes=rooms.random_bytes,
            clock=rooms.clock,
            teams=rooms.teams,
        )

    new = in_office(make)
    if json:
        write_json({"key": new.text, **key_view(new.record, now_s=new.record.created_at_s)})
    else:
        print(new.text)
        note(f"key {new.record.caller.key_id} of team {team}: keep it now, it is shown once")
    if model:
        settings = read_settings()
        for unknown, mend in unknown_models(settings, model).items():
            note(f"the policy in {settings.policies} has no model {unknown}, so its requests are refused: {mend}")


@app.command("list", help="Every key ever made, the newest first; never the key itself.")
def list_all(json: AsJson = False) -> None:
    async def read(rooms: Office) -> tuple[Sequence[KeyRecord], float]:
        return await list_keys(rooms.keys), rooms.clock.unix_us() / _MICROSECONDS

    records, now_s = in_office(read)
    views = [key_view(record, now_s=now_s) for record in records]
    if json:
        write_json(views)
        return
    head = ("id", "name", "team", "cost centre", "models", "tags", "limits", "made", "expires", "used", "state")
    rows = [
        (
            str(view["id"]),
            record.name,
            record.caller.team,
            record.caller.cost_centre,
            ", ".join(sorted(record.caller.models)) if record.caller.models is not None else "every",
            ", ".join(record.caller.tags),
            limits_text(record.limits),
            str(view["created_at"]),
            str(view["expires_at"] or "never"),
            str(view["last_used_at"] or "never"),
            str(view["state"]),
        )
        for view, record in zip(views, records, strict=True)
    ]
    write_table(head=head, rows=rows, words=len(head))


@app.command(help="Everything that is known of a key; never the key itself.")
def show(key: KeyId, json: AsJson = False) -> None:
    async def read(rooms: Office) -> tuple[KeyRecord, float]:
        return await find_key(rooms.keys, id_of(key)), rooms.clock.unix_us() / _MICROSECONDS

    record, now_s = in_office(read)
    view = key_view(record, now_s=now_s)
    if json:
        write_json(view)
        return
    for name, value in view.items():
        print(f"{name.replace('_', ' '):20}  {_told(value)}")


@app.command(help="Make a new key that stands for the same; the old one goes on for a while. It is shown once.")
def rotate(
    key: KeyId,
    overlap: Annotated[str, typer.Option(help="How long the old key still opens: 24h, 7d, or 0.")] = "24h",
    json: AsJson = False,
) -> None:
    overlap_s = read_span(overlap).total_seconds()

    async def make(rooms: Office) -> NewKey:
        return await rotate_key(
            rooms.keys,
            id_of(key),
            overlap_s=overlap_s,
            peppers=rooms.peppers,
            random_bytes=rooms.random_bytes,
            clock=rooms.clock,
        )

    new = in_office(make)
    if json:
        write_json({"key": new.text, "follows": id_of(key), **key_view(new.record, now_s=new.record.created_at_s)})
        return
    print(new.text)
    until = _moment(new.record.created_at_s + overlap_s)
    note(
        f"key {new.record.caller.key_id} follows {id_of(key)}, which opens until {until} at the latest: keep the new "
        "one now, it is shown once"
    )


@app.command(help="Set what a key may ask for in a minute; what is left out has no limit.")
def limit(
    key: KeyId,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    json: AsJson = False,
) -> None:
    limits = read_limits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)

    async def change(rooms: Office) -> bool:
        return await rooms.keys.limit(id_of(key), limits)

    if not in_office(change):
        raise _unknown(id_of(key))
    if json:
        write_json({"id": id_of(key), **limits_view(limits)})
    else:
        print(f"key {id_of(key)}: {limits_text(limits)}")


@app.command(help="Revoke a key for good; every gateway refuses it within seconds.")
def revoke(key: KeyId, json: AsJson = False) -> None:
    key_id = id_of(key)

    async def end(rooms: Office) -> Revocation:
        return await revoke_key(rooms.keys, key_id, clock=rooms.clock)

    result = in_office(end)
    if result is Revocation.UNKNOWN:
        raise _unknown(key_id)
    if json:
        write_json({"id": key_id, "revoked": True, "already": result is Revocation.ALREADY})
    else:
        print(f"key {key_id} {'is revoked' if result is Revocation.DONE else 'was revoked before'}")


@app.command(help="Make the operator's key, which opens the console. It is shown once.")
def operator(
    new: Annotated[bool, typer.Option("--new", help="Replace the one there is; restart the console then.")] = False,
    json: AsJson = False,
) -> None:
    async def make(rooms: Office) -> str | None:
        if new:
            rooms.operator_key.forget()
        return new_operator_key(rooms)

    text = in_office(make)
    if text is None:
        raise SetupError(
            "there is an operator key already, and it was shown when it was made: `breakeven key operator --new` "
            "replaces it"
        )
    if json:
        write_json({"key": text})
        return
    print(text)
    note("the operator's key: keep it now, it is shown once")


def new_operator_key(rooms: Office) -> str | None:
    """A new operator key, its digest kept; None when there is one already."""
    text, digest = make_operator_key(peppers=rooms.peppers, random_bytes=rooms.random_bytes)
    return text if rooms.operator_key.keep(digest, pepper_version=rooms.peppers.newest.version) else None


def key_view(record: KeyRecord, *, now_s: float) -> dict[str, object]:
    """A key's record as plain values, times in ISO 8601."""
    caller = record.caller
    return {
        "id": caller.key_id,
        "name": record.name,
        "team": caller.team,
        "cost_centre": caller.cost_centre,
        "tags": list(caller.tags),
        "models": None if caller.models is None else sorted(caller.models),
        "created_at": _moment(record.created_at_s),
        "expires_at": _moment(caller.expires_at_s),
        "revoked_at": _moment(record.revoked_at_s),
        **limits_view(record.limits),
        "successor": record.successor,
        "last_used_at": _moment(record.last_used_at_s),
        "state": _state(record, now_s=now_s),
    }


def read_span(text: str) -> timedelta:
    """So many days or hours: `7d`, `24h`, or `0`. Raises BadRequest."""
    given = text.strip()
    if given in ("0", "0h", "0d"):
        return timedelta()
    span = _FROM_NOW.fullmatch(given)
    if span is None:
        raise BadRequest(f"{text[:40]!r} is no span of time: write 24h, 7d, or 0", param="overlap")
    return timedelta(hours=int(span[1])) if span[2] == "h" else timedelta(days=int(span[1]))


def id_of(key: str) -> str:
    """The id of a key that was given by its id, or whole."""
    read = read_key(key)
    return key if read is None else read.key_id


def read_expiry(text: str, *, now: datetime) -> datetime:
    """The moment that `text` names: a date (its beginning, UTC), a time, or so many days or hours from now.

    Raises BadRequest. `now` is aware.
    """
    from_now = _FROM_NOW.fullmatch(text.strip())
    if from_now is not None:
        count = int(from_now[1])
        return now + (timedelta(days=count) if from_now[2] == "d" else timedelta(hours=count))
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as fault:
        raise BadRequest(
            f"{text[:40]!r} is no moment: write 2027-01-31, 2027-01-31T12:00Z, 30d or 12h", param="expires"
        ) from fault
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _unknown(key_id: str) -> BadRequest:
    return BadRequest(f"there is no key {key_id[:40]!r}: `breakeven key list` shows the ids", param="key")


def _told(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return "" if value is None else str(value)


def _state(record: KeyRecord, *, now_s: float) -> str:
    if record.revoked_at_s is not None:
        return "revoked"
    return "expired" if record.caller.has_expired(at_s=now_s) else "active"


def _moment(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
