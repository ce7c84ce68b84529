"""The front door: quick to open, and one clear line when something fails."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli.main import COMMANDS, told
from app.domain.errors import SetupError
from app.ports import BooksAway, RowsRefused
from tests.command_line import ROOT, breakeven

HEAVY = ("sqlalchemy", "asyncpg", "pydantic", "fastapi", "aiohttp", "openvino", "torch", "numpy", "vllm", "msgspec")


def test_help_names_every_command_with_its_line() -> None:
    ran = breakeven("--help")
    assert ran.status == 0
    said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", ran.out).split())
    for name, (_, line) in COMMANDS.items():
        assert f"{name} {line}" in said


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))\n"
        "sys.argv = ['breakeven', '--help']\n"
        "from app.cli.main import main\n"
        "main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_own_help_begins_with_its_line(name: str) -> None:
    module, line = COMMANDS[name]
    command = typer.main.get_command(import_module(module).app)
    assert command.help == line


def test_no_command_offers_to_install_completion() -> None:
    commands = [(name, typer.main.get_command(import_module(module).app)) for name, (module, _) in COMMANDS.items()]
    commands += [(f"{name} {below}", each) for name, one in commands for below, each in _below(one).items()]
    assert [name for name, each in commands if any("completion" in (option.name or "") for option in each.params)] == []
    assert "completion" not in breakeven("requests", "show", "--help").out


def _below(command: Any) -> dict[str, Any]:
    return getattr(command, "commands", {})


def test_the_version_is_the_distributions() -> None:
    ran = breakeven("--version")
    try:
        told = f"breakeven {metadata.version('breakeven')}"
    except metadata.PackageNotFoundError:
        told = "breakeven, not installed: this is its source"
    assert (ran.status, ran.out, ran.err) == (0, f"{told}\n", "")


def test_wrong_usage_says_so_and_no_command_is_wrong_usage() -> None:
    assert breakeven("--debug").status == 2
    assert "Usage: breakeven" in breakeven().out + breakeven().err


def test_a_command_that_does_not_exist_is_a_usage_error_with_a_suggestion() -> None:
    ran = breakeven("gatewya")
    assert ran.status == 2
    assert "No such command 'gatewya'. Did you mean 'gateway'?" in " ".join(ran.err.split())


def test_a_wrong_option_is_a_usage_error() -> None:
    assert breakeven("gateway", "--workers", "0").status == 2


def test_a_wrong_setting_is_one_line_on_stderr_and_no_traceback(tmp_path: Path) -> None:
    ran = breakeven("db", "url", BREAKEVEN_PORT="eighty")
    assert ran.status == 1
    assert ran.out == ""
    assert ran.err.startswith("breakeven: settings: BREAKEVEN_PORT: ")
    assert ran.err.count("\n") == 1


def test_debug_shows_where_a_failure_comes_from() -> None:
    ran = breakeven("--debug", "db", "url", BREAKEVEN_PORT="eighty")
    assert ran.status == 1
    assert "Traceback (most recent call last)" in ran.err
    assert ran.err.splitlines()[-1].startswith("breakeven: settings: ")


def test_every_failure_is_told_in_a_sentence() -> None:
    assert told(SetupError("do this")) == "do this"
    assert told(BooksAway("it is asleep")).startswith("the database does not answer (it is asleep)")
    assert told(RowsRefused("too long")) == "the database refuses this: too long"
    assert told(PermissionError(13, "Permission denied", "/x")).startswith("/x may not be used by this user")
    assert told(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: No such file or directory"
    assert told(ValueError("a\nb")) == "unexpected ValueError: a b (`breakeven --debug …` shows where)"


def test_a_pipe_that_closes_early_is_no_failure_to_shout_about() -> None:
    ran = subprocess.run(
        f"'{sys.executable}' -m app --help | head -n 1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in ran.stderr
