"""The Makefile and what CI runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = (
    "help",
    "run",
    "test",
    "test-vllm",
    "check",
    "bench",
    "bench-idle",
    "bench-spill",
    "simulate",
    "faults",
    "outages",
    "lock",
    "clean",
)

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")


@needs_make
def test_help_lists_every_target() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"^  make ([\w-]+)", told.stdout, re.MULTILINE) == list(TARGETS)


@needs_make
def test_help_is_what_make_alone_does() -> None:
    assert "make run" in subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_a_target_can_be_planned(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)


@needs_make
def test_cleaning_leaves_the_ledger_alone() -> None:
    plan = subprocess.run(["make", "--dry-run", "clean"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert '".venv" ".venv-vllm"' in plan
    assert ".breakeven" not in plan


def test_ci_runs_the_checks_and_the_readmes_own_test_command() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert "set -eu" in text
    assert re.findall(r"^timed (make \w+)$", text, re.MULTILINE) == ["make check", "make test"]
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("script", ["deploy/setup.sh", "deploy/fits_vllm.sh", "deploy/locks/compile.sh", ".ci/run"])
def test_scripts_are_plain_sh(script: str) -> None:
    text = (ROOT / script).read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "set -eu" in text
    subprocess.run(["sh", "-n", str(ROOT / script)], check=True)
    assert not re.search(r"\[\[|\bfunction \w|<<<|\$'", text), "that is bash"
