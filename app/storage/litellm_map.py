"""The second opinion on list prices: litellm's map of models, read from its JSON file. Its code is never loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from app.domain.errors import SetupError
from app.domain.pricing.doubts import Place

#: The map as an installed litellm ships it.
_SHIPPED: Final = "model_prices_and_context_window_backup.json"
#: litellm's sellers and the catalogue's.
_SELLERS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "cerebras": "cerebras",
    "deepseek": "deepseek",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "openai": "openai",
    "perplexity": "perplexity",
    "together_ai": "together",
    "xai": "x-ai",
}
_KINDS: Final[Mapping[str, str]] = {
    "input_cost_per_token": "prompt",
    "cache_read_input_token_cost": "cached_prompt",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_token": "output",
}
_TIERS: Final[Mapping[str | None, str]] = {None: "", "flex": "flex", "priority": "priority", "batches": "batch"}
_KEY: Final = re.compile(
    rf"({'|'.join(sorted(_KINDS, key=len, reverse=True))})(?:_above_([0-9]+)k_tokens)?(?:_(flex|priority|batches))?"
)
_MILLION: Final = Decimal(1_000_000)


def installed_map() -> Path:
    """Where the map of an installed litellm lies. Raises SetupError where none is installed."""
    found = find_spec("litellm")
    if found is None or found.origin is None:
        raise SetupError(
            "litellm is not installed here: take its file model_prices_and_context_window.json out of litellm's public "
            "repository and name it with --against FILE, or install litellm beside this (`pip install litellm`)"
        )
    return Path(found.origin).parent / _SHIPPED


def read_map(path: Path) -> Mapping[str, Mapping[Place, Decimal]]:
    """USD per million tokens by the catalogue's `seller/model`, exactly as the digits stand in the file.

    A price of zero is left out: the file writes it where it does not know one. Raises SetupError.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as fault:
        raise SetupError(f"{path} cannot be read as a map of prices: {fault}") from fault
    if not isinstance(written, dict):
        raise SetupError(f"{path} holds no map of prices: its outermost value has to be an object")
    found: dict[str, Mapping[Place, Decimal]] = {}
    for name, model in written.items():
        if isinstance(model, dict) and model.get("litellm_provider") in _SELLERS:
            seller = str(model["litellm_provider"])
            found[f"{_SELLERS[seller]}/{name.removeprefix(f'{seller}/')}"] = _prices(model)
    return found


def _prices(model: Mapping[str, Any]) -> Mapping[Place, Decimal]:
    prices: dict[Place, Decimal] = {}
    for key, price in model.items():
        read = _KEY.fullmatch(key)
        if read is not None and isinstance(price, Decimal | int) and price > 0:
            kind, thousands, tier = read.groups()
            above_tokens = -1 if thousands is None else int(thousands) * 1_000
            prices[_TIERS[tier], above_tokens, _KINDS[kind]] = Decimal(price) * _MILLION
    return prices
