"""`breakeven gateway`."""

from __future__ import annotations

from typing import Annotated

import typer

from app.bootstrap import serve_gateway
from app.cli.signals import end_on_sigterm
from app.settings import read_settings

app = typer.Typer(add_completion=False)


@app.command(help="Serve the data plane, the OpenAI-style endpoint, until stopped.")
def gateway(
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that share the port.")] = 1,
) -> None:
    end_on_sigterm()
    serve_gateway(read_settings(), workers=workers)
