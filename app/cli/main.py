"""The front door of the command line: which commands there are, and how a failure is told.

A command's module is imported when the command is asked for and not before, so that `breakeven --help` stays quick.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from app.cli.orphan import leave_with
from app.domain.errors import BreakevenError
from app.ports import BooksAway, RowsRefused

EXIT_FAILED: Final = 1

#: Command → the module whose `app` it is, and its line in the help.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("app.cli.up", "Start everything on this machine, show one real request, stay up."),
    "gateway": ("app.cli.serve_gateway", "Serve the data plane, the OpenAI-style endpoint, until stopped."),
    "console": ("app.cli.serve_console", "Serve the control plane: metrics, reports, keys, until stopped."),
    "worker": ("app.cli.serve_worker", "Serve a model on this machine behind vLLM's routes, until stopped."),
    "db": ("app.cli.db", "Look after the database: start, stop, migrate, url, status."),
    "key": ("app.cli.key", "Make, list, rotate, limit and revoke virtual keys."),
    "team": ("app.cli.team", "Make, list and limit teams."),
    "requests": ("app.cli.requests", "See single requests: where they went, why, and what they cost."),
    "report": ("app.cli.report", "Sum up the ledger."),
    "month": ("app.cli.month", "Close months of the ledger, and prove that closed ones never changed."),
    "reconcile": ("app.cli.reconcile", "Hold the books against what others say that they bill."),
    "budget": ("app.cli.budget", "See budgets: what is spent, what is held, when they end; and their alerts."),
    "verify": ("app.cli.verify", "Check what must always hold of the books."),
    "calibrate": ("app.cli.calibrate", "Measure how fast a self-hosted target is, and so what its tokens cost."),
    "doctor": ("app.cli.doctor", "Examine self-hosted targets: what answers, what it lacks, which flag to add."),
    "price": ("app.cli.price", "List prices: the catalogue, what was ever in force, and who disagrees."),
    "simulate": ("app.cli.simulate", "Replay a trace under a policy: who would answer, how soon, and at which cost."),
    "policy": ("app.cli.policy", "Check the policy files, and all around them."),
}


@dataclass(slots=True)
class Invocation:
    """What the options before the command say."""

    debug: bool = False


class CommandsOnDemand(TyperGroup):
    """Knows every command by name and line, and loads the one that is asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            module = import_module(COMMANDS[args[0]][0])
            self.commands[args[0]] = typer.main.get_command(module.app)
        return super().resolve_command(ctx, args)


def main() -> None:
    """Run the command that the arguments name, and exit with its status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit status: 0, 1 after a failure (one line on stderr), 2 for wrong usage."""
    invocation = Invocation()
    try:
        _root()(args=list(arguments), obj=invocation, prog_name="breakeven")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except Exception as fault:  # the last resort of the program: whatever it is, one line, and --debug for the rest
        if invocation.debug:
            traceback.print_exception(fault)
        print(f"breakeven: {told(fault)}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def told(fault: Exception) -> str:
    """The failure in a sentence or two for whoever typed the command."""
    match fault:
        case BreakevenError():
            return str(fault)
        case BooksAway():
            return f"the database does not answer ({fault}): see `breakeven db status`, or check DATABASE_URL"
        case RowsRefused():
            return f"the database refuses this: {fault}"
        case PermissionError() if fault.filename:
            return f"{fault.filename} may not be used by this user: give it the rights, or name another place"
        case OSError() if fault.filename:
            return f"{fault.filename}: {fault.strerror}"
        case _:
            words = " ".join(str(fault).split()) or "no message"
            return f"unexpected {type(fault).__name__}: {words} (`breakeven --debug …` shows where)"


def _root() -> typer.Typer:
    root = typer.Typer(
        cls=CommandsOnDemand,
        help="One endpoint in front of your own GPUs and hosted APIs; every token and nanodollar on the books.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    root.callback()(_options)
    for name, (_, line) in COMMANDS.items():
        root.command(name, help=line)(_replaced_by_the_command_itself)
    return root


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        print(f"breakeven {metadata.version('breakeven')}")
    except metadata.PackageNotFoundError:
        print("breakeven, not installed: this is its source")
    raise typer.Exit


def _options(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where a failure comes from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
    with_parent: Annotated[int, typer.Option("--with-parent", hidden=True, metavar="PID")] = 0,
) -> None:
    if with_parent:
        leave_with(with_parent)
    invocation: Invocation = ctx.obj
    invocation.debug = debug


def _replaced_by_the_command_itself() -> None:
    raise AssertionError("the command's own module answers")
