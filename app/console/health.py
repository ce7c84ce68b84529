"""Is it alive, is it ready, what do its figures say: open to everybody who reaches this port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from app.domain.routing.filters import rests
from app.domain.routing.policy import Policy
from app.domain.target import Hosting, Target, TargetSeen

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SERVES: Final = "may serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What readiness rests on. None: not known in this process."""

    postgres_up: bool
    policy_digest: str
    #: What somebody should look at, such as files that were refused; the policy in force serves all the same.
    policy_warning: str | None = None
    targets: Mapping[str, str] = field(default_factory=dict)
    spool_depth: int | None = None
    spool_quarantined: int | None = None
    #: Gateway processes that refuse new work because they cannot keep a record of it.
    spool_refusing: int | None = None

    def wrong(self) -> dict[str, str]:
        """What is wrong, by name, in sentences; empty means ready."""
        wrong: dict[str, str] = {}
        if not self.postgres_up:
            wrong["postgres"] = (
                "Postgres does not answer: receipts wait in the spool, reports and keys are not to be had"
            )
        if self.spool_refusing:
            wrong["spool"] = (
                "new work is refused, as its record cannot be kept: free some space in the data directory, or bring "
                "Postgres back where the spool is at its cap; the gateway's /readyz says which"
            )
        if self.targets and SERVES not in self.targets.values():
            wrong["targets"] = "no target may serve: see the reason beside each"
        return wrong


def target_states(policy: Policy, fleet: Mapping[str, TargetSeen]) -> dict[str, str]:
    """For each target of the policy, whether it may serve at all, or why not."""
    return {name: _state(target, fleet.get(name, TargetSeen())) for name, target in sorted(policy.targets.items())}


def health_router(health: Callable[[], Awaitable[Health]], metrics: Callable[[], Awaitable[bytes]]) -> APIRouter:
    """`/livez`, `/readyz`, `/metrics`."""
    router = APIRouter()

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz() -> Response:
        seen = await health()
        wrong = seen.wrong()
        answer = {
            "status": "not ready" if wrong else "ready",
            "because": wrong,
            "warnings": {} if seen.policy_warning is None else {"policy": seen.policy_warning},
            "postgres": "up" if seen.postgres_up else "away",
            "spool_depth": seen.spool_depth,
            "spool_quarantined": seen.spool_quarantined,
            "policy": seen.policy_digest,
            "targets": dict(seen.targets),
        }
        return JSONResponse(answer, status_code=503 if wrong else 200)

    @router.get("/metrics")
    async def exposition() -> Response:
        return Response(await metrics(), headers={"content-type": METRICS_TYPE})

    return router


def _state(target: Target, seen: TargetSeen) -> str:
    if not seen.credential_present:
        return f"its credential {target.credential} is not set"
    if seen.rate_card is None:
        mend = "measure it or give its rates" if target.hosting is Hosting.SELF_HOSTED else "give it in the policy"
        return f"its price is not known: {mend}"
    return rests(seen) or SERVES
