"""One data directory and its server: what counts as alive, whose pid file it is, and what happens without room."""

import os
import pwd
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from app.storage.embedded import DiskFull, StartFailed, StopFailed, status
from app.storage.embedded_home import home_of
from app.storage.embedded_server import Server
from tests.postgres import chosen_binaries
from tests.storage.embedded_rooms import Room, needs_proc, needs_root, room_with, wait_until
from tests.storage.embedded_user import frozen


@pytest.fixture(scope="module")
def lived_in_room() -> Iterator[Room]:
    """A room where a server has run before."""
    with room_with(chosen_binaries()) as room:
        with room.postgres():
            pass
        yield room


@pytest.fixture
def room(lived_in_room: Room) -> Iterator[Room]:
    """The same, and nobody is in."""
    yield lived_in_room
    lived_in_room.postgres().terminate(force=True)


def test_alive_means_that_the_socket_answers(room: Room) -> None:
    """E-6"""
    with room.postgres() as postgres:
        wait_until(postgres.is_alive)
        with frozen(room.pid()):
            assert not postgres.is_alive()
        wait_until(postgres.is_alive)
        os.kill(room.pid(), signal.SIGKILL)
        wait_until(lambda: not postgres.is_alive())


def test_a_socket_that_answers_something_else_is_not_a_server(room: Room) -> None:
    """E-6"""
    server = server_of(room)
    address = server.sockets / ".s.PGSQL.5432"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(address))
        stranger.listen(1)

        def answer_rudely() -> None:
            line, _ = stranger.accept()
            with line:
                line.recv(8)
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n")

        thread = threading.Thread(target=answer_rudely)
        thread.start()
        assert not server.answers()
        thread.join()
    with room.postgres() as postgres:  # the stranger's socket file is in nobody's way
        wait_until(postgres.is_alive)


@needs_proc
def test_a_dead_server_that_nobody_reaped_is_not_taken_for_alive(room: Room) -> None:
    """E-6"""
    with room.user() as parent:
        assert parent.ask("adopt") == "adopting"
        assert parent.ask("start") == "started"
        pid = room.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_zombie(pid))
        assert not parent.ask("alive")
        assert status(room.base, state_root=room.state_root).pid is None
        assert parent.ask("start") == "started"
        assert is_zombie(pid)
        assert parent.ask("sql", "SELECT 1") == 1
        assert parent.ask("stop") == "stopped"


def is_zombie(pid: int) -> bool:
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


@needs_proc
def test_a_stale_pid_file_that_names_a_living_stranger_does_not_hinder_the_start(room: Room) -> None:
    """E-5"""
    postgres = room.postgres()
    postgres.start()
    os.kill(room.pid(), signal.SIGKILL)
    wait_until(lambda: not postgres.is_alive())
    server = server_of(room)
    with stranger(server) as pid:
        for pid_file in (server.data / "postmaster.pid", server.sockets / ".s.PGSQL.5432.lock"):
            stale = pid_file.read_text().splitlines()
            pid_file.write_text("\n".join([str(pid), *stale[1:]]) + "\n")
        postgres.start()
        assert room.pid() != pid
        assert not gone(pid)
        postgres.stop()
        assert not gone(pid)


@needs_proc
def test_a_stranger_whose_pid_is_in_the_pid_file_gets_no_signal_from_stop(room: Room) -> None:
    """E-5"""
    postgres = room.postgres()
    postgres.start()
    os.kill(room.pid(), signal.SIGKILL)
    wait_until(lambda: not postgres.is_alive())
    server = server_of(room)
    with stranger(server) as pid:
        pid_file = server.data / "postmaster.pid"
        pid_file.write_text("\n".join([str(pid), *pid_file.read_text().splitlines()[1:]]) + "\n")
        postgres.stop()
        assert not gone(pid)


