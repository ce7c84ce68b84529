"""Small mistakes in what a rule does (`app.documents.mutate_rules`)."""

from __future__ import annotations

from app.documents.mutate_rules import changed_rules
from app.domain.money import Nanodollars
from app.domain.routing.policy import Preference, Rule, Shadow, Spill


def changes(**named: object) -> dict[str, Rule]:
    values: dict[str, object] = {"name": "r", "when": None, "use": ("a", "b"), **named}
    rule = Rule(**values)  # type: ignore[arg-type]
    found = dict(changed_rules(rule))
    assert rule not in found.values(), "a change that changes nothing"
    return found


def test_a_rule_with_one_target_and_nothing_else_has_nothing_to_change() -> None:
    assert changes(use=("a",)) == {}
    assert changes(use=("a",), keeps_sessions=True, prefer=Preference.CHEAPEST) == {}


def test_targets_are_dropped_and_listed_in_another_order() -> None:
    found = changes(use=("a", "b", "c"))
    assert found["`use` is without b"].use == ("a", "c")
    assert found["`use` lists b before a"].use == ("b", "a", "c")
    assert found["`use` lists c before b"].use == ("a", "c", "b")


def test_the_order_of_use_counts_only_where_it_is_followed() -> None:
    assert not any("lists" in change for change in changes(prefer=Preference.CHEAPEST))


def test_every_preference_is_exchanged_for_another() -> None:
    for prefer in Preference:
        found = changes(prefer=prefer, weights={"a": 1, "b": 2}, per_second=Nanodollars(10))
        assert {rule.prefer for rule in found.values()} - {prefer}


def test_weights_are_doubled_and_emptied_but_never_all_of_them() -> None:
    found = changes(prefer=Preference.WEIGHTED, weights={"a": 9, "b": 0})
    assert found["the weight of a became 18"].weights == {"a": 18, "b": 0}
    assert found["the weight of b became 1"].weights == {"a": 9, "b": 1}
    assert "the weight of a became 0" not in found
    assert "the weight of b became 0" in changes(prefer=Preference.WEIGHTED, weights={"a": 9, "b": 1})


def test_the_price_of_time_is_doubled_and_halved() -> None:
    found = changes(prefer=Preference.BALANCED, per_second=Nanodollars(10))
    assert found["`usd_per_second` is doubled"].per_second == 20
    assert found["`usd_per_second` is halved"].per_second == 5


def test_each_bound_of_spill_is_shifted_and_removed_on_its_own() -> None:
    spill = Spill(predicted_ttft_ms=1500.0, most_per_hour=Nanodollars(4_000_000_000))
    found = changes(spill=spill)
    assert found["`spill.predicted_ttft_ms` became 3000"].spill == Spill(
        predicted_ttft_ms=3000.0, most_per_hour=spill.most_per_hour
    )
    assert found["`spill.max_usd_per_hour` became 2.00"].spill == Spill(
        predicted_ttft_ms=1500.0, most_per_hour=Nanodollars(2_000_000_000)
    )
    assert found["`spill.max_usd_per_hour` is removed"].spill == Spill(predicted_ttft_ms=1500.0)
    assert found["`spill.predicted_ttft_ms` is removed"].spill == Spill(most_per_hour=spill.most_per_hour)


def test_what_a_rule_does_besides_is_removed() -> None:
    found = changes(waits=True, keeps_sessions=True, shadow=Shadow(target="c", share_ppm=1_000_000))
    assert not found["`wait` is removed"].waits
    assert not found["`affinity` is removed"].keeps_sessions
    assert found["`shadow` is removed"].shadow is None
    assert found["`shadow.share` became 0.5"].shadow == Shadow(target="c", share_ppm=500_000)
    assert "`shadow.share` became 1" not in found
