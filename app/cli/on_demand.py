"""Commands whose module is imported when they are asked for and not before, so that each of them starts quickly."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

#: Name → the module that has it, the function there, and its line in the help.
Commands = Mapping[str, tuple[str, str, str]]


def group_of(commands: Commands) -> type[TyperGroup]:
    """A group that loads these commands when they are asked for. They are listed by `listed(app, commands)`."""

    class OnDemand(TyperGroup):
        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            if args and args[0] in commands:
                module, function, line = commands[args[0]]
                alone = typer.Typer(add_completion=False)
                alone.command(args[0], help=line)(getattr(import_module(module), function))
                self.commands[args[0]] = typer.main.get_command(alone)
            return super().resolve_command(ctx, args)

    return OnDemand


def listed(app: typer.Typer, commands: Commands) -> None:
    """Add the commands' names and lines to the help of `app`, whose group `group_of` made of the same commands."""
    for name, (_, _, line) in commands.items():
        app.command(name, help=line)(_replaced_by_the_command_itself)


def _replaced_by_the_command_itself() -> None:
    raise AssertionError("the command's own module answers")