@contextmanager
def stranger(server: Server) -> Iterator[int]:
    """A living process of the server's own user that has nothing to do with it."""
    owner = server.owner
    as_owner = {"user": owner.uid, "group": owner.gid, "extra_groups": []} if owner.becomes else {}
    with subprocess.Popen(["sleep", "600"], cwd="/", **as_owner) as process:  # type: ignore[call-overload]
        try:
            yield process.pid
        finally:
            process.kill()


def gone(pid: int) -> bool:
    return is_zombie(pid) or not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("nonsense", ["", "not a pid\n", "12345\n", "\0" * 100])
def test_a_pid_file_full_of_nonsense_does_not_hinder_the_start(room: Room, nonsense: str) -> None:
    """E-5"""
    (server_of(room).data / "postmaster.pid").write_text(nonsense)
    with room.postgres() as postgres:
        wait_until(postgres.is_alive)


@needs_proc
def test_a_frozen_server_is_named_when_it_does_not_stop(room: Room) -> None:
    """E-18"""
    postgres = room.postgres(stop_timeout_s=0.2)
    postgres.start()
    pid = room.pid()
    with frozen(pid), pytest.raises(StopFailed, match=rf"process {pid}\) does not stop.*kill -CONT {pid} first"):
        postgres.stop()
    wait_until(lambda: not postgres.is_alive())


@needs_root
def test_a_full_disk_is_called_by_its_name_when_the_database_is_made() -> None:
    with room_with(chosen_binaries()) as room, small_disk(room.path / "small", megabytes=12) as disk:
        with pytest.raises(DiskFull, match="needs about 60 MB"):
            room.postgres(disk / "base").start()
        assert not list((disk / "base").glob("data-*"))


@needs_root
def test_a_full_disk_is_called_by_its_name_when_the_server_starts() -> None:
    with room_with(chosen_binaries()) as room, small_disk(room.path / "small", megabytes=100) as disk:
        base = disk / "base"
        with room.postgres(base):
            os.kill(room.pid(base), signal.SIGKILL)
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(100_000_000))
        with pytest.raises(DiskFull, match="free some space"):
            room.postgres(base).start()
        filler.unlink()
        with room.postgres(base) as postgres:
            wait_until(postgres.is_alive)


@contextmanager
def small_disk(directory: Path, *, megabytes: int) -> Iterator[Path]:
    """A file system of its own that is soon full; the test is skipped where root may not mount one."""
    directory.mkdir()
    wish = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(directory)]
    mounted = subprocess.run(wish, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", "-l", str(directory)], check=True)
        yield directory


def test_an_initdb_that_fails_is_quoted_and_leaves_nothing_behind() -> None:
    with room_with(chosen_binaries()) as room:
        home_of(room.base, state_root=room.state_root).prepare()
        binaries = room.path / "odd"
        binaries.mkdir()
        for tool in ("pg_ctl", "postgres", "psql"):
            (binaries / tool).symlink_to(room.binaries / tool)
        initdb = binaries / "initdb"
        initdb.write_text(
            f"#!/bin/sh\ncase $1 in --version) exec {room.binaries}/initdb $1;; esac\nmkdir $2/base; exit 3\n"
        )
        initdb.chmod(0o755)
        with pytest.raises(StartFailed, match="initdb complains about"):
            room.postgres(binaries=binaries).start()
        assert not list(room.base.glob("data-*"))


@needs_root
def test_a_user_id_without_a_name_is_told_so_before_initdb_is_tried() -> None:
    """E-20"""
    nameless = 54321
    with pytest.raises(KeyError):
        pwd.getpwuid(nameless)
    with room_with(chosen_binaries()) as room:
        own = room.path / "own"
        own.mkdir()
        os.chown(own, nameless, nameless)
        with room.user(own / "base", uid=nameless) as user:
            said = user.ask("start")
    assert said.startswith(f"NoOwner: user id {nameless} has no entry in /etc/passwd")
    assert said.endswith("or set DATABASE_URL")


def server_of(room: Room) -> Server:
    home = home_of(room.base, state_root=room.state_root)
    (data,) = home.all_data().values()
    return Server(data=data, sockets=home.sockets, log=home.log, owner=home.owner)
