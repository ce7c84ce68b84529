"""Everything that may be written, in one policy, becomes the very values that decide."""

from __future__ import annotations

import pytest

from app.documents.compile import compile_policy
from app.domain.budget import Budget, Every
from app.domain.money import Nanodollars
from app.domain.routing.policy import KeptAnswers, Preference, Recovery, Shadow, Spill, Timeouts
from tests.documents.good import findings_of

WHOLE = """\
timezone: Europe/Berlin
defaults:
  attempts: 2
  timeouts: {connect_s: 1, total_s: 120}
  output_tokens: {default: 800, most: 2000}
  prefer: cheapest
  affinity: session
targets:
  gpu-a:
    hosting: self_hosted
    engine: vllm
    url: http://127.0.0.1:8001/v1
    model: small
    can: [chat, tools]
    context_tokens: 8192
    limits: {in_flight: 64, waiting: 16}
    machine: {type: h100, count: 2}
  gpu-new:
    hosting: self_hosted
    engine: sglang
    url: http://127.0.0.1:8002/v1
    model: small
    can: [chat]
    machine: {type: h100}
  hosted:
    hosting: managed
    provider: openai
    model: gpt-5-mini
    can: [chat, tools]
    limits: {requests_per_minute: 5000, tokens_per_minute: 2000000}
    data_classes: [public, internal]
    credential: file:openai-key
models:
  chat:
    rules:
      - name: batch waits
        when: request.deadline_s > 3600
        use: [gpu-a]
        wait: true
        affinity: none
      - name: nearly spent
        when: budget["research"].used > 0.9 || fleet["gpu-new"].waiting > 10
        use: [gpu-a, hosted]
        prefer: fastest
      - name: home while it is quick
        use: [gpu-a, hosted]
        prefer: {usd_per_second: 0.002}
        spill: {predicted_ttft_ms: 1500, max_usd_per_hour: 5}
        shadow: {target: gpu-new, share: 0.05, max_usd_per_day: 2}
    timeouts: {first_token_s: 10, total_s: 60}
    recovery: error
    output_tokens: {most: 500}
  plain:
    rules:
      - {name: all, use: [gpu-a, hosted]}
    attempts: 4
rates:
  machines:
    h100: {usd_per_hour: 2.50, marginal_usd_per_hour: 0.40}
  targets:
    hosted:
      usd_per_million_tokens: {prompt: 0.25, cached_prompt: 0.025, completion: 2.00}
budgets:
  research: {of: {team: research, model: chat}, usd: 500.5, every: month}
"""


def whole(old: str = "", new: str = "") -> str:
    """The whole policy with one piece replaced; the piece must be there once."""
    assert not old or WHOLE.count(old) == 1, f"{old!r} stands {WHOLE.count(old)} times in the whole policy"
    return WHOLE.replace(old, new) if old else WHOLE


POLICY = compile_policy({"policy.yaml": WHOLE}).policy


def test_the_whole_language_has_no_findings() -> None:
    assert findings_of(WHOLE) == ()


def test_a_target_has_its_limits_data_classes_and_marginal_cost() -> None:
    gpu, new, hosted = (POLICY.targets[name] for name in ("gpu-a", "gpu-new", "hosted"))
    assert (gpu.in_flight_most, gpu.waiting_most, gpu.requests_per_minute, gpu.tokens_per_minute) == (
        64,
        16,
        None,
        None,
    )
    assert (hosted.in_flight_most, hosted.requests_per_minute, hosted.tokens_per_minute) == (None, 5000, 2_000_000)
    assert (gpu.data_classes, hosted.data_classes) == (None, frozenset({"public", "internal"}))
    assert (gpu.marginal_ppm, new.marginal_ppm, hosted.marginal_ppm) == (160_000, 160_000, 0)
    assert hosted.credential == "file:openai-key"


def test_a_machine_without_a_marginal_price_is_paid_for_anyway() -> None:
    text = whole(", marginal_usd_per_hour: 0.40", "")
    assert compile_policy({"policy.yaml": text}).policy.targets["gpu-a"].marginal_ppm == 0


def test_a_rule_is_as_written_and_by_default_otherwise() -> None:
    batch, spent, quick = POLICY.routes["chat"].rules
    assert (batch.waits, batch.keeps_sessions, batch.prefer) == (True, False, Preference.CHEAPEST)
    assert (spent.waits, spent.keeps_sessions, spent.prefer) == (False, True, Preference.FASTEST)
    assert (quick.prefer, quick.per_second) == (Preference.BALANCED, Nanodollars(2_000_000))
    assert quick.spill == Spill(predicted_ttft_ms=1500.0, most_per_hour=Nanodollars(5_000_000_000))
    assert quick.shadow == Shadow(target="gpu-new", share_ppm=50_000, most_per_day=Nanodollars(2_000_000_000))
    assert (batch.spill, batch.shadow, batch.per_second) == (None, None, 0)


