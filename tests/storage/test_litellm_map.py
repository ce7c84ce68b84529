from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from app.domain.errors import SetupError
from app.storage.litellm_map import installed_map, read_map

MAP = {
    "sample_spec": {"litellm_provider": "one of https://docs.litellm.ai/docs/providers"},
    "gpt-5.5": {
        "litellm_provider": "openai",
        "input_cost_per_token": 5e-06,
        "input_cost_per_token_above_272k_tokens_flex": 5e-06,
        "output_cost_per_token_batches": 1.5e-05,
        "cache_creation_input_token_cost_above_1hr": 1e-05,
        "cache_creation_input_token_cost": 0.0,
        "max_tokens": 128000,
        "mode": "chat",
    },
    "gemini/gemini-2.5-pro": {"litellm_provider": "gemini", "input_cost_per_token": 1.25e-06},
    "azure/gpt-5.5": {"litellm_provider": "azure", "input_cost_per_token": 5e-06},
}


def test_prices_are_read_by_the_catalogues_names_to_the_last_digit(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(MAP))
    assert read_map(path) == {
        "openai/gpt-5.5": {
            ("", -1, "prompt"): Decimal(5),
            ("flex", 272_000, "prompt"): Decimal(5),
            ("batch", -1, "output"): Decimal(15),
            ("", -1, "cache_write_1h"): Decimal(10),
        },
        "google/gemini-2.5-pro": {("", -1, "prompt"): Decimal("1.25")},
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_what_is_no_map_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(SetupError, match=r"map\.json"):
        read_map(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        read_map(tmp_path / "nowhere.json")


def test_without_litellm_the_file_has_to_be_named() -> None:
    with pytest.raises(SetupError, match="--against"):
        installed_map()
