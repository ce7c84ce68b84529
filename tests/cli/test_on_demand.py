"""Commands are listed without their modules, and loaded when they are asked for (`app.cli.on_demand`)."""

from __future__ import annotations

import sys

import pytest
import typer
from typer.testing import CliRunner

from app.cli.on_demand import Commands, group_of, listed
from app.cli.policy import COMMANDS
from app.cli.policy import app as policy

#: One that is there, and one that is not.
SOME: Commands = {
    "gone": ("app.cli.no_such_module", "run", "A command that cannot be loaded."),
    "schema": ("app.cli.policy_schema", "schema", "The schema."),
}


def some_app() -> typer.Typer:
    app = typer.Typer(cls=group_of(SOME), no_args_is_help=True, add_completion=False)
    app.callback()(lambda: None)
    listed(app, SOME)
    return app


def test_help_names_every_command_and_loads_none() -> None:
    before = set(sys.modules)
    ran = CliRunner().invoke(some_app(), ["--help"])
    assert ran.exit_code == 0
    for name, (_, _, line) in SOME.items():
        assert name in ran.output
        assert line in ran.output
    assert not {module for module, _, _ in SOME.values()} & (set(sys.modules) - before)


def test_a_command_that_is_asked_for_is_loaded_and_run() -> None:
    ran = CliRunner().invoke(some_app(), ["schema"])
    assert ran.exit_code == 0
    assert ran.output.startswith("{")


def test_a_commands_own_help_begins_with_its_line() -> None:
    ran = CliRunner().invoke(some_app(), ["schema", "--help"])
    assert ran.exit_code == 0
    assert "The schema." in ran.output


def test_a_command_that_does_not_exist_is_wrong_usage() -> None:
    assert CliRunner().invoke(some_app(), ["shema"]).exit_code == 2


def test_a_module_that_is_not_there_is_told_when_its_command_is_asked_for() -> None:
    ran = CliRunner().invoke(some_app(), ["gone"])
    assert isinstance(ran.exception, ModuleNotFoundError)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_policy_command_is_there_to_be_loaded(name: str) -> None:
    ran = CliRunner().invoke(policy, [name, "--help"])
    assert ran.exit_code == 0, ran.output
    assert COMMANDS[name][2] in " ".join(ran.output.split())