def test_half_a_spill_and_a_shadow_without_a_cap_are_bounds_that_are_not_there() -> None:
    text = whole("{predicted_ttft_ms: 1500, max_usd_per_hour: 5}", "{max_usd_per_hour: 0.5}")
    text = text.replace("share: 0.05, max_usd_per_day: 2", "share: 1")
    rule = compile_policy({"policy.yaml": text}).policy.routes["chat"].rules[2]
    assert rule.spill == Spill(most_per_hour=Nanodollars(500_000_000))
    assert rule.shadow == Shadow(target="gpu-new", share_ppm=1_000_000)
    text = whole(", max_usd_per_hour: 5}", "}")
    rule = compile_policy({"policy.yaml": text}).policy.routes["chat"].rules[2]
    assert rule.spill == Spill(predicted_ttft_ms=1500.0)


def test_a_model_has_its_own_word_before_the_defaults_and_these_before_the_products() -> None:
    chat, plain = POLICY.routes["chat"], POLICY.routes["plain"]
    assert (chat.attempts, plain.attempts) == (2, 4)
    assert chat.timeouts == Timeouts(connect_s=1.0, first_token_s=10.0, idle_s=30.0, total_s=60.0)
    assert plain.timeouts == Timeouts(connect_s=1.0, total_s=120.0)
    assert (chat.output_tokens_default, chat.output_tokens_most) == (500, 500), "a default is cut to the model's most"
    assert (plain.output_tokens_default, plain.output_tokens_most) == (800, 2000)
    assert (chat.recovery, plain.recovery) == (Recovery.ERROR, Recovery.ERROR)


def test_a_route_knows_what_its_conditions_look_at() -> None:
    assert (POLICY.routes["chat"].reads_fleet, POLICY.routes["chat"].reads_budgets) == (("gpu-new",), ("research",))
    assert (POLICY.routes["plain"].reads_fleet, POLICY.routes["plain"].reads_budgets) == ((), ())


def test_a_budget_is_as_written() -> None:
    assert POLICY.budgets == {
        "research": Budget(
            name="research", amount=Nanodollars(500_500_000_000), every=Every.MONTH, team="research", model="chat"
        )
    }
    text = whole("of: {team: research, model: chat}, usd: 500.5, every: month", "usd: 1, every: day")
    budget = compile_policy({"policy.yaml": text}).policy.budgets["research"]
    assert budget == Budget(name="research", amount=Nanodollars(1_000_000_000), every=Every.DAY)


@pytest.mark.parametrize("word", ["restart", "continue", "buffer"])
def test_every_recovery_is_in_force_without_a_finding(word: str) -> None:
    compiled = compile_policy({"policy.yaml": whole("recovery: error", f"recovery: {word}")})
    assert compiled.policy.routes["chat"].recovery is Recovery(word)
    assert compiled.findings == ()


@pytest.mark.parametrize("word", ["nothing", "whole", "all"])
def test_every_choice_of_kept_answers_is_in_force_and_whole_is_the_usual_one(word: str) -> None:
    compiled = compile_policy({"policy.yaml": whole("recovery: error", f"kept_answers: {word}")})
    assert compiled.policy.routes["chat"].kept_answers is KeptAnswers(word)
    assert compiled.policy.routes["plain"].kept_answers is KeptAnswers.WHOLE
    assert compiled.findings == ()


def test_a_policy_of_the_whole_language_cannot_be_changed_after_it_was_made() -> None:
    with pytest.raises(TypeError):
        POLICY.budgets["other"] = POLICY.budgets["research"]  # type: ignore[index]


def test_a_hedge_is_off_unless_it_is_written_and_a_model_may_have_none_where_the_defaults_have_one() -> None:
    def hedged(text: str) -> tuple[float | None, float | None]:
        compiled = compile_policy({"policy.yaml": text})
        assert compiled.findings == ()
        return compiled.policy.routes["chat"].hedge_after_s, compiled.policy.routes["plain"].hedge_after_s

    assert hedged(WHOLE) == (None, None)
    assert hedged(whole("recovery: error", "hedge: {after_ms: 700}")) == (0.7, None)
    assert hedged(whole("recovery: error", "recovery: buffer\n    hedge: {after_ms: 0.5e3}")) == (0.5, None)
    by_default = whole("  attempts: 2\n", "  attempts: 2\n  hedge: {after_ms: 250}\n")
    assert hedged(by_default) == (0.25, 0.25)
    assert hedged(by_default.replace("recovery: error", "hedge: {}")) == (None, 0.25)
    assert hedged(by_default.replace("recovery: error", "recovery: restart\n    hedge: {}")) == (None, 0.25)
