from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from app.domain.budget import BudgetSeen
from app.domain.routing.names import budget_names, names_for_conditions, target_names
from app.domain.routing.snapshot import UNSEEN, Snapshot
from app.domain.target import Circuit, TargetSeen
from tests.makers import a_caller, a_policy, a_route, some_facts

AT = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)


def named(**route: object) -> dict[str, object]:
    snapshot = Snapshot(
        policy=a_policy(),
        fleet={"home": TargetSeen(in_flight=3)},
        at=AT.astimezone(ZoneInfo("Asia/Kathmandu")),
        budgets={"research": BudgetSeen(remaining_usd=12.5, used=0.75, days_left=2)},
    )
    facts = some_facts(tags=("x",), caller=a_caller(tags=("y",)))
    return dict(names_for_conditions(facts, route=a_route("home", **route), snapshot=snapshot))


def test_times_are_those_of_the_policys_timezone() -> None:
    assert named()["time"] == {"hour": 5, "minute": 15, "weekday": 1, "date": "2026-11-30"}


def test_what_the_caller_left_out_is_zero_or_empty() -> None:
    request = named()["request"]
    assert isinstance(request, dict)
    assert (request["output_tokens_most"], request["deadline_s"], request["data_class"]) == (0, 0.0, "")
    assert request["tags"] == ["x"]


def test_fleet_and_budgets_are_named_only_where_a_condition_reads_them() -> None:
    assert {"fleet", "budget"} & set(named()) == set()
    names = named(reads_fleet=("home",), reads_budgets=("research",))
    assert names["fleet"] == {"home": {"in_flight": 3, "circuit": "closed"}}
    assert names["budget"] == {"research": {"remaining_usd": 12.5, "used": 0.75, "days_left": 2}}


def test_a_budget_that_nobody_has_looked_up_is_not_there() -> None:
    assert named(reads_budgets=("research", "all"))["budget"].keys() == {"research"}  # type: ignore[attr-defined]


def test_a_target_that_was_never_seen_is_idle_for_all_that_this_process_knows() -> None:
    assert named(reads_fleet=("another",))["fleet"] == {"another": target_names(UNSEEN)}
    assert target_names(UNSEEN) == {"in_flight": 0, "circuit": "closed"}


def test_signals_that_are_known_are_named_zero_included() -> None:
    seen = TargetSeen(circuit=Circuit.OPEN, waiting=0, saturation=0.0, predicted_ttft_ms=0.0, age_s=0.0)
    assert target_names(seen) == {
        "in_flight": 0,
        "circuit": "open",
        "waiting": 0,
        "saturation": 0.0,
        "predicted_ttft_ms": 0.0,
        "age_s": 0.0,
    }


def test_a_budget_has_all_its_fields() -> None:
    seen = BudgetSeen(remaining_usd=-1.0, used=1.5, days_left=1)
    assert budget_names(seen) == {"remaining_usd": -1.0, "used": 1.5, "days_left": 1}
