from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random

import genai_prices
import pytest
from genai_prices.data import providers

from app.domain.money import from_dollars
from app.domain.pricing.charge import charge
from app.domain.pricing.price_list import card_of_the_day
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import Usage
from app.ports.prices import Catalogue, CatalogueModel
from app.storage.price_catalogue import PackagedCatalogue

DAY = date(2026, 11, 20)
#: How many random usages are priced twice.
USAGES = 3_000


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return PackagedCatalogue()


def found(catalogue: Catalogue, name: str) -> CatalogueModel:
    model = catalogue.find(name)
    assert model is not None
    return model


def card(catalogue: Catalogue, name: str, day: date = DAY) -> RateCard:
    price = card_of_the_day(found(catalogue, name).cards, day)
    assert price is not None
    return price


@pytest.mark.parametrize(
    ("tier", "prompt", "cached", "output", "usd"),
    [
        ("", 1_000, 0, 500, "0.02"),
        ("", 10_000, 8_000, 500, "0.029"),
        ("", 272_000, 0, 1_000, "1.39"),
        ("", 272_001, 0, 1_000, "2.76501"),
        ("flex", 10_000, 8_000, 500, "0.0145"),
        ("priority", 10_000, 8_000, 500, "0.0725"),
        ("batch", 10_000, 8_000, 500, "0.0145"),
        ("batch", 300_000, 0, 1_000, "1.5225"),
    ],
)
def test_the_published_vectors_come_out_of_the_catalogue_to_the_last_unit(
    catalogue: Catalogue, tier: str, prompt: int, cached: int, output: int, usd: str
) -> None:
    usage = Usage(prompt=prompt, cached=cached, output=output, tier=tier)
    assert charge(usage=usage, price=card(catalogue, "openai/gpt-5.5")) == from_dollars(Decimal(usd))


def test_random_usages_cost_what_the_catalogues_own_arithmetic_says(catalogue: Catalogue) -> None:
    draw = Random(20261120)
    moment = datetime(2026, 11, 20, tzinfo=UTC)
    models = [
        (seller, model, card_of_the_day(found(catalogue, f"{seller.id}/{model.id}").cards, DAY))
        for seller in providers
        if seller.id in {"openai", "anthropic", "google", "x-ai", "mistral", "deepseek", "groq"}
        for model in seller.models
    ]
    priced = [(seller, model, price) for seller, model, price in models if price is not None]
    assert len(priced) > 200
    for _ in range(USAGES):
        seller, model, price = draw.choice(priced)
        cached, written, computed = (draw.choice([0, draw.randrange(400_000)]) for _ in range(3))
        written_1h, output = draw.randint(0, written), draw.randrange(100_000)
        reasoning, searches = draw.randint(0, output), draw.choice([0, 3])
        prompt = cached + written + computed
        theirs = model.calc_price(
            genai_prices.Usage(
                input_tokens=prompt,
                cache_read_tokens=cached,
                cache_write_tokens=written,
                cache_write_1h_tokens=written_1h,
                output_tokens=output,
                output_reasoning_tokens=reasoning,
                web_searches=searches,
            ),
            seller,
            genai_request_timestamp=moment,
        ).total_price
        ours = charge(
            usage=Usage(
                prompt=prompt,
                cached=cached,
                cache_write=written,
                cache_write_1h=written_1h,
                output=output,
                reasoning=reasoning,
                searches=searches,
            ),
            price=price,
        )
        assert ours == from_dollars(theirs), (seller.id, model.id)


def test_a_price_that_was_cut_is_the_old_one_before_the_day_and_the_new_one_from_it(catalogue: Catalogue) -> None:
    assert card(catalogue, "openai/gpt-5.6-luna", date(2026, 7, 29)).prompt == Decimal(1)
    assert card(catalogue, "openai/gpt-5.6-luna", date(2026, 7, 30)).prompt == Decimal("0.2")


def test_the_spans_of_a_model_follow_one_another_without_a_gap(catalogue: Catalogue) -> None:
    for model in catalogue.models():
        for before, after in zip(model.cards, model.cards[1:], strict=False):
            assert before.valid_to == after.valid_from
        if model.cards:
            assert (model.cards[0].valid_from, model.cards[-1].valid_to) == (None, None)


def test_a_model_is_found_by_the_name_of_a_dated_release_too(catalogue: Catalogue) -> None:
    assert found(catalogue, "openai/gpt-5.5-2026-04-23").name == "openai/gpt-5.5"


@pytest.mark.parametrize("name", ["openai/no-such-model-anywhere", "nobody/gpt-5.5", "gpt-5.5", ""])
def test_what_the_catalogue_does_not_have_is_not_found(catalogue: Catalogue, name: str) -> None:
    assert catalogue.find(name) is None


def test_what_no_card_can_say_is_left_out_with_the_reason(catalogue: Catalogue) -> None:
    left_out = {model.name: model.because for model in catalogue.models() if not model.cards}
    assert all(left_out.values())
    assert "prompt and output tokens" in left_out["groq/whisper-large-v3"]
    assert any("hour of the day" in because for because in left_out.values())


def test_what_is_billed_besides_is_named(catalogue: Catalogue) -> None:
    assert found(catalogue, "openai/gpt-5.5").also_billed == ("storage_searches_kcount",)


def test_cards_say_where_they_come_from(catalogue: Catalogue) -> None:
    assert card(catalogue, "openai/gpt-5.5").origin == f"{catalogue.version}, openai/gpt-5.5"
    assert catalogue.version.startswith("genai-prices ")
