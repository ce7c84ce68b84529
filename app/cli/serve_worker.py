"""`breakeven worker`: a model on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.cli.signals import end_on_sigterm
from app.settings import read_settings
from app.worker.main import run
from app.worker.options import SMALL_MODEL, WorkerOptions

app = typer.Typer(add_completion=False)


class Engine(StrEnum):
    """What computes: the CPU engine, or vLLM."""

    OPENVINO = "openvino"
    VLLM = "vllm"


@app.command(
    help="Serve a model on this machine behind vLLM's routes, until stopped.",
    epilog="With --engine vllm, what follows -- is handed to vLLM as it stands.",
)
def worker(
    engine: Annotated[Engine, typer.Option(help="openvino: on the CPU; vllm: on GPUs.")] = Engine.OPENVINO,
    model: Annotated[Path | None, typer.Option(help="A GGUF file, or for vllm a directory; the small one.")] = None,
    name: Annotated[str, typer.Option(help="The name that requests and the policy use.")] = SMALL_MODEL,
    host: Annotated[str, typer.Option(help="Where it listens; it has no keys, so keep it private.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of BREAKEVEN_WORKER_PORT.")] = None,
    context: Annotated[int, typer.Option(min=16, help="Prompt and answer together, in tokens.")] = 8192,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Answers computed at once.")] = 64,
    max_num_queued_reqs: Annotated[int, typer.Option(min=1, help="Answers computed and waiting.")] = 128,
    threads: Annotated[int | None, typer.Option(min=1, help="All cores but one.")] = None,
    cache_gb: Annotated[int, typer.Option(min=1, help="Memory for the KV cache.")] = 1,
    vllm_arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- VLLM ARGUMENTS]")] = None,
) -> None:
    end_on_sigterm()
    options = WorkerOptions(
        engine=engine.value,
        model=model,
        served_name=name,
        host=host,
        port=read_settings().worker_port if port is None else port,
        context_tokens=context,
        max_num_seqs=max_num_seqs,
        max_num_queued_reqs=max_num_queued_reqs,
        threads=threads,
        cache_gb=cache_gb,
        vllm_arguments=tuple(vllm_arguments or ()),
    )
    raise typer.Exit(run(options))
