"""What a schema cannot see, beyond the single breaks of `test_broken_files`."""

from __future__ import annotations

from app.documents.gather import Gathered, gather
from app.documents.lint import lint_links, lint_models, lint_targets
from app.documents.lint_rates import lint_rates
from app.documents.source import read
from tests.documents.good import GOOD, changed, told


def gathered(text: str) -> Gathered:
    page, findings = read(file="a.yaml", text=text)
    assert page is not None
    assert findings == ()
    return gather([page])[0]


def test_the_good_policy_passes_every_question() -> None:
    good = gathered(GOOD)
    assert [*lint_targets(good), *lint_models(good), *lint_links(good), *lint_rates(good)] == []


def test_the_same_fault_of_two_targets_is_told_twice() -> None:
    text = GOOD.replace("    engine: vllm\n", "").replace("    provider: openai\n", "")
    assert [finding.line for finding in lint_targets(gathered(text))] == [3, 11]


def test_a_secret_in_a_file_is_told_whatever_else_is_wrong_with_its_target() -> None:
    text = GOOD.replace("env:OPENAI_API_KEY", "sk-proj-abcdef").replace("    provider: openai\n", "    colour: blue\n")
    assert sorted(code for _, code in told(text)) == ["credential", "unknown-key"]


def test_rules_after_one_without_a_when_are_told_once_at_the_first_of_them() -> None:
    text = GOOD.replace('        when: caller.team == "legal"\n', "").replace("        when: request.n > 1\n", "")
    assert told(text) == [("policy.yaml:23:9", "unreachable")]


def test_a_target_of_no_rule_is_no_warning_while_a_model_cannot_be_read() -> None:
    assert told(changed("attempts: 3", "attempts: 0")) == [("policy.yaml:31:15", "shape")]
    text = GOOD.replace("gpu-a, hosted]", "gpu-a]").replace(", hosted: 10", "").replace("attempts: 3", "attempts: 0")
    assert told(text) == [("policy.yaml:31:15", "shape")]


def test_a_target_of_no_rule_is_a_warning_at_its_name() -> None:
    text = GOOD.replace("gpu-a, hosted]", "gpu-a]").replace(", hosted: 10", "")
    assert told(text) == [("policy.yaml:12:3", "unused-target")]


def test_an_ability_of_one_target_is_enough_for_a_rule() -> None:
    assert told(changed("can: [chat, tools]", "can: [tools]")) == []


def test_a_price_for_a_target_of_the_wrong_shape_is_no_fault_of_its_own() -> None:
    assert told(changed("model: small", "model: 7")) == [("policy.yaml:7:12", "shape")]
    assert told(changed("{prompt: 0.25, cached", "{prompt: -1, cached")) == [("policy.yaml:39:40", "shape")]


def test_speeds_of_a_managed_target_and_prices_of_ones_own_are_both_misplaced() -> None:
    text = changed("    gpu-a:\n      measured", "      measured")
    assert told(text) == [("policy.yaml:40:7", "misplaced")]
