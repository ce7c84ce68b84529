"""`breakeven up`: everything on this machine, one real request through it, and then it stays.

Stopped in the opposite order of its start: gateway (it drains), console, worker, Postgres. If this process is killed
outright its children end by themselves, the last of them stops Postgres, and what was booked or spooled is there at
the next start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from app.bootstrap import read_policy
from app.cli.house import House
from app.cli.output import console
from app.cli.signals import Endings
from app.cli.supervisor import Supervisor
from app.cli.up_checks import check_disk, check_port, check_system, check_worker_installed, only_one
from app.cli.up_steps import Steps
from app.cli.up_worker import local_worker
from app.settings import read_settings
from app.system import SystemClock

app = typer.Typer(add_completion=False)


@app.command(help="Start everything on this machine, show one real request, stay up.")
def up(
    once: Annotated[bool, typer.Option("--once", help="Stop again after the request.")] = False,
) -> None:
    out = console()
    house = _checked(out)
    with Endings() as endings, only_one(house.settings.data):
        for port in house.ports():
            check_port(port)
        with _stopping(house, endings) as last:
            with Steps(out, clock=house.supervisor.clock) as steps:
                keys = house.start(steps, last)
            house.show_a_request(keys)
            if not once:
                house.tell_how_to_go_on(keys)
                with _until_a_signal():
                    house.stay(last)


def _checked(out: Console) -> House:
    """The house that the settings and the policy describe, when this machine can hold it. Raises SetupError."""
    check_system()
    settings = read_settings()
    policy = read_policy(settings).policy
    worker = local_worker(policy, settings)
    if worker is not None:
        check_worker_installed()
    check_disk(settings.data)
    supervisor = Supervisor(
        clock=SystemClock(),
        say=lambda text: out.print(Text(f"breakeven: {text}"), soft_wrap=True),
        trouble=lambda name, line: out.print(Text(f"{name} │ {line}"), soft_wrap=True),
    )
    return House(settings=settings, policy=policy, worker=worker, supervisor=supervisor, out=out)


@contextmanager
def _stopping(house: House, endings: Endings) -> Iterator[ExitStack]:
    """However the block ends: children stop first, then what the stack holds. A second signal kills the children."""
    with ExitStack() as last:
        try:
            try:
                yield last
            finally:
                endings.begin_ending()
        finally:
            with suppress(OSError):  # the terminal may be gone, and everything is to be stopped all the same
                house.out.print(Text("\nStopping … (again for at once)"))
            house.supervisor.stop(hurry=lambda: endings.hurry)
    house.out.print(Text("Stopped."))


@contextmanager
def _until_a_signal() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        return
