"""The policy in force, for people: targets with their state and price, routes with their rules. Operator only."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from app.console.access import OperatorOnly
from app.console.health import target_states
from app.console.policy_status import status_view
from app.console.rooms import ConsoleRooms
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.policy import Policy, Route, Rule
from app.domain.target import Target, TargetSeen
from app.live.policy_slot import PolicyStatus


def policy_router(rooms: ConsoleRooms, operator: OperatorOnly) -> APIRouter:
    """`/api/policy`."""
    router = APIRouter(prefix="/api")

    @router.get("/policy", dependencies=[Depends(operator)])
    async def policy() -> Response:
        return JSONResponse(policy_view(rooms.policy(), rooms.fleet(), status=rooms.policy_status()))

    return router


def policy_view(policy: Policy, fleet: Mapping[str, TargetSeen], *, status: PolicyStatus) -> dict[str, object]:
    """Digest, status, targets and routes as a JSON-ready mapping. Credentials appear as references only."""
    states = target_states(policy, fleet)
    return {
        "digest": policy.digest,
        "status": status_view(status),
        "timezone": str(policy.timezone),
        "targets": {
            name: _target(target, fleet.get(name, TargetSeen()), state=states[name])
            for name, target in sorted(policy.targets.items())
        },
        "models": {model: _route(route) for model, route in sorted(policy.routes.items())},
    }


def _target(target: Target, seen: TargetSeen, *, state: str) -> dict[str, object]:
    price = seen.rate_card or target.rate_card
    return {
        "state": state,
        "hosting": target.hosting.value,
        "kind": target.kind,
        "url": _without_credentials(target.url),
        "model": target.model,
        "can": sorted(capability.value for capability in target.can),
        "context_tokens": target.context_tokens,
        "in_flight": seen.in_flight,
        "in_flight_most": target.in_flight_most,
        "credential": target.credential,
        "machine": None if target.machine is None else {"type": target.machine.type, "count": target.machine.count},
        "usd_per_million_tokens": None if price is None else _price(price),
    }


def _price(price: RateCard) -> dict[str, object]:
    return {
        "prompt": f"{price.prompt:f}",
        "cached_prompt": f"{price.cached_prompt:f}",
        "output": f"{price.output:f}",
        "origin": price.origin,
        "digest": price.digest,
    }


def _route(route: Route) -> dict[str, object]:
    return {
        "rules": [_rule(rule) for rule in route.rules],
        "attempts": route.attempts,
        "hedge_after_ms": None if route.hedge_after_s is None else 1000 * route.hedge_after_s,
        "timeouts": {
            "connect_s": route.timeouts.connect_s,
            "first_token_s": route.timeouts.first_token_s,
            "idle_s": route.timeouts.idle_s,
            "total_s": route.timeouts.total_s,
        },
        "output_tokens": {"default": route.output_tokens_default, "most": route.output_tokens_most},
    }


def _rule(rule: Rule) -> dict[str, object]:
    return {
        "name": rule.name,
        "when": None if rule.when is None else rule.when.source,
        "use": [*rule.use],
        "prefer": rule.prefer.value,
        "weights": dict(rule.weights),
        "written_at": rule.written_at,
    }


def _without_credentials(url: str) -> str:
    """A URL that was written with a user and a password in it is shown without them."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
