"""A process that uses the embedded PostgreSQL, to be talked to and to be killed.

Run as a program it reads one JSON list a line, `[command, argument]`, and answers with one JSON value a line.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from app.storage.embedded import EmbeddedError, EmbeddedPostgres

ROOT = Path(__file__).parents[2]


class UserProcess:
    """The other end: starts such a process, optionally as another user, and speaks with it."""

    def __init__(
        self,
        base: Path,
        *,
        binaries: Path,
        state_root: Path,
        fsync: bool = False,
        settings: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
        uid: int | None = None,
    ) -> None:
        wanted = {
            "base": str(base),
            "binaries": str(binaries),
            "state_root": str(state_root),
            "fsync": fsync,
            "settings": settings or {},
            "uid": uid,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.embedded_user", json.dumps(wanted)],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: str, argument: str = "") -> Any:
        """Send a command and wait for its answer."""
        self.tell(command, argument)
        return self.hear()

    def tell(self, command: str, argument: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, argument]) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the user process ended with {self._process.wait()}"
        return json.loads(line)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> str:
        """kill -9; what it still had to say, read to the end of its output."""
        self._process.kill()
        return self._process.communicate(timeout=30)[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()


def main() -> None:
    """Obey until the input ends."""
    wanted = json.loads(sys.argv[1])
    if wanted["uid"] is not None:  # only now: the interpreter itself may be closed to that user
        os.setgroups([])
        os.setgid(wanted["uid"])
        os.setuid(wanted["uid"])
    postgres = EmbeddedPostgres(
        Path(wanted["base"]),
        binaries=Path(wanted["binaries"]),
        state_root=Path(wanted["state_root"]),
        fsync=wanted["fsync"],
        settings=wanted["settings"],
    )
    for line in sys.stdin:
        command, argument = json.loads(line)
        try:
            answer = obey(postgres, command, argument)
        except EmbeddedError as error:
            answer = f"{type(error).__name__}: {error}"
        except KeyboardInterrupt:
            answer = "interrupted"
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def obey(postgres: EmbeddedPostgres, command: str, argument: str) -> Any:
    """One command."""
    match command:
        case "start":
            postgres.start()
            return "started"
        case "stop":
            postgres.stop()
            return "stopped"
        case "alive":
            return postgres.is_alive()
        case "sql":
            return asyncio.run(fetch(postgres, argument))
        case "fork":
            return fork_and_outlive(postgres)
        case "adopt":
            adopt_orphans()
            return "adopting"
    raise ValueError(command)


async def fetch(postgres: EmbeddedPostgres, statement: str, *, database: str = "postgres") -> Any:
    """The first value of a statement, as something JSON can say."""
    connection = await asyncpg.connect(postgres.url(database))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def fork_and_outlive(postgres: EmbeddedPostgres) -> dict[str, Any]:
    """Fork; the parent stops first, then the child says whether it can still query, and stops too."""
    (told, tell), (heard, hear) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.read(told, 1)  # the parent has stopped
        with contextlib.suppress(BaseException):
            answer = asyncio.run(fetch(postgres, "SELECT 42"))
            postgres.stop()
            os.write(hear, str(answer).encode())
        os._exit(0)
    os.close(hear)
    postgres.stop()
    alive_after_parent = any(postgres.is_alive() for _ in range(20))  # a busy one is not asked only once
    os.write(tell, b"x")
    childs_answer = os.read(heard, 100).decode()
    os.waitpid(child, 0)
    for fd in (told, tell, heard):
        os.close(fd)
    return {"alive_after_parent": alive_after_parent, "child": childs_answer, "alive_after_both": postgres.is_alive()}


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants and never reap them, as a container's first process may be."""
    import ctypes  # Linux only

    set_child_subreaper = 36
    assert ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0) == 0


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process stopped in its tracks for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    main()
