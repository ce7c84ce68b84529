"""`deploy/setup.sh`, which `make` installs with: what it does, and what it says when it cannot.

The interpreter, the virtual environment, pip and the hash checks are real; what is installed is a package made here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Of the system's programs the script needs these and nothing else.
TOOLS = ("sh", "cat", "cksum", "awk", "df", "mkdir", "dirname", "grep", "rm", "pwd", "env")
#: A backend of the project's own, as the real one would have to be fetched.
BACKEND = """
import zipfile
NAME = "tiny_project-1.0.dist-info"
def build_editable(directory, config_settings=None, metadata_directory=None):
    wheel = "tiny_project-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{wheel}", "w") as out:
        out.writestr(f"{NAME}/METADATA", "Metadata-Version: 2.1\\nName: tiny-project\\nVersion: 1.0\\n")
        out.writestr(f"{NAME}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        out.writestr(f"{NAME}/RECORD", "")
    return wheel
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


@dataclass(frozen=True)
class Clone:
    """A clone with lock files that name one small package, and a directory where pip finds it."""

    root: Path
    wheels: Path

    def setup(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root.parent),
            "PYTHON": sys.executable,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": self.wheels.as_uri(),
            **environment,
        }
        return subprocess.run(
            ["sh", str(self.root / "deploy/setup.sh"), *arguments],
            cwd=self.root.parent,
            env={name: value for name, value in given.items() if value},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def lock(self, name: str, digest: str, *, version: str = "1.0") -> None:
        text = f"tiny=={version} \\\n    --hash=sha256:{digest}\n"
        (self.root / f"deploy/locks/{name}.txt").write_text(text)

    @property
    def installed(self) -> bool:
        return any(self.root.glob(".venv/lib/python3*/site-packages/tiny/__init__.py"))


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    clone = Clone(root=tmp_path / "a clone", wheels=tmp_path / "wheels")
    (clone.root / "deploy/locks").mkdir(parents=True)
    clone.wheels.mkdir()
    shutil.copy(ROOT / "deploy/setup.sh", clone.root / "deploy/setup.sh")
    (clone.root / "pyproject.toml").write_text(PROJECT)
    (clone.root / "backend.py").write_text(BACKEND)
    digest = tiny_wheel(clone.wheels)
    for name in ("worker", "dev"):
        clone.lock(name, digest)
    (clone.root / "deploy/locks/weights.txt").write_text("# nothing\n")
    yield clone
    shutil.rmtree(clone.root, ignore_errors=True)


def tiny_wheel(directory: Path, *, name: str = "tiny", version: str = "1.0") -> str:
    """Write a wheel with one empty module; its SHA-256."""
    wheel = directory / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr(f"{name}/__init__.py", "")
        out.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        out.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_it_installs_once_and_then_only_after_a_change(clone: Clone) -> None:
    first = clone.setup("dev")
    assert first.returncode == 0, first.stderr
    assert clone.installed
    assert first.stdout.endswith("breakeven: installed\n")

    again = clone.setup("dev")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    covered = clone.setup("worker")
    assert (covered.returncode, covered.stdout) == (0, ""), "what tests need holds what a run needs"

    digest = tiny_wheel(clone.wheels, version="1.1")
    for name in ("worker", "dev"):
        clone.lock(name, digest, version="1.1")
    changed = clone.setup("worker")
    assert changed.returncode == 0, changed.stderr
    assert "tiny-1.1" in changed.stdout

    moved = Clone(root=clone.root.parent / "moved clone", wheels=clone.wheels)
    clone.root.rename(moved.root)
    elsewhere = moved.setup("worker")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert "breakeven: making .venv" in elsewhere.stdout


def test_a_package_that_differs_from_its_hash_is_not_installed(clone: Clone) -> None:
    clone.lock("worker", "0" * 64)
    told = clone.setup("worker")
    assert told.returncode == 1
    assert "breakeven: a package is not the one that deploy/locks/worker.txt" in told.stderr
    assert not clone.installed

    unreachable = clone.setup(
        "worker", PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_TIMEOUT="1"
    )
    assert unreachable.returncode == 1
    assert last_line(unreachable).startswith("breakeven: no package index can be reached: connect to the network")

    missing = clone.setup("worker", PIP_FIND_LINKS=(clone.root / "deploy").as_uri())
    assert missing.returncode == 1
    assert "pip could not install the packages (its own words stand above" in last_line(missing)
    assert not list(clone.root.glob(".venv/.installed-*"))


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        ("old", "no Python 3.11 or later found at {python}: install one"),
        ("venv", "{python} cannot make virtual environments: install its venv package"),
        ("libc", "this system has no GNU C library (Alpine Linux, for one)"),
        ("glibc 2.17", "the C library here is glibc 2.17 and the packages need 2.28 or later"),
        ("", None),
    ],
)
def test_what_the_interpreter_says_of_itself_becomes_a_sentence(
    clone: Clone, tmp_path: Path, verdict: str, sentence: str | None
) -> None:
    python = tmp_path / "bin dir" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\n[ "$1" = - ] && cat >/dev/null && echo \'{verdict}\'\n[ "$1" = - ]\n')
    python.chmod(0o755)
    told = clone.setup("worker", PYTHON=str(python))
    assert told.returncode == 1
    expected = f".venv could not be made (the words of {python} stand above)" if sentence is None else sentence
    assert last_line(told).startswith(f"breakeven: {expected.format(python=python)}")


def test_without_any_python_it_says_what_to_install(clone: Clone, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    told = clone.setup("worker", PATH=str(tools), PYTHON="")
    assert told.returncode == 1
    assert last_line(told).startswith("breakeven: no Python 3.11 or later found: install one (python3.13,")


def test_it_says_how_it_is_used(clone: Clone) -> None:
    told = clone.setup()
    assert told.returncode == 1
    assert last_line(told) == "breakeven: usage: sh deploy/setup.sh worker|dev|plot|vllm"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_clone_that_cannot_be_written_is_a_sentence(clone: Clone) -> None:
    clone.root.chmod(0o555)
    told = clone.setup("worker")
    clone.root.chmod(0o755)
    assert last_line(told).startswith("breakeven: .venv cannot be made here")


def last_line(told: subprocess.CompletedProcess[str]) -> str:
    return told.stderr.strip().splitlines()[-1]
