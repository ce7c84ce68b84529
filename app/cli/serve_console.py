"""`breakeven console`."""

from __future__ import annotations

import typer

from app.bootstrap import serve_console
from app.cli.signals import end_on_sigterm
from app.settings import read_settings

app = typer.Typer(add_completion=False)


@app.command(help="Serve the control plane: metrics, reports, keys, until stopped.")
def console() -> None:
    end_on_sigterm()
    serve_console(read_settings())
