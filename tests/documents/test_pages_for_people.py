"""The page that operations read names everything that may be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.documents.condition_functions import methods_of, standing_alone
from app.documents.condition_kinds import NAMES, STRING, list_of
from app.documents.policy import (
    WrittenLimits,
    WrittenMachine,
    WrittenModel,
    WrittenOutputTokens,
    WrittenRule,
    WrittenTarget,
    WrittenTimeouts,
    WrittenWeights,
)
from app.documents.rates import WrittenMachinePrice, WrittenSpeeds, WrittenTargetRates, WrittenTokenPrices
from app.documents.words import Written

PAGE = (Path(__file__).parents[2] / "policies" / "README.md").read_text()


@pytest.mark.parametrize(
    "model",
    [
        WrittenTarget,
        WrittenLimits,
        WrittenMachine,
        WrittenModel,
        WrittenRule,
        WrittenWeights,
        WrittenTimeouts,
        WrittenOutputTokens,
        WrittenMachinePrice,
        WrittenTargetRates,
        WrittenTokenPrices,
        WrittenSpeeds,
    ],
)
def test_every_key_is_on_the_page(model: type[Written]) -> None:
    assert [key for key in model.model_fields if key not in PAGE] == []


def test_every_name_and_function_of_conditions_is_on_the_page() -> None:
    names = [f"`{room}.{field}`" for room, fields in NAMES.items() for field in fields]
    assert [name for name in names if name not in PAGE] == []
    functions = {*methods_of(STRING), *methods_of(list_of(STRING)), *standing_alone()}
    assert sorted(name for name in functions if f"`{name}`" not in PAGE) == []
