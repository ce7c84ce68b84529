"""The names that a condition may use, as plain values."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.budget import BudgetSeen
from app.domain.routing.facts import RequestFacts
from app.domain.routing.policy import Route
from app.domain.routing.snapshot import UNSEEN, Snapshot
from app.domain.target import TargetSeen


def names_for_conditions(facts: RequestFacts, *, route: Route, snapshot: Snapshot) -> Mapping[str, object]:
    """`request`, `caller`, `time`; `fleet` and `budget` by name, of what the route's conditions read.

    Absent numbers of the request are 0, as CEL has no null arithmetic. What of a target or a budget is not known is
    not there, so that a condition on it does not hold: missing never reads as zero.
    """
    caller, at = facts.caller, snapshot.at
    names: dict[str, object] = {
        "request": {
            "model": facts.model,
            "endpoint": facts.endpoint.value,
            "stream": facts.stream,
            "prompt_tokens": facts.prompt_tokens,
            "output_tokens_most": facts.output_tokens_most or 0,
            "n": facts.n,
            "has_tools": facts.has_tools,
            "has_images": facts.has_images,
            "has_audio": facts.has_audio,
            "json_schema": facts.json_schema,
            "data_class": facts.data_class,
            "deadline_s": facts.deadline_s or 0.0,
            "priority": facts.priority,
            "tags": list(facts.tags),
        },
        "caller": {
            "key": caller.key_id,
            "team": caller.team,
            "cost_centre": caller.cost_centre,
            "tags": list(caller.tags),
        },
        "time": {
            "hour": at.hour,
            "minute": at.minute,
            "weekday": at.isoweekday(),
            "date": at.date().isoformat(),
        },
    }
    if route.reads_fleet:
        names["fleet"] = {
            name: target_names(snapshot.fleet.get(name, UNSEEN), prompt_tokens=facts.prompt_tokens)
            for name in route.reads_fleet
        }
    if route.reads_budgets:
        names["budget"] = {
            name: budget_names(snapshot.budgets[name]) for name in route.reads_budgets if name in snapshot.budgets
        }
    return names


def target_names(seen: TargetSeen, *, prompt_tokens: int = 0) -> Mapping[str, object]:
    """The fields of `fleet["…"]` that are known, as a request with such a prompt finds them."""
    names = {
        "in_flight": seen.in_flight,
        "circuit": seen.circuit.value,
        "waiting": seen.waiting,
        "saturation": seen.saturation,
        "predicted_ttft_ms": seen.expected_ttft_ms(prompt_tokens=prompt_tokens),
        "age_s": seen.age_s,
    }
    return {name: value for name, value in names.items() if value is not None}


def budget_names(seen: BudgetSeen) -> Mapping[str, object]:
    """The fields of `budget["…"]`."""
    return {"remaining_usd": seen.remaining_usd, "used": seen.used, "days_left": seen.days_left}
