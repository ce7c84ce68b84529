"""What a first start leaves behind: a key to try things with, the operator's key, the worker's speed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from app.bootstrap import Office
from app.cli.key import new_operator_key
from app.domain.errors import SetupError, Unauthenticated
from app.domain.ledger.period import read_period
from app.domain.ledger.report import CostReport
from app.domain.target import Target
from app.flows.keys import KeyWish, create_key
from app.flows.reports import cost_report, query_of
from app.live.keys import KnownKeys
from app.providers.version import engine_version
from app.storage.pepper import read_private, write_once

KEY_FILE: Final = "quick-start-key"
TEAM: Final = "demo"
COST_CENTRE: Final = "quick-start"
#: How long a receipt may take from the gateway's spool into the books.
SHIPPED_WITHIN_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.1
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickKeys:
    """The keys of a quick start. `operator` only at the start that made it: it is shown that once."""

    caller: str
    operator: str | None


async def quick_keys(rooms: Office, *, data: Path) -> QuickKeys:
    """The key kept from an earlier start as long as it opens the gateway, or else a new one, kept in a private file."""
    operator = new_operator_key(rooms)
    path = data / KEY_FILE
    kept = "".join(read_private(path) or ())
    if await _opens(kept, rooms):
        return QuickKeys(caller=kept, operator=operator)
    path.unlink(missing_ok=True)
    wish = KeyWish(name="quick start", team=TEAM, cost_centre=COST_CENTRE)
    new = await create_key(rooms.keys, wish, peppers=rooms.peppers, random_bytes=rooms.random_bytes, clock=rooms.clock)
    write_once(path, [new.text], random_bytes=rooms.random_bytes)
    return QuickKeys(caller=new.text, operator=operator)


async def _opens(text: str, rooms: Office) -> bool:
    """Whether a gateway over these books would take this key now."""
    known = KnownKeys(rooms.peppers)
    known.replace_all(await rooms.keys.all())
    try:
        known.find(text, at_s=rooms.clock.unix_us() / _MICROSECONDS)
    except Unauthenticated:
        return False
    return True


async def has_rates(rooms: Office, target: Target) -> bool:
    """Whether a measurement of this target and model is in the books, of whatever engine version."""
    return any(rates.target == target.name and rates.model == target.model for rates in await rooms.rates.newest())


async def has_rates_of_this_engine(rooms: Office, target: Target) -> bool:
    """Whether one is there for the version of the engine that answers now."""
    version = await engine_version(target.url, kind=target.kind)
    return any(
        (rates.target, rates.model, rates.engine_version) == (target.name, target.model, version)
        for rates in await rooms.rates.newest()
    )


async def report_with(rooms: Office, request_id: str) -> CostReport:
    """Today's cost by team and target, once the request is booked. Raises SetupError when it does not arrive."""
    deadline_s = rooms.clock.monotonic_s() + SHIPPED_WITHIN_S
    while await rooms.ledger.find(request_id) is None:
        if rooms.clock.monotonic_s() > deadline_s:
            raise SetupError(
                f"the receipt of {request_id} did not reach the database within {SHIPPED_WITHIN_S:.0f} s: it waits in "
                "the spool; see the gateway's log for what holds it up"
            )
        await asyncio.sleep(_LOOK_EVERY_S)
    now = datetime.fromtimestamp(rooms.clock.unix_us() / _MICROSECONDS, UTC)
    return await cost_report(rooms.reports, query_of(period=read_period("today", now=now), by="team,target"))
