"""Whether this process serves, and what is amiss while it does: `/readyz` and the refusal of everybody."""

from __future__ import annotations

from app.api.cold import Readiness
from app.live.admission import Admission
from app.live.books_seen import BooksSeen
from app.live.policy_slot import PolicySlot
from app.settings import Settings
from app.storage.spool import Spool


def closed(settings: Settings, books: BooksSeen) -> str | None:
    """Why nobody is served; None: requests are."""
    if settings.on_ledger_down == "spool" or books.are_there is not False:
        return None
    return "Postgres is away, and BREAKEVEN_ON_LEDGER_DOWN is refuse: try again when it is back"


def readiness(
    settings: Settings, spool: Spool, books: BooksSeen, policy: PolicySlot, admission: Admission
) -> Readiness:
    """What `/readyz` says now."""
    refusing: dict[str, str] = {} if spool.trouble is None else {"spool": spool.trouble}
    if admission.stopping:
        refusing["process"] = "it was told to stop, and ends once what it answers now is answered"
    warnings: dict[str, str] = {}
    if (reason := closed(settings, books)) is not None:
        refusing["postgres"] = reason
    elif books.are_there is False:
        warnings["postgres"] = f"it is away; {spool.depth} receipts wait in the spool, and requests are still served"
    if (edited := policy.status.warning()) is not None:
        warnings["policy"] = edited
    return Readiness(refusing=refusing, warnings=warnings)
