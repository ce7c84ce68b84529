from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest

from app.documents.compile import compile_policy
from app.documents.price_lists import NO_CATALOGUE
from app.domain.errors import PolicyInvalid
from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.domain.target import Target
from app.ports.prices import CatalogueModel
from tests.domain.pricing.lists import GPT_5_5

CUT = date(2026, 7, 30)
TODAY = date(2026, 11, 20)
OLD = RateCard.of(prompt=Decimal(20), cached_prompt=Decimal(2), output=Decimal(80), origin="list of 2026-01-01")


class OneModel:
    """A catalogue of openai/gpt-5.5, whose price was cut once, and of a model that no card can price."""

    version = "one list"

    def models(self) -> Iterator[CatalogueModel]:
        cards = (DatedCard(card=OLD, valid_to=CUT), DatedCard(card=GPT_5_5, valid_from=CUT))
        yield CatalogueModel(name="openai/gpt-5.5", title="GPT-5.5", cards=cards)
        yield CatalogueModel(name="openai/whisper", title="Whisper", because="it is billed by the minute")

    def find(self, name: str) -> CatalogueModel | None:
        return next((model for model in self.models() if model.name == name), None)


TARGETS = """
targets:
  hosted: {hosting: managed, provider: openai, model: gpt-5.5, can: [chat], credential: env:KEY}
models:
  chat: {rules: [{name: all, use: [hosted]}]}
"""


def hosted(rates: str = "", *, targets: str = TARGETS) -> Target:
    """The target with these `rates.targets.hosted`."""
    text = targets + (f"rates:\n  targets:\n    hosted: {rates}\n" if rates else "")
    return compile_policy({"policy.yaml": text}, catalogue=OneModel()).policy.targets["hosted"]


def faults(rates: str = "", *, targets: str = TARGETS) -> list[str]:
    with pytest.raises(PolicyInvalid) as refused:
        hosted(rates, targets=targets)
    return [str(finding) for finding in refused.value.findings]


def price(target: Target, day: date = TODAY) -> RateCard:
    card = target.price_of(day)
    assert card is not None
    return card


PLAIN = "usd_per_million_tokens: {prompt: 1, cached_prompt: 0.1, completion: 4}"


def test_three_prices_are_a_plain_card_that_holds_for_ever() -> None:
    target = hosted(f"{{{PLAIN}}}")
    expected = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(4))
    assert (target.rate_card, target.price_list) == (expected, ())
    assert price(target) is target.rate_card


def test_a_target_at_its_providers_address_takes_the_catalogues_prices_by_their_days() -> None:
    target = hosted()
    assert price(target, date(2026, 7, 29)) == OLD
    assert price(target, CUT) == GPT_5_5


def test_at_another_address_nobody_knows_what_the_model_costs() -> None:
    elsewhere = TARGETS.replace("provider: openai", "provider: openai, url: http://127.0.0.1:9/v1")
    assert "is not known" in faults(targets=elsewhere)[0]
    assert price(hosted("{catalogue: openai/gpt-5.5}", targets=elsewhere)) == GPT_5_5


def test_a_model_that_the_catalogue_does_not_have_is_an_error_at_its_place() -> None:
    (fault,) = faults("{catalogue: openai/gpt-55}")
    assert fault.startswith('policy.yaml:8:25: error: the catalogue (one list) has no model "openai/gpt-55"')


def test_a_model_that_no_card_can_price_is_an_error_with_the_reason() -> None:
    (fault,) = faults("{catalogue: openai/whisper}")
    assert "billed by the minute" in fault


def test_without_a_catalogue_every_price_has_to_be_written() -> None:
    with pytest.raises(PolicyInvalid, match="is not known"):
        compile_policy({"policy.yaml": TARGETS})
    assert (NO_CATALOGUE.find("openai/gpt-5.5"), list(NO_CATALOGUE.models())) == (None, [])


def test_a_discount_and_a_region_change_every_price_of_tokens_and_say_so() -> None:
    card = price(hosted("{catalogue: openai/gpt-5.5, discount_percent: 15, region_multiplier: 1.1}"))
    assert card.prompt == Decimal("4.675")
    assert card.sheet(prompt_tokens=272_001, tier="flex").output == Decimal("21.0375")
    assert card.sheet().thousand_searches == Decimal(10)
    assert card.origin == "list of 2026-11-20, less 15 %, times 1.1"
    assert card.digest != GPT_5_5.digest


def test_what_is_written_beside_the_catalogue_replaces_its_part_and_leaves_the_tiers() -> None:
    """Elsewhere one custom price removes all tiers, in silence."""
    card = price(hosted(f"{{catalogue: openai/gpt-5.5, {PLAIN}}}"))
    assert (card.prompt, card.output) == (Decimal(1), Decimal(4))
    assert card.sheet(prompt_tokens=272_001) == GPT_5_5.sheet(prompt_tokens=272_001)
    assert card.sheet(tier="priority") == GPT_5_5.sheet(tier="priority")
    assert card.sheet().thousand_searches == Decimal(10)


