"""The page that operations read names everything that may be written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.cli.policy import COMMANDS
from app.documents.condition_functions import methods_of, standing_alone
from app.documents.condition_kinds import NAMES, SIGNALS, STRING, list_of
from app.documents.schema import policy_schema

PAGE = (Path(__file__).parents[2] / "policies" / "README.md").read_text()
#: What stands in backticks in the tables of each `##` chapter; the words alone.
TABLES = {
    chapter: frozenset(
        word
        for row in re.findall(r"^\|.*$", text, re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", row)
        for word in re.findall(r"[a-z_][a-z_0-9]*", code)
    )
    for chapter, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
SCHEMA = policy_schema()
#: Model of the schema → the chapter whose tables have its keys.
CHAPTERS = {
    **dict.fromkeys(("Target", "Limits", "Machine"), "`targets`"),
    **dict.fromkeys(
        ("Model", "Rule", "Preference", "Spill", "Shadow", "Timeouts", "Hedge", "OutputTokens"),
        "`models`",
    ),
    **dict.fromkeys(("Engine", "Signal", "Error"), "`engines`"),
    "Defaults": "`defaults`",
    **dict.fromkeys(
        ("Rates", "MachinePrice", "TargetRates", "TokenPrices", "Speeds", "LongPrompts", "ServiceTier", "PriceChange"),
        "`rates`",
    ),
    **dict.fromkeys(("Budget", "Scope", "Step"), "`budgets`"),
    **dict.fromkeys(
        ("Scenario", "Given", "Caller", "Request", "Time", "TargetSeen", "BudgetSeen", "Expect"),
        "`scenarios`",
    ),
}


def test_every_kind_of_entry_has_a_chapter() -> None:
    assert set(CHAPTERS) == set(SCHEMA["$defs"])
    assert sorted(key for key in SCHEMA["properties"] if f"`{key}`" not in TABLES) == []


@pytest.mark.parametrize("model", CHAPTERS)
def test_every_key_is_in_a_table_of_its_chapter(model: str) -> None:
    kind = SCHEMA["$defs"][model]
    assert sorted(set(kind["properties"]) - TABLES[CHAPTERS[model]]) == []


@pytest.mark.parametrize("model", CHAPTERS)
def test_every_word_that_a_key_takes_is_in_a_table_of_its_chapter(model: str) -> None:
    said = TABLES[CHAPTERS[model]]
    for key, each in SCHEMA["$defs"][model]["properties"].items():
        words = each.get("enum", []) + each.get("items", {}).get("enum", [])
        missing = [word for word in words if not set(re.findall(r"[a-z_]+", word)) <= said]
        assert missing == [] or model in ("Defaults", "Request"), key


def test_every_name_and_function_of_conditions_is_on_the_page() -> None:
    names = [f"`{room}.{field}`" for room, fields in NAMES.items() for field in fields]
    holder = {"fleet": "TARGET", "budget": "NAME"}
    names += [f'`{room}["{holder[room]}"].{field}`' for room, fields in SIGNALS.items() for field in fields]
    assert [name for name in names if name not in PAGE] == []
    functions = {*methods_of(STRING), *methods_of(list_of(STRING)), *standing_alone()}
    assert sorted(name for name in functions if f"`{name}`" not in PAGE) == []


def test_every_policy_command_is_on_the_page() -> None:
    rows = re.findall(r"^\| `breakeven policy ([a-z]+)", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(["check", *COMMANDS])
