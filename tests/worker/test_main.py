"""app.worker.main and `python -m app.worker`: what is said when a worker cannot be started."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from app.worker.__main__ import main
from app.worker.main import WorkerOptions, listen, run

ROOT = Path(__file__).parents[2]
WITHOUT_ENGINES = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"openvino", "openvino_genai", "numpy", "jinja2", "torch", "vllm"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


def said(options: WorkerOptions) -> tuple[int, list[str]]:
    out = io.StringIO()
    return run(options, console=Console(file=out, width=60)), out.getvalue().splitlines()


def test_each_lack_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        status, lines = said(WorkerOptions(model=tmp_path / "none.gguf", port=taken.getsockname()[1]))
    assert status == 1
    assert len(lines) == 2
    assert "does not exist: name a GGUF file." in lines[0]
    assert "choose another port." in lines[1]


def test_vllm_on_a_machine_that_does_not_fit_is_refused() -> None:
    status, lines = said(WorkerOptions(engine="vllm", port=0))
    assert status == 1
    assert any("vLLM needs a directory" in line for line in lines)


def test_the_worker_is_imported_without_any_engine_installed() -> None:
    script = WITHOUT_ENGINES + "import app.worker.main, app.worker.__main__; print('fine')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_a_check_says_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--port", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert any("SmolLM2" in line for line in lines)


def test_a_check_says_what_does_not_fit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--check", "--port", "0", "--model", str(tmp_path / "none.gguf")]) == 1
    assert "NO  model: " in capsys.readouterr().out


def test_an_address_that_cannot_be_had_is_an_error() -> None:
    with pytest.raises(OSError, match=r"assign requested address|Can't assign"):
        listen("192.0.2.1", 8001)