def test_tiers_written_over_the_catalogue_replace_those_of_their_name_alone() -> None:
    card = price(hosted(f"{{catalogue: openai/gpt-5.5, service_tiers: {{flex: {{{PLAIN}}}}}}}"))
    assert card.sheet(tier="flex").prompt == Decimal(1)
    assert card.sheet(tier="batch") == GPT_5_5.sheet(tier="batch")


@pytest.mark.parametrize(("word", "last_short"), [("over", 200_000), ("at_least", 199_999)])
def test_a_threshold_is_exceeded_or_reached_as_it_is_written(word: str, last_short: int) -> None:
    long = "usd_per_million_tokens: {prompt: 2, cached_prompt: 0.2, completion: 6}"
    card = price(hosted(f"{{{PLAIN}, long_prompts: [{{{word}: 200000, {long}}}]}}"))
    assert card.sheet(prompt_tokens=last_short).prompt == Decimal(1)
    assert card.sheet(prompt_tokens=last_short + 1).prompt == Decimal(2)


@pytest.mark.parametrize("thresholds", ["", "over: 1, at_least: 2, "])
def test_a_long_prompt_needs_one_threshold(thresholds: str) -> None:
    (fault,) = faults(f"{{{PLAIN}, long_prompts: [{{{thresholds}{PLAIN}}}]}}")
    assert "one threshold" in fault


def test_two_thresholds_of_one_height_are_an_error() -> None:
    (fault,) = faults(f"{{{PLAIN}, long_prompts: [{{over: 9, {PLAIN}}}, {{at_least: 10, {PLAIN}}}]}}")
    assert "thresholds" in fault


def test_every_price_that_can_be_written_reaches_the_card() -> None:
    kinds = "cache_write: 2, cache_write_1h: 3, reasoning: 5, audio_prompt: 6, audio_completion: 7"
    sheet = price(hosted(f"{{{PLAIN[:-1]}, {kinds}}}, usd_per_thousand_searches: 8}}")).sheet()
    assert [str(usd) for _, usd in sheet.prices()] == ["1", "0.1", "4", "2", "3", "5", "6", "7", "8"]


def test_prices_change_on_their_day_and_end_on_theirs() -> None:
    later = "changes: [{valid_from: 2026-12-01, catalogue: openai/gpt-5.5}]"
    target = hosted(f"{{{PLAIN}, valid_from: 2026-01-01, valid_to: 2027-01-01, {later}}}")
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 11, 30), date(2026, 12, 1), date(2027, 1, 1)]
    cards = [target.price_of(day) for day in days]
    assert [card and card.prompt for card in cards] == [None, Decimal(1), Decimal(1), Decimal(5), None]


@pytest.mark.parametrize(
    ("rates", "place"),
    [
        ("valid_from: 2026-12-01, changes: [{valid_from: 2026-12-01, catalogue: openai/gpt-5.5}]", "2026-12-01 does"),
        ("valid_from: 2026-12-01, valid_to: 2026-12-01", "2026-12-01 does not come after 2026-12-01"),
        ("changes: [{valid_from: 2026-12-01}]", "names no prices"),
        ("valid_to: 2026-02-30", "no day of the calendar"),
        ("valid_to: tomorrow", "must be a day"),
        ("discount_percent: 101", "out of range"),
        ("service_tiers: {Flex: {}}", "small letters"),
        (f"service_tiers: {{default: {{{PLAIN}}}}}", "standard"),
    ],
)
def test_prices_that_make_no_sense_are_refused(rates: str, place: str) -> None:
    assert place in faults(f"{{{PLAIN}, {rates}}}")[0]


def test_a_discount_that_no_price_can_carry_exactly_is_refused() -> None:
    dear = "usd_per_million_tokens: {prompt: 0.000000000001, cached_prompt: 0, completion: 99999.123456789012}"
    (fault,) = faults(f"{{{dear}, discount_percent: 12.345, region_multiplier: 1.001}}")
    assert "fewer digits" in fault


def test_a_self_hosted_target_has_no_seller() -> None:
    home = TARGETS.replace(
        "provider: openai, model: gpt-5.5, can: [chat], credential: env:KEY",
        "engine: vllm, url: http://127.0.0.1:9/v1, model: m, can: [chat], machine: {type: h100}",
    ).replace("managed", "self_hosted")
    text = home + "rates:\n  machines: {h100: {usd_per_hour: 2}}\n  targets: {hosted: {catalogue: openai/gpt-5.5}}\n"
    with pytest.raises(PolicyInvalid, match="self-hosted"):
        compile_policy({"policy.yaml": text}, catalogue=OneModel())
