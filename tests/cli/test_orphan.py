"""A child ends when its parent does, however the parent ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.command_line import ROOT, runs

PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())])
print(child.pid, flush=True)
time.sleep(600)
"""
CHILD = """
import signal, sys, time
from app.cli.orphan import leave_with
leave_with(int(sys.argv[1]))
open({ready!r}, "w").close()
time.sleep(600)
"""


def test_kill_9_of_the_parent_ends_the_child(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD.format(ready=str(ready))], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        _wait_until_there(ready)
        parent.kill()
        parent.wait()
    _wait_until_gone(child)


def test_a_parent_that_is_gone_already_ends_the_child_at_once() -> None:
    code = "from app.cli.orphan import leave_with; leave_with(1 << 22); import time; time.sleep(600)"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=30, check=False)
    assert child.returncode == -signal.SIGTERM


def _wait_until_there(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while runs(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)
