"""Children that are started, watched, started again and stopped, with real processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.cli.supervisor import ChildDied, Program, Supervisor
from app.domain.errors import SetupError
from app.system import SystemClock
from tests.command_line import runs

PATIENCE_S = 20.0
#: Writes its name when it is told to stop, then stops.
POLITE = """
import signal, sys, time
def stop(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
WITH_A_CHILD_OF_ITS_OWN = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(grandchild.pid, flush=True)
time.sleep(600)
"""


class Watched:
    """A supervisor whose words are kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[str] = []
        self.troubles: list[tuple[str, str]] = []
        self.serving: set[str] = set()
        self.supervisor = Supervisor(
            clock=SystemClock(), say=self.said.append, trouble=lambda name, line: self.troubles.append((name, line))
        )

    def start(self, name: str, code: str, *arguments: str, stop_within_s: float = 10.0) -> None:
        self.supervisor.start(
            Program(
                name=name,
                argv=(sys.executable, "-c", code, *arguments),
                environment=dict(os.environ),
                log=self.directory / f"{name}.log",
                stop_within_s=stop_within_s,
                serves=lambda: name in self.serving,
            )
        )

    def wait_until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"never happened; it said {self.said}"
            time.sleep(0.02)

    def wait_for_line(self, name: str, line: str = "ready") -> None:
        self.wait_until(lambda: line in self.log(name))

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    watched.supervisor.stop(hurry=lambda: True)


def test_the_last_one_started_is_the_first_one_stopped(watched: Watched, tmp_path: Path) -> None:
    order = tmp_path / "order"
    for name in ("worker", "console", "gateway"):
        watched.start(name, POLITE, str(order), name)
        watched.wait_for_line(name)
    watched.supervisor.stop(hurry=lambda: False)
    assert order.read_text().split() == ["gateway", "console", "worker"]


def test_a_child_that_will_not_stop_is_killed_when_its_time_is_up(watched: Watched) -> None:
    watched.start("stubborn", STUBBORN, stop_within_s=0.2)
    watched.wait_for_line("stubborn")
    pid = watched.supervisor.pid("stubborn")
    watched.supervisor.stop(hurry=lambda: False)
    assert not runs(pid)


def test_haste_does_not_wait_for_the_time_to_be_up(watched: Watched) -> None:
    watched.start("stubborn", STUBBORN, stop_within_s=600)
    watched.wait_for_line("stubborn")
    began = time.monotonic()
    watched.supervisor.stop(hurry=lambda: True)
    assert time.monotonic() - began < PATIENCE_S


def test_what_a_child_started_itself_goes_with_it(watched: Watched) -> None:
    watched.start("parent", WITH_A_CHILD_OF_ITS_OWN)
    watched.wait_until(lambda: watched.log("parent").strip())
    grandchild = int(watched.log("parent"))
    watched.supervisor.stop(hurry=lambda: False)
    watched.wait_until(lambda: not runs(grandchild))


def test_an_early_death_is_told_at_once_with_the_end_of_the_log(watched: Watched) -> None:
    watched.start("worker", "print('loading'); raise SystemExit('the model is missing')")
    watched.wait_until(lambda: not runs(watched.supervisor.pid("worker")))
    with pytest.raises(ChildDied) as told:
        watched.supervisor.check()
    assert "the worker ended early (exit status 1)" in str(told.value)
    assert "the model is missing" in str(told.value)


def test_a_death_by_signal_names_the_signal(watched: Watched) -> None:
    watched.start("gateway", "import time; time.sleep(600)")
    os.kill(watched.supervisor.pid("gateway"), signal.SIGKILL)
    watched.wait_until(lambda: not runs(watched.supervisor.pid("gateway")))
    with pytest.raises(ChildDied, match="killed by SIGKILL"):
        watched.supervisor.check()


def test_whoever_lives_is_not_reported(watched: Watched) -> None:
    watched.start("gateway", "import time; time.sleep(600)")
    watched.supervisor.check()


def test_a_child_that_dies_while_up_starts_again_and_that_is_said(watched: Watched) -> None:
    watched.start("gateway", "print('ready', flush=True); import time; time.sleep(600)")
    watched.wait_for_line("gateway")
    first = watched.supervisor.pid("gateway")
    os.kill(first, signal.SIGKILL)

    def tended() -> bool:
        watched.supervisor.tend()
        return watched.supervisor.pid("gateway") != first

    watched.wait_until(tended)
    assert watched.said[0].startswith("the gateway died (killed by SIGKILL); it starts again in 0.5 s.")
    assert watched.said[1].startswith("the gateway starts again, as process ")
    watched.supervisor.check()
    watched.supervisor.tend()
    assert len(watched.said) == 2
    watched.serving = {"gateway"}

    def said_more() -> bool:
        watched.supervisor.tend()
        return len(watched.said) > 2

    watched.wait_until(said_more)
    assert [line.partition(", ")[0] for line in watched.said[2:]] == ["the gateway serves again"]


def test_pauses_grow_while_a_child_keeps_dying(watched: Watched) -> None:
    watched.start("gateway", "raise SystemExit(3)")

    def died_twice() -> bool:
        watched.supervisor.tend()
        return sum("died" in line for line in watched.said) == 2

    watched.wait_until(died_twice)
    pauses = [line.partition("again in ")[2].partition(" s")[0] for line in watched.said if "died" in line]
    assert pauses == ["0.5", "1"]


def test_lines_of_trouble_are_passed_on_with_the_childs_name(watched: Watched) -> None:
    watched.start(
        "gateway", """print('{"level":"info","event":"fine"}\\n{"level":"error","event":"not fine"}', flush=True)"""
    )

    def told() -> bool:
        watched.supervisor.tend()
        return bool(watched.troubles)

    watched.wait_until(told)
    assert watched.troubles == [("gateway", "not fine")]


def test_a_full_disk_is_told_once_and_once_when_it_is_over_as_no_log_can_tell_it(watched: Watched) -> None:
    room = [10**9]
    watched.supervisor.room = lambda directory: room[0]
    for name in ("gateway", "console"):
        watched.start(name, "import time; time.sleep(600)")
    for room[0] in (10**9, 0, 0, 0, 10**9, 10**9):
        watched.supervisor.tend()
    assert [line.partition(" is full")[1] for line in watched.said] == [" is full", ""]
    assert watched.said[1].endswith("has room again")


def test_a_program_that_is_not_there_is_a_sentence(watched: Watched, tmp_path: Path) -> None:
    missing = Program(
        name="worker",
        argv=(str(tmp_path / "nothing"),),
        environment={},
        log=tmp_path / "w.log",
        stop_within_s=1,
        serves=lambda: False,
    )
    with pytest.raises(SetupError, match="the worker cannot be started"):
        watched.supervisor.start(missing)


def test_ctrl_c_on_the_terminal_does_not_reach_the_children(watched: Watched) -> None:
    watched.start("gateway", "import time; time.sleep(600)")
    assert os.getpgid(watched.supervisor.pid("gateway")) != os.getpgid(0)
