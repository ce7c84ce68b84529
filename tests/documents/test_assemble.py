"""What is written becomes the very values that decide."""

from __future__ import annotations

from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from app.documents.assemble import GIVEN, assembled
from app.documents.compile import compile_policy
from app.documents.gather import gather
from app.documents.source import read
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.self_host import MeasuredRates, standard_card
from app.domain.routing.policy import Policy, Preference, Timeouts
from app.domain.target import Capability, Hosting, Machine, Target
from tests.documents.good import GOOD, changed


def policy(text: str = GOOD) -> Policy:
    compiled = compile_policy({"policy.yaml": text})
    assert compiled.findings == ()
    return compiled.policy


def test_a_self_hosted_target_is_as_written_and_priced_by_its_given_speed() -> None:
    rates = MeasuredRates(
        target="gpu-a",
        prefill_tokens_per_s=Decimal(9000),
        decode_tokens_per_s=Decimal(3000),
        model="small",
        engine_version=GIVEN,
    )
    assert policy().targets["gpu-a"] == Target(
        name="gpu-a",
        hosting=Hosting.SELF_HOSTED,
        kind="vllm",
        url="http://127.0.0.1:8001/v1",
        model="small",
        can=frozenset({Capability.CHAT, Capability.COMPLETIONS}),
        context_tokens=8192,
        in_flight_most=64,
        machine=Machine(type="h100", count=2),
        rate_card=standard_card(usd_per_hour=Decimal("5.00"), rates=rates, origin=f"policy, {GIVEN}"),
    )
    assert policy().given_rates == {"gpu-a": rates}
    assert policy().machine_usd_per_hour == {"h100": Decimal("2.50")}
    assert policy().usd_per_hour(policy().targets["gpu-a"]) == Decimal("5.00")


def test_a_managed_target_has_its_written_price_to_the_digit() -> None:
    target = policy().targets["hosted"]
    card = RateCard.of(prompt=Decimal("0.25"), cached_prompt=Decimal("0.025"), output=Decimal("2.00"))
    assert (target.hosting, target.kind, target.url) == (Hosting.MANAGED, "openai", "https://api.openai.com/v1")
    assert (target.credential, target.machine, target.in_flight_most) == ("env:OPENAI_API_KEY", None, None)
    assert target.rate_card == card
    dear = policy(changed("prompt: 0.25,", "prompt: 0.123456789012,")).targets["hosted"].rate_card
    assert dear is not None
    assert dear.prompt == Decimal("0.123456789012")


def test_without_a_given_speed_a_self_hosted_target_waits_for_its_measurement() -> None:
    text = changed("    gpu-a:\n      measured: {prefill_tokens_per_s: 9000, decode_tokens_per_s: 3000}\n", "")
    assert policy(text).targets["gpu-a"].rate_card is None
    assert policy(text).given_rates == {}


def test_a_route_is_as_written() -> None:
    route = policy().routes["chat"]
    assert route.attempts == 3
    assert route.timeouts == Timeouts(connect_s=2.0, first_token_s=10.0, idle_s=20.5, total_s=300.0)
    assert (route.output_tokens_default, route.output_tokens_most) == (256, 4096)
    assert [(rule.name, rule.use, rule.prefer, dict(rule.weights)) for rule in route.rules] == [
        ("legal stays home", ("gpu-a",), Preference.LISTED, {}),
        ("by weight", ("gpu-a", "hosted"), Preference.WEIGHTED, {"gpu-a": 90, "hosted": 10}),
        ("otherwise", ("gpu-a", "hosted"), Preference.CHEAPEST, {}),
    ]
    assert [rule.written_at for rule in route.rules] == ["policy.yaml:21", "policy.yaml:24", "policy.yaml:28"]
    assert [rule.when and rule.when.source for rule in route.rules] == [
        'caller.team == "legal"',
        "request.n > 1",
        None,
    ]


def test_a_request_waits_in_a_queue_as_long_as_is_said_or_else_as_for_a_first_token() -> None:
    assert policy().routes["chat"].timeouts.in_queue_s == 10.0
    text = changed("first_token_s: 10,", "first_token_s: 10, queue_s: 2.5,")
    said = (
        policy(text.replace("- name: otherwise\n", "- name: otherwise\n        wait: true\n")).routes["chat"].timeouts
    )
    assert (said.in_queue_s, said.first_token_s) == (2.5, 10.0)


def test_targets_with_a_limit_that_a_rule_waits_for_are_known_beforehand() -> None:
    assert policy().queued == ()
    waiting = changed("      - name: otherwise\n", "      - name: otherwise\n        wait: true\n")
    assert policy(waiting).queued == ("gpu-a",)
    assert policy(waiting).routes["chat"].waits("otherwise")
    assert not policy(waiting).routes["chat"].waits("by weight")


@pytest.mark.parametrize(
    ("written", "default", "most"),
    [("", 1024, None), ("{most: 500}", 500, 500), ("{most: 5000}", 1024, 5000), ("{default: 7}", 7, None)],
)
def test_what_is_left_out_keeps_the_products_default(written: str, default: int, most: int | None) -> None:
    line = f"    output_tokens: {written}\n" if written else ""
    text = changed("    output_tokens: {default: 256, most: 4096}\n", line)
    text = text.replace("    timeouts: {connect_s: 2, first_token_s: 10, idle_s: 20.5, total_s: 300}\n", "")
    route = policy(text).routes["chat"]
    assert (route.output_tokens_default, route.output_tokens_most) == (default, most)
    assert route.timeouts == Timeouts()


def test_the_timezone_is_that_of_the_files_and_utc_without_one() -> None:
    assert policy().timezone == ZoneInfo("Europe/Berlin")
    assert str(policy(changed("timezone: Europe/Berlin\n", "")).timezone) == "UTC"


def test_a_url_loses_its_last_slash_so_that_paths_can_follow() -> None:
    assert policy(changed("8001/v1", "8001/v1/")).targets["gpu-a"].url == "http://127.0.0.1:8001/v1"


def test_a_policy_cannot_be_changed_after_it_was_made() -> None:
    page, _ = read(file="policy.yaml", text=GOOD)
    assert page is not None
    gathered, _ = gather([page])
    made = assembled(gathered, conditions={}, digest="d")
    with pytest.raises(TypeError):
        made.targets["gpu-b"] = made.targets["gpu-a"]  # type: ignore[index]
    with pytest.raises(TypeError):
        made.routes["chat"].rules[1].weights["gpu-a"] = 1  # type: ignore[index]
