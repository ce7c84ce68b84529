"""What a worker is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Engine = Literal["openvino", "vllm"]

SMALL_MODEL: Final = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How one worker serves one model.

    `model` is a GGUF file (openvino) or a directory in Hugging Face form (vllm); None is the small model's package.
    `max_num_queued_reqs` counts answers in progress and waiting together, as vLLM counts them. `threads` None is all
    cores but one, which the HTTP server keeps. `port` 0 lets the system choose. `stall_limit_s` is how long the engine
    may be silent while it has work before it is killed and started again; `drain_s`, how long answers in progress
    may still take when the worker is told to stop. `vllm_arguments` are passed on to vLLM as they are.
    """

    engine: Engine = "openvino"
    model: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8001
    served_name: str = SMALL_MODEL
    context_tokens: int = 8192
    max_num_seqs: int = 64
    max_num_queued_reqs: int = 128
    threads: int | None = None
    cache_gb: int = 1
    stall_limit_s: float = 60.0
    drain_s: float = 5.0
    vllm_arguments: tuple[str, ...] = ()
