"""One data directory and the server that may run on it.

Two questions are kept apart. *Does it answer?* is asked of the socket, because a pid proves nothing: it may be a
zombie or belong to somebody else by now. *Is it ours?* is asked of the command line behind the pid in
`postmaster.pid`, because only a server of this data directory may be waited for or be sent a signal.
"""

import contextlib
import errno
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.storage.embedded_errors import DiskFull, NoPlace, StartFailed, StopFailed
from app.storage.embedded_home import Owner, require_passwd_entry

DEFAULT_PORT = 5432
SSL_REQUEST = struct.pack("!II", 8, 80877103)  # PostgreSQL protocol: SSLRequest, answered by one byte
ANSWER_TIMEOUT_S = 1.0
POLL_S = 0.03
INITDB_TIMEOUT_S = 180.0
REMOVAL_ATTEMPTS = 30
PG_CTL_WAITS_S = 3.0
ORPHANS_LEAVE_S = 3.0
LOG_LIMIT_BYTES = 10_000_000
LOG_KEPT_BYTES = 1_000_000
LOG_QUOTED_LINES = 12
NO_SPACE = "No space left on device"
STILL_OCCUPIED = re.compile(r'pre-existing shared memory block|lock file ".*" already exists')


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """What a server writes about itself into `postmaster.pid`."""

    pid: int
    port: int
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server of one data directory. Start and stop it only while holding the turn."""

    data: Path
    sockets: Path
    log: Path
    owner: Owner
    default_port: int = DEFAULT_PORT

    @property
    def port(self) -> int:
        """The port in the socket's name: the running server's own, or the one it would get."""
        written = self.written()
        return written.port if written else self.default_port

    def written(self) -> Postmaster | None:
        """What `postmaster.pid` says, be it true or stale."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            status = lines[7].strip() if len(lines) > 7 else ""
            return Postmaster(pid=abs(int(lines[0])), port=int(lines[3]), status=status)
        except (OSError, ValueError, IndexError):
            return None

    def process(self) -> Postmaster | None:
        """The living process that serves this data directory, in whatever state it is."""
        written = self.written()
        return written if written and self._is_ours(written.pid) else None

    def answers(self) -> bool:
        """Whether the socket answers an SSLRequest with S or N. A frozen server does not."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(ANSWER_TIMEOUT_S)
            try:
                line.connect(os.fspath(self._socket_file()))
                line.sendall(SSL_REQUEST)
                return line.recv(1) in (b"S", b"N")
            except OSError:
                return False

    def ready(self) -> bool:
        """Whether the server takes connections now; one that recovers or shuts down answers, but is not ready."""
        written = self.written()
        return written is not None and written.status in ("ready", "standby") and self.answers()

    def bring_up(self, *, binaries: Path, settings: Mapping[str, str], timeout_s: float) -> None:
        """Return when the server is ready: at once if it is, else after starting, recovery, or somebody's stop.

        Raises `StartFailed` with the end of the log, or `DiskFull`. After a timeout a server that is still busy
        recovering is left to finish.
        """
        begun_s = time.monotonic()
        log_start_byte = self._log_size()
        while not self.ready():
            waited_s = time.monotonic() - begun_s
            if waited_s > timeout_s:
                raise StartFailed(self._why_silent(timeout_s))
            if self.process() is not None or self.answers():
                self._look_after_it(log_start_byte)
            else:
                self._sweep_stale_files()
                occupied = not self._launch(binaries=binaries, settings=settings, patience_s=timeout_s - waited_s)
                if occupied and waited_s > min(ORPHANS_LEAVE_S, timeout_s / 2):
                    self._dismiss_orphans()
            time.sleep(POLL_S)

    def shut_down(self, *, timeout_s: float) -> None:
        """Stop the server in fast mode, and if that takes longer in immediate mode; no error if none runs.

        Returns when the process is gone. Raises `StopFailed`.
        """
        running = self.process()
        if running is None:
            if self.answers():
                raise StopFailed(
                    f"the server on {self.data} answers but its process is not visible from here (it was started in "
                    "another container): stop it where it was started"
                )
            return
        for stop_signal, patience_s in ((signal.SIGINT, timeout_s), (signal.SIGQUIT, max(timeout_s, 1.0))):
            self._signal(running.pid, stop_signal)
            if self._gone(running.pid, within_s=patience_s):
                return
        raise StopFailed(
            f"the embedded PostgreSQL (process {running.pid}) does not stop: look into {self.log}, then end the "
            f"process by hand (kill {running.pid}; if it is frozen, kill -CONT {running.pid} first)"
        )

    def _look_after_it(self, log_start_byte: int) -> None:
        """A server that is on its way up or down: see that it gets there."""
        running = self.process()
        if running is not None and running.status == "stopping":
            self._signal(running.pid, signal.SIGINT)  # or it may wait for its last connection to close
        elif NO_SPACE in self._log_end(since_byte=log_start_byte):
            self.shut_down(timeout_s=1.0)  # it would try to recover for ever
            raise self._disk_full()

    def _launch(self, *, binaries: Path, settings: Mapping[str, str], patience_s: float) -> bool:
        """Start the server, detached and with its output in the log; False where the old one's processes linger.

        `pg_ctl` returns when the server is ready or has failed, or is busy recovering after a few seconds.
        """
        patience = ("-t", str(max(1, round(min(patience_s, PG_CTL_WAITS_S)))))
        options = ["-D", str(self.data)]  # here and not as --pgdata, which pg_ctl hands to a shell without quoting it
        for name, setting in settings.items():
            options += ["-c", f"{name}={setting}"]
        log_fd = self.owner.open_file(self.log, os.O_WRONLY | os.O_APPEND)
        try:
            log_start_byte = os.fstat(log_fd).st_size
            started = self.owner.run(
                [binaries / "pg_ctl", "start", "-s", "-w", *patience, "-o", shlex.join(options)],
                environment={"PGDATA": str(self.data)},
                log_fd=log_fd,
                timeout_s=PG_CTL_WAITS_S + 30,
            )
        finally:
            os.close(log_fd)
        if started.returncode == 0 or self.process() is not None:
            return True
        said = self._log_end(since_byte=log_start_byte)
        if STILL_OCCUPIED.search(said):
            return False
        if NO_SPACE in said:
            raise self._disk_full()
        raise StartFailed(
            "the embedded PostgreSQL did not start: correct what it complains about, or set DATABASE_URL to a "
            f"PostgreSQL of your own. The end of {self.log} says:\n{said}"
        )

    def _disk_full(self) -> DiskFull:
        return DiskFull(f"the disk is full at {self.data}: free some space, or name another disk in BREAKEVEN_DATA")

    def _sweep_stale_files(self) -> None:
        """Remove pid files whose process is not a server of this data directory.

        PostgreSQL itself refuses to start while any living process, even a foreign one or a zombie, has that pid.
        """
        if self.process() is None:
            for stale in (
                self.data / "postmaster.pid",
                self._socket_file().with_name(self._socket_file().name + ".lock"),
            ):
                with contextlib.suppress(FileNotFoundError):
                    stale.unlink()

    def _dismiss_orphans(self) -> None:
        """End backends that outlived their server because they are busy: they hold its shared memory.

        Only where /proc shows whose they are; elsewhere they are waited for.
        """
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_backend = (entry / "cmdline").read_bytes().startswith(b"postgres: ")
                if is_backend and (entry / "cwd").readlink() == self.data:
                    os.kill(int(entry.name), signal.SIGQUIT)

    def _socket_file(self) -> Path:
        return self.sockets / f".s.PGSQL.{self.port}"

    def _is_ours(self, pid: int) -> bool:
        """By the command line: a zombie has none, and a foreign process has another."""
        ours = rb"(?:^|[\0 ])" + re.escape(os.fsencode(self.data)) + rb"(?:[\0 ]|$)"
        return re.search(ours, _command_line(pid)) is not None

    def _signal(self, pid: int, stop_signal: signal.Signals) -> None:
        try:
            os.kill(pid, stop_signal)
        except ProcessLookupError:
            return
        except PermissionError:
            raise StopFailed(
                f"the embedded PostgreSQL (process {pid}) belongs to another user: stop it as that user"
            ) from None

    def _gone(self, pid: int, *, within_s: float) -> bool:
        deadline_s = time.monotonic() + within_s
        while self._is_ours(pid):
            if time.monotonic() > deadline_s:
                return False
            time.sleep(POLL_S)
        return True

    def _why_silent(self, timeout_s: float) -> str:
        running = self.process()
        if running is None:
            return (
                f"the embedded PostgreSQL did not start within {timeout_s:.0f} s because processes of an earlier one "
                f"still hold {self.data}: end the processes named 'postgres:' of user {self.owner.name!r}, then try "
                f"again. The end of {self.log} says:\n{self._log_end()}"
            )
        return (
            f"the embedded PostgreSQL (process {running.pid}, state {running.status!r}) was not ready within "
            f"{timeout_s:.0f} s: if it is recovering, wait and try again; if it is frozen, kill -CONT "
            f"{running.pid}. The end of {self.log} says:\n{self._log_end()}"
        )

    def _log_size(self) -> int:
        try:
            return self.log.stat().st_size
        except FileNotFoundError:
            return 0

    def _log_end(self, *, since_byte: int = 0) -> str:
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(since_byte, size - 8000))
                text = log.read().decode("utf-8", errors="replace")
        except OSError as fault:
            return f"(the log cannot be read: {fault.strerror})"
        return "\n".join(text.strip().splitlines()[-LOG_QUOTED_LINES:])


def make_data_directory(server: Server, *, binaries: Path, sync: bool) -> None:
    """Make the data directory unless it is there; what a killed initdb left behind is removed first.

    initdb works under another name and the finished directory is renamed, so a data directory is whole or absent.
    Raises `NoOwner`, `NoPlace`, `DiskFull`, `StartFailed`.
    """
    data = server.data
    for leftover in data.parent.glob(f"{data.name}.new-*"):
        _remove(leftover)
    if (data / "PG_VERSION").is_file():
        return
    if (data / "global" / "pg_control").exists():
        raise NoPlace(
            f"{data} holds a database but no PG_VERSION, so it is damaged: restore it, or move it away to begin afresh"
        )
    require_passwd_entry(server.owner)
    try:
        if data.exists():
            shutil.rmtree(data)
        scratch = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
        server.owner.give(scratch)
    except OSError as fault:
        if fault.errno == errno.ENOSPC:
            raise _no_space(data) from fault
        raise NoPlace(f"{data} cannot be made ({fault.strerror}): name another directory in BREAKEVEN_DATA") from fault
    try:
        _initdb(server, binaries, scratch, sync=sync)
        scratch.rename(data)
    except BaseException:
        _remove(scratch)
        raise
    if sync:
        _sync_directory(data.parent)


def cap_log(log: Path, *, owner: Owner) -> None:
    """Cut a log that has grown too large; its end is kept beside it. The server may be writing: it appends."""
    fd = owner.open_file(log, os.O_RDWR | os.O_APPEND)
    try:
        size = os.fstat(fd).st_size
        if size <= LOG_LIMIT_BYTES:
            return
        end = os.pread(fd, LOG_KEPT_BYTES, size - LOG_KEPT_BYTES)
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)
    kept_fd = owner.open_file(log.with_name(f"{log.name}.1"), os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(kept_fd, "wb") as kept:
        kept.write(end)


def _remove(scratch: Path) -> None:
    """Remove what initdb wrote; one that outlived its caller, or is just dying, may still be writing there."""
    for _ in range(REMOVAL_ATTEMPTS):
        shutil.rmtree(scratch, ignore_errors=True)
        if not scratch.exists():
            return
        time.sleep(POLL_S)


def _no_space(data: Path) -> DiskFull:
    return DiskFull(
        f"the disk is full at {data.parent}: a database needs about 60 MB to begin with; free some space, or name "
        "another disk in BREAKEVEN_DATA"
    )


def _initdb(server: Server, binaries: Path, target: Path, *, sync: bool) -> None:
    c_locale = "--locale=C.UTF-8" if os.uname().sysname != "Darwin" else "--no-locale"
    authentication = ("--auth-local=trust", "--auth-host=scram-sha-256")
    words = ["-D", str(target), "-U", "postgres", "-E", "UTF8", c_locale, *authentication]
    if not sync:
        words.append("--no-sync")
    made = server.owner.run([binaries / "initdb", *words], timeout_s=INITDB_TIMEOUT_S)
    if made.returncode == 0:
        return
    if NO_SPACE in made.stdout + made.stderr:
        raise _no_space(server.data)
    raise StartFailed(
        f"the database in {server.data} could not be made: correct what initdb complains about, or set DATABASE_URL to "
        f"a PostgreSQL of your own. It says:\n{(made.stderr or made.stdout).strip()}"
    )


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _command_line(pid: int) -> bytes:
    """The words of a living process; nothing for a zombie or where there is no such process."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""
    listed = subprocess.run(["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    return listed.stdout.strip()
