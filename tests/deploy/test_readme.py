"""The front page against the code."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli.main import COMMANDS
from app.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "deploy/README.md", ROOT / "app/cli/README.md"]


def test_the_table_of_settings_is_what_the_code_reads() -> None:
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| (`[^`]*`|none) \|", README, re.MULTILINE))
    assert table == {_variable(name): _default(field) for name, field in Settings.model_fields.items()}


def test_the_table_of_commands_is_the_command_line() -> None:
    rows = re.findall(r"^\| `breakeven ([^`]+)` \|", README, re.MULTILINE)
    assert [row.split()[0] for row in rows] == list(COMMANDS)
    for row in rows:
        command, *rest = row.split()
        group: Any = typer.main.get_command(import_module(COMMANDS[command][0]).app)
        if hasattr(group, "commands"):
            assert set(rest[0].split("\\|")) == set(group.commands), row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_command_a_page_names_exists() -> None:
    named = {word for page in PAGES for word in re.findall(r"`breakeven ([a-z]+)", page.read_text())}
    assert named <= set(COMMANDS)


def test_the_two_commands_come_first() -> None:
    assert README.index("make run") < README.index("curl")
    assert README.index("make test") < README.index("curl")


def _variable(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    return str(alias) if alias is not None else f"BREAKEVEN_{name.upper()}"


def _default(field: Any) -> str:
    default = field.default
    if default is None:
        return "none"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
