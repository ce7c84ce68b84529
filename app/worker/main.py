"""One worker: look whether this machine can serve the model, then serve it until stopped."""

from __future__ import annotations

import logging
import os
import socket

from rich.console import Console

from app.worker.options import WorkerOptions
from app.worker.preflight import port_finding, preflight
from app.worker.vllm import serve_vllm

__all__ = ["WorkerOptions", "run"]


def run(options: WorkerOptions, *, console: Console | None = None) -> int:
    """Serve until SIGTERM or SIGINT, on the main thread.

    The exit status: 0 after a clean stop, 1 when the machine does not fit or the engine never became ready; why is
    said on the console, one sentence each.
    """
    console = console or Console(stderr=True)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    lacks = [finding for finding in preflight(options) if not finding.fits]
    for lack in lacks:
        console.print(lack.sentence, highlight=False, markup=False, soft_wrap=True)
    if lacks:
        return 1
    if options.engine == "vllm":
        return serve_vllm(options)
    try:
        listener = listen(options.host, options.port)
    except OSError:
        console.print(port_finding(options.host, options.port).sentence, highlight=False, markup=False, soft_wrap=True)
        return 1
    # The chat templates' library comes with the extra `worker`; looking whether a machine fits must work without it.
    from app.worker.cpu_server import serve_cpu  # noqa: PLC0415

    return serve_cpu(options, listener, console)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound there. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    os.set_inheritable(listener.fileno(), False)
    return listener
