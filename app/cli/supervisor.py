"""Child processes: started in order, watched, started again when they die, stopped in the opposite order.

Each child leads a process group of its own, so that Ctrl-C on a terminal reaches the supervisor alone, and writes
into a log file. Not for several threads: one thread starts, tends and stops.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.cli.log_files import LogTail, room_bytes, trimmed
from app.domain.errors import SetupError
from app.ports import Clock

#: A child that lived this long begins again with the shortest pause when it dies.
LIVED_WELL_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
LAST_LINES: Final = 8
#: Between two questions whether whoever was started again serves.
ASK_EVERY_S: Final = 1.0
#: A disk with less room than this is full: no log has a line of it then, so the supervisor says it.
LEAST_ROOM_BYTES: Final = 64 * 1024
_LOOK_EVERY_S: Final = 0.05
_KILLED_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to start, and how long it may take to stop after SIGTERM before it is killed, in seconds."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    stop_within_s: float
    #: Asked every second once it was started again, until it is so.
    serves: Callable[[], bool]
    #: Whether what it logs of the policy is passed on; one of those that follow the policy is enough.
    tells_policy: bool = True


class ChildDied(SetupError):
    """A child ended while it was waited for; the message quotes the end of its log."""


@dataclass(slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    tail: LogTail
    started_s: float
    pause_s: float = FIRST_PAUSE_S
    #: Monotonic time of the next start, while it is dead.
    again_s: float | None = None
    #: Monotonic time of the last question whether it serves, or of its start; None: it is known to, or was not started
    #: again.
    asked_s: float | None = None


@dataclass(slots=True)
class Supervisor:
    """`say` is told of deaths and restarts, `trouble` of a child's name and a line of trouble from its log."""

    clock: Clock
    say: Callable[[str], None]
    trouble: Callable[[str, str], None]
    room: Callable[[Path], int] = room_bytes
    _children: dict[str, _Child] = field(default_factory=dict)
    #: Directories of logs whose disk was full at the last look.
    _full: set[Path] = field(default_factory=set)

    def start(self, program: Program) -> None:
        """Start a program. Raises SetupError when it cannot be started at all."""
        program.log.parent.mkdir(parents=True, exist_ok=True)
        trimmed(program.log)
        tail = LogTail(program.log, policy=program.tells_policy)
        self._children[program.name] = _Child(
            program=program, process=_spawned(program), tail=tail, started_s=self.clock.monotonic_s()
        )

    def pid(self, name: str) -> int:
        """The process id of a child's present run."""
        return self._children[name].process.pid

    def last_line(self, name: str) -> str:
        """What a child wrote last; empty while it wrote nothing."""
        return "".join(self._children[name].tail.last(1))

    def check(self) -> None:
        """Raises ChildDied for the first child that is dead."""
        for name, child in self._children.items():
            status = child.process.poll()
            if status is not None:
                lines = "\n  ".join(child.tail.last(LAST_LINES)) or "(it wrote nothing)"
                raise ChildDied(
                    f"the {name} ended early ({_how(status)}); mend what its log says and start again. "
                    f"The end of {child.program.log}:\n  {lines}"
                )

    def tend(self) -> None:
        """One look at everybody: pass on lines of trouble, keep logs short, start again whoever died and has paused."""
        now_s = self.clock.monotonic_s()
        for directory in {child.program.log.parent for child in self._children.values()}:
            self._look_at_room(directory)
        for name, child in self._children.items():
            for line in child.tail.trouble():
                self.trouble(name, line)
            trimmed(child.program.log)
            if child.again_s is not None:
                if now_s >= child.again_s:
                    self._start_again(child, now_s=now_s)
            elif (status := child.process.poll()) is not None:
                self._mourn(child, status=status, now_s=now_s)
            elif child.asked_s is not None and now_s - child.asked_s >= ASK_EVERY_S:
                self._ask_whether_it_serves(child, now_s=now_s)

    def stop(self, *, hurry: Callable[[], bool]) -> None:
        """Stop everybody, the last started first, each within its time; once `hurry` says so, by force.

        Returns when no child is left, nor anything that a child started in its group.
        """
        for child in reversed(self._children.values()):
            if not _stopped(child, clock=self.clock, hurry=hurry):
                self.say(f"the {child.program.name} (process {child.process.pid}) does not end: the system holds it")
        self._children.clear()

    def _look_at_room(self, directory: Path) -> None:
        try:
            is_full = self.room(directory) < LEAST_ROOM_BYTES
        except FileNotFoundError:  # somebody took the logs away; their disk is not known to be full
            is_full = False
        if is_full and directory not in self._full:
            self._full.add(directory)
            self.say(f"the disk of {directory} is full, and what needs room there fails: free some space")
        elif not is_full and directory in self._full:
            self._full.remove(directory)
            self.say(f"the disk of {directory} has room again")

    def _mourn(self, child: _Child, *, status: int, now_s: float) -> None:
        if now_s - child.started_s >= LIVED_WELL_S:
            child.pause_s = FIRST_PAUSE_S
        _sweep(child.process.pid)
        self.say(
            f"the {child.program.name} died ({_how(status)}); it starts again in {child.pause_s:g} s. "
            f"Its log: {child.program.log}"
        )
        child.again_s = now_s + child.pause_s
        child.pause_s = min(child.pause_s * 2, LONGEST_PAUSE_S)

    def _ask_whether_it_serves(self, child: _Child, *, now_s: float) -> None:
        child.asked_s = now_s
        if child.program.serves():
            child.asked_s = None
            self.say(f"the {child.program.name} serves again, {now_s - child.started_s:.1f} s after its start")

    def _start_again(self, child: _Child, *, now_s: float) -> None:
        child.process = _spawned(child.program)
        child.started_s, child.again_s, child.asked_s = now_s, None, now_s
        self.say(f"the {child.program.name} starts again, as process {child.process.pid}")


def _spawned(program: Program) -> subprocess.Popen[bytes]:
    try:
        with program.log.open("ab") as log:
            return subprocess.Popen(
                program.argv,
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
    except OSError as fault:
        raise SetupError(
            f"the {program.name} cannot be started: {fault.strerror or fault}; see that {program.log.parent} can be "
            "written and that memory is left"
        ) from fault


def _stopped(child: _Child, *, clock: Clock, hurry: Callable[[], bool]) -> bool:
    process = child.process
    deadline_s = clock.monotonic_s() + child.program.stop_within_s
    if process.poll() is None:
        process.terminate()
    while process.poll() is None and clock.monotonic_s() < deadline_s and not hurry():
        time.sleep(_LOOK_EVERY_S)
    _sweep(process.pid)
    try:
        process.wait(timeout=_KILLED_WITHIN_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _sweep(group: int) -> None:
    """Kill what is left of a child's process group, the child included."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"
