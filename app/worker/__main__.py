"""`python -m app.worker`: one worker, from the command line. `--check` only looks whether this machine fits."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from app.worker.main import run
from app.worker.options import WorkerOptions
from app.worker.preflight import preflight

_TYPES = {"model": Path, "threads": int}
_FIXED = {"engine", "vllm_arguments"}


def main(arguments: list[str] | None = None) -> int:
    """Every option is named after its field; what follows `--` goes to vLLM."""
    parser = argparse.ArgumentParser(prog="python -m app.worker", description=WorkerOptions.__doc__)
    parser.add_argument("--engine", choices=("openvino", "vllm"), default="openvino")
    parser.add_argument("--check", action="store_true", help="say what fits and what does not, and stop")
    for field in fields(WorkerOptions):
        if field.name not in _FIXED:
            kind = _TYPES.get(field.name, type(field.default))
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    parser.add_argument("vllm_arguments", nargs="*", metavar="VLLM_ARGUMENT")
    named = vars(parser.parse_args(arguments))
    check = named.pop("check")
    options = WorkerOptions(**{**named, "vllm_arguments": tuple(named["vllm_arguments"])})
    if not check:
        return run(options)
    findings = preflight(options)
    for finding in findings:
        sys.stdout.write(f"{'ok ' if finding.fits else 'NO '} {finding.subject}: {finding.sentence}\n")
    return 0 if all(finding.fits for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
