"""`app.cli.price`: over the real catalogue and a real database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.storage.price_catalogue import PackagedCatalogue
from tests.command_line import HereAtOnce


@pytest.fixture
def desk(
    books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HereAtOnce:
    return HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)


def test_the_list_names_models_with_their_prices_of_the_day(desk: HereAtOnce) -> None:
    rows = desk("price", "list", "openai/gpt-5.6-luna", "--at", "2026-07-29").out.splitlines()
    assert rows[1].split()[:4] == ["openai/gpt-5.6-luna", "1", "0.1", "6"]
    (now, *_) = desk("price", "list", "openai/gpt-5.6-luna", "--json").value
    assert (now["name"], now["prices"]["prompt"]) == ("openai/gpt-5.6-luna", "0.2")
    nothing = desk("price", "list", "no such model")
    assert (nothing.status, nothing.out) == (1, "")


def test_a_model_is_shown_with_its_tiers_thresholds_and_days(desk: HereAtOnce) -> None:
    shown = desk("price", "show", "openai/gpt-5.5")
    assert "From 2026-10-14, rate card" in shown.out
    assert ["priority", "12.5", "1.25", "75", "10"] in [row.split() for row in shown.out.splitlines()]
    assert "Billed besides, and on no rate card: storage_searches_kcount" in shown.out
    at = desk("price", "show", "openai/gpt-5.5", "--at", "2026-10-13", "--json").value
    assert [card["valid_to"] for card in at["cards"]] == ["2026-10-14"]


def test_a_model_without_a_card_says_why(desk: HereAtOnce) -> None:
    shown = desk("price", "show", "groq/whisper-large-v3")
    assert "No rate card can say what it costs" in shown.out


@pytest.mark.parametrize("name", ["openai/nothing-like-it", "0123456789abcdef"])
def test_what_is_not_known_is_one_sentence(desk: HereAtOnce, name: str) -> None:
    shown = desk("price", "show", name)
    assert (shown.status, shown.out, shown.err.count("\n")) == (1, "", 1)


def test_a_day_that_is_none_is_wrong_usage(desk: HereAtOnce) -> None:
    assert desk("price", "list", "--at", "tomorrow").status == 2


def test_a_sync_writes_the_cards_down_once_and_each_is_found_by_its_digest(desk: HereAtOnce) -> None:
    first = desk("price", "sync", "--json")
    assert first.status == 0, first.err
    priced = sum(1 for model in PackagedCatalogue().models() if model.cards)
    assert first.value["models"] == priced
    assert first.value["new_rows"] >= priced
    assert desk("price", "sync").out == f"{priced} models, 0 new prices\n"

    (model,) = desk("price", "list", "openai/gpt-5.5-pro", "--json").value[:1]
    card = desk("price", "show", model["rate_card"], "--json").value
    assert (card["prices"], card["service_tiers"]) == (model["prices"], model["service_tiers"])
    assert f"rate card {model['rate_card']}, genai-prices" in desk("price", "show", model["rate_card"]).out


def test_a_second_list_that_agrees_is_told_and_one_that_does_not_fails(desk: HereAtOnce, tmp_path: Path) -> None:
    model = {"litellm_provider": "openai", "input_cost_per_token": 5e-06, "output_cost_per_token": 3e-05}
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"gpt-5.5": model}))
    agreed = desk("price", "check", "--against", str(path))
    assert (agreed.status, agreed.out) == (0, "nothing odd, nothing disputed\n")

    path.write_text(json.dumps({"gpt-5.5": model | {"output_cost_per_token": 6e-05}}))
    disputed = desk("price", "check", "openai/gpt-5.5", "--against", str(path), "--json")
    assert disputed.status == 1
    assert [doubt["kind"] for doubt in disputed.value] == ["disputed"]
    told = desk("price", "check", "--against", str(path)).out
    assert told == "openai/gpt-5.5: the price of output is 30 here and 60 in map.json (disputed)\n"

    unknown = desk("price", "check", "openai/no-such-model", "--against", str(path))
    assert (unknown.status, unknown.err.count("\n")) == (1, 1)
    missing = desk("price", "check").err
    for word in ("model_prices_and_context_window.json", "public repository", "--against FILE", "pip install litellm"):
        assert word in missing
