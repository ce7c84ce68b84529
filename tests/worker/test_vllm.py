"""app.worker.vllm: how vLLM's server is started and kept running."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.worker.options import WorkerOptions
from app.worker.vllm import keep_running, vllm_command, vllm_environment

ROOT = Path(__file__).parents[2]
#: Notes its process id, and a child's, and stays.
STAYS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1], "a") as notes: notes.write(f"{os.getpid()} {child.pid}\\n")
time.sleep(600)
"""
ENDS = 'import os, sys; open(sys.argv[1], "a").write(f"{os.getpid()} 0\\n"); sys.exit(3)'


def test_the_flags_that_ledger_and_router_need_are_there(tmp_path: Path) -> None:
    command = vllm_command(
        WorkerOptions(engine="vllm", model=tmp_path, served_name="big", max_num_queued_reqs=99, vllm_arguments=("--x",))
    )
    assert command[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    pairs = dict(itertools.pairwise(command))
    assert (pairs["--served-model-name"], pairs["--max-num-queued-reqs"]) == ("big", "99")
    assert pairs["--model"] == str(tmp_path)
    assert {
        "--enable-prompt-tokens-details",
        "--enable-per-request-metrics",
        "--enable-request-id-headers",
    } <= set(command)
    assert not {"--disable-log-stats", "--enable-force-include-usage"} & set(command)
    assert command[-1] == "--x"


def test_a_model_must_be_named() -> None:
    with pytest.raises(ValueError, match="model directory"):
        vllm_command(WorkerOptions(engine="vllm"))


def test_its_makers_are_told_of_its_use_only_if_the_operator_wants_it() -> None:
    assert vllm_environment({"PATH": "/bin"}) == {"PATH": "/bin", "VLLM_NO_USAGE_STATS": "1"}
    assert vllm_environment({"VLLM_NO_USAGE_STATS": "0"}) == {"VLLM_NO_USAGE_STATS": "0"}


async def test_a_server_gets_the_environment_given(tmp_path: Path) -> None:
    notes, stopping = tmp_path / "notes", asyncio.Event()
    script = "import os, sys, time; open(sys.argv[1], 'w').write(os.environ['GIVEN']); time.sleep(600)"

    async def stop_when_told() -> None:
        while not (notes.exists() and notes.read_text()):
            await asyncio.sleep(0.02)
        stopping.set()

    async with asyncio.TaskGroup() as tasks:
        command = [sys.executable, "-c", script, str(notes)]
        tasks.create_task(keep_running(command, stopping=stopping, stop_within_s=5, environment={"GIVEN": "it"}))
        tasks.create_task(stop_when_told())
    assert notes.read_text() == "it"


async def test_a_server_that_ends_is_started_again_with_growing_pauses(tmp_path: Path) -> None:
    notes, stopping = tmp_path / "notes", asyncio.Event()

    async def stop_after_three() -> None:
        while len(lines(notes)) < 3:
            await asyncio.sleep(0.02)
        stopping.set()

    began_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            keep_running(
                [sys.executable, "-c", ENDS, str(notes)], stopping=stopping, stop_within_s=5, backoff_first_s=0.2
            )
        )
        tasks.create_task(stop_after_three())
    assert time.monotonic() - began_s >= 0.2 + 0.4
    assert len(set(lines(notes))) == 3


async def test_a_server_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    notes, stopping = tmp_path / "notes", asyncio.Event()

    async def stop_when_up() -> None:
        while not lines(notes):
            await asyncio.sleep(0.02)
        stopping.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_running([sys.executable, "-c", STAYS, str(notes)], stopping=stopping, stop_within_s=5))
        tasks.create_task(stop_when_up())
    await gone(*lines(notes)[0])


async def test_a_server_whose_keeper_is_killed_ends_too(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    keeper = f"""
import asyncio, sys
from app.worker.vllm import keep_running
asyncio.run(keep_running([sys.executable, "-c", {STAYS!r}, {str(notes)!r}], stopping=asyncio.Event(), stop_within_s=5))
"""
    with subprocess.Popen([sys.executable, "-c", keeper], cwd=ROOT) as process:
        while not lines(notes):
            await asyncio.sleep(0.02)
        process.kill()
    server, child = lines(notes)[0]
    await gone(server)
    os.kill(child, signal.SIGKILL)


def lines(notes: Path) -> list[tuple[int, int]]:
    if not notes.exists():
        return []
    return [(int(server), int(child)) for server, child in (line.split() for line in notes.read_text().splitlines())]


async def gone(*processes: int) -> None:
    for process in processes:
        for _ in range(500):
            if not is_running(process):
                break
            await asyncio.sleep(0.02)
        assert not is_running(process)


def is_running(process: int) -> bool:
    """A process that ended and that nobody has waited for is not running."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
