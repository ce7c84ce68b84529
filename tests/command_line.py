"""The command line as people use it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import run

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "app")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The JSON document it wrote."""
        return json.loads(self.out)


def breakeven(*arguments: str, timeout_s: float = 60, **environment: str) -> Ran:
    """Run a command to its end, with these settings and none of this process's own."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


class HereAtOnce:
    """Runs commands inside this process, over one database and one data directory: quick, for many of them.

    For tests that are no coroutines, as a command runs a loop of its own.
    """

    def __init__(
        self, *, url: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.url, self.data, self._capsys = url, data, capsys
        for name in os.environ:
            if name.startswith("BREAKEVEN_") and name != "BREAKEVEN_PG_BIN":
                monkeypatch.delenv(name)
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("BREAKEVEN_DATA", str(data))

    def __call__(self, *arguments: str) -> Ran:
        self._capsys.readouterr()
        status = run(arguments)
        said = self._capsys.readouterr()
        return Ran(status, said.out, said.err)


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without Breakeven's settings and credentials, and with these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BREAKEVEN_") or name == "BREAKEVEN_PG_BIN"
    }
    for name in ("DATABASE_URL", "OPENAI_API_KEY"):
        kept.pop(name, None)
    return {**kept, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **settings}


def runs(pid: int) -> bool:
    """Whether this process is there and more than an entry that nobody has collected yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    if not status.exists():
        return not Path("/proc/self").exists()
    return status.read_text().rpartition(")")[2].split()[0] != "Z"
