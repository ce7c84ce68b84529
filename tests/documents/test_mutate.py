"""Would anybody notice? (`app.documents.mutate`)."""

from __future__ import annotations

import pytest

from app.documents.compile import compile_untested
from app.documents.mutate import Fate, Mutant, judged, mutants, score_of
from app.documents.mutate_budgets import changed_budgets
from app.domain.budget import Budget, Every, PastStep
from app.domain.errors import PolicyInvalid
from app.domain.money import Nanodollars
from tests.documents.good import GOOD, changed

ONE_RULE = """\
scenarios:
  - name: legal stays home
    given: {model: chat, caller: {team: legal}}
    expect: {rule: legal stays home}
  - name: others go on
    given: {model: chat, caller: {team: sales}}
    expect: {rule: otherwise}
"""


def fates(files: dict[str, str]) -> dict[str, Fate]:
    """What became of each mutant, by place and change."""
    found = judged(mutants(files), compile_untested(files))
    return {f"{mutant.file}:{mutant.line}:{mutant.column} {mutant.change}": fate for mutant, fate in found}


def test_every_part_of_a_policy_is_changed_at_its_place() -> None:
    lines = GOOD.splitlines()
    for mutant in mutants({"policy.yaml": GOOD}):
        assert mutant.model == "chat"
        assert 1 <= mutant.line <= len(lines)
        named = "when:" in lines[mutant.line - 1]
        assert named or lines[mutant.line - 1].strip() == f"- name: {mutant.rule}"
        assert mutant.change.startswith(f'rule "{mutant.rule}": ')


def test_without_scenarios_every_mutant_survives() -> None:
    assert set(fates({"policy.yaml": GOOD}).values()) == {Fate.SURVIVED}


def test_a_mutant_is_caught_by_the_scenario_that_it_fails() -> None:
    found = fates({"policy.yaml": GOOD, "s.yaml": ONE_RULE})
    caught = {change for change, fate in found.items() if fate is Fate.CAUGHT}
    assert 'policy.yaml:22:27 rule "legal stays home": `==` became `!=`' in caught
    assert 'policy.yaml:22:30 rule "legal stays home": `"legal"` became `"legal~"`' in caught
    assert 'policy.yaml:22:15 rule "legal stays home": the whole condition is negated' in caught
    assert 'policy.yaml:21:9 rule "legal stays home": it is dropped' in caught
    survived = {change for change, fate in found.items() if fate is Fate.SURVIVED}
    assert 'policy.yaml:28:9 rule "otherwise": `prefer: cheapest` became `listed`' in survived
    assert len(caught) + len(survived) == len(found)


def test_rules_that_exclude_each_other_are_no_mutants_when_they_change_places() -> None:
    policy = changed("when: request.n > 1", 'when: caller.team == "sales"')
    swap = 'policy.yaml:21:9 rule "legal stays home": it changes places with "by weight"'
    assert fates({"policy.yaml": policy})[swap] is Fate.EQUIVALENT
    assert fates({"policy.yaml": GOOD})[swap] is Fate.SURVIVED


def test_a_change_that_an_earlier_rule_hides_is_equivalent() -> None:
    policy = GOOD.replace('caller.team == "legal"', "request.n > 3").replace("request.n > 1", "request.n > 2")
    policy = policy.replace("when: request.n > 2", "when: request.n > 2 && request.n < 9")
    found = fates({"policy.yaml": policy})
    hidden = [change for change, fate in found.items() if fate is Fate.EQUIVALENT]
    assert [change for change in hidden if "`9` became `10`" in change]
    assert [change for change in hidden if "`<` became `<=`" in change]
    assert not [change for change in hidden if "`<` became `>=`" in change]


def test_a_condition_that_would_be_refused_at_load_counts_as_noticed() -> None:
    policy = changed('caller.team == "legal"', 'request.tags[0].matches("a|b") || 1 / request.n > 1')
    (division,) = [one for one in mutants({"policy.yaml": policy}) if one.change.endswith("`1` became `0`")][:1]
    assert division.policy is not None
    big = changed("request.n > 1", "request.n > 9223372036854775807")
    found = fates({"policy.yaml": big})
    assert [change for change, fate in found.items() if fate is Fate.REFUSED]


def test_data_classes_of_a_target_are_widened_and_narrowed() -> None:
    policy = GOOD.replace("context_tokens: 8192", "context_tokens: 8192\n    data_classes: [public, restricted]")
    found = [one for one in mutants({"policy.yaml": policy}) if one.model is None]
    assert [(one.line, one.change) for one in found] == [
        (3, 'target "gpu-a": `data_classes` is removed, so that everything may go there'),
        (3, 'target "gpu-a": `data_classes` is without public'),
        (3, 'target "gpu-a": `data_classes` is without restricted'),
    ]
    scenario = """\
scenarios:
  - name: nobody says what it is
    given: {model: chat}
    expect: {filter: {gpu-a: data_class}}
"""
    by_change = fates({"policy.yaml": policy, "s.yaml": scenario})
    assert by_change[f"policy.yaml:3:3 {found[0].change}"] is Fate.CAUGHT
    assert by_change[f"policy.yaml:3:3 {found[1].change}"] is Fate.SURVIVED


def test_a_policy_that_is_not_valid_has_no_mutants() -> None:
    with pytest.raises(PolicyInvalid):
        mutants({"policy.yaml": changed("use: [gpu-a]", "use: [gpu-b]")})


def test_the_score_leaves_equivalent_mutants_out() -> None:
    score = score_of([Fate.CAUGHT, Fate.REFUSED, Fate.SURVIVED, Fate.SURVIVED, Fate.EQUIVALENT])
    assert (score.counted, score.percent) == (4, 50.0)
    assert score_of([]).percent == 100.0
    assert score_of([Fate.EQUIVALENT]).percent == 100.0


def test_the_original_is_never_among_its_mutants() -> None:
    compiled = compile_untested({"policy.yaml": GOOD})

    def told(policy: object) -> str:
        return repr(policy).replace(compiled.policy.digest, "")

    found: list[Mutant] = list(mutants({"policy.yaml": GOOD}))
    assert len({one.change for one in found}) == len(found)
    assert all(told(one.policy) != told(compiled.policy) for one in found)


def test_each_step_of_a_budget_is_dropped_moved_and_changed() -> None:
    steps = (
        PastStep(from_ppm=500_000, prefer_cheapest=True),
        PastStep(from_ppm=1_000_000, only=("a", "b"), prefer_cheapest=True),
    )
    budget = Budget(name="all", amount=Nanodollars(10**9), every=Every.DAY, past=steps)
    changes = dict(changed_budgets(budget))
    assert list(changes) == [
        "its step 0.5 is dropped",
        "its step 0.5 begins at 0.45",
        "its step 0.5 begins at 0.55",
        "its step 1 is dropped",
        "its step 1 begins at 0.95",
        "its step 1 leaves out a",
        "its step 1 leaves out b",
        "its step 1 lets every target serve",
        "its step 1 keeps the order of the rule",
    ]
    assert changes["its step 0.5 is dropped"].past == steps[1:]
    assert changes["its step 1 leaves out a"].past[1].only == ("b",)
