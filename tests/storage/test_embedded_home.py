"""Where the server lives and as whom it runs."""

import asyncio
import grp
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage.embedded import EmbeddedPostgres, NoOwner, NoPlace, StartFailed, status
from app.storage.embedded_home import Home, Owner, home_of, require_passwd_entry
from tests.postgres import chosen_binaries
from tests.storage.embedded_rooms import IS_ROOT, Room, copy_of_wheel, needs_proc, needs_root, room_with, wait_until
from tests.storage.embedded_user import fetch


@pytest.fixture
def room() -> Iterator[Room]:
    with room_with(chosen_binaries()) as room:
        yield room


@needs_root
@needs_proc
def test_roots_server_runs_as_a_user_without_a_login_and_without_other_groups(room: Room) -> None:
    """E-8"""
    users, groups = Path("/etc/passwd").read_bytes(), Path("/etc/group").read_bytes()
    with room.postgres():
        described = Path(f"/proc/{room.pid()}/status").read_text().splitlines()
        facts = {line.partition(":")[0]: line.partition(":")[2].split() for line in described}
        (data,) = room.base.glob("data-*")
        assert data.stat().st_mode & 0o777 == 0o700
        assert data.stat().st_uid == pwd.getpwnam("nobody").pw_uid
    nobody = pwd.getpwnam("nobody")
    assert facts["Uid"] == [str(nobody.pw_uid)] * 4
    assert facts["Gid"] == [str(nobody.pw_gid)] * 4
    assert facts["Groups"] == []
    assert Path(nobody.pw_shell).name in {"nologin", "false"}
    assert Path("/etc/passwd").read_bytes() == users
    assert Path("/etc/group").read_bytes() == groups


@needs_root
def test_roots_tools_run_as_that_user_at_the_root_of_the_file_system(room: Room) -> None:
    """E-8"""
    owner = home_of(room.base, state_root=room.state_root).owner
    said = owner.run(["/bin/sh", "-c", "pwd; id -un; id -Gn; umask"], timeout_s=10).stdout.split()
    assert said == ["/", "nobody", grp.getgrgid(owner.gid).gr_name, "0077"]


def test_nothing_of_the_callers_environment_reaches_a_tool(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-12"""
    monkeypatch.setenv("PGOPTIONS", "-c intruder=1")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    owner = home_of(room.base, state_root=room.state_root).owner
    said = owner.run(["/usr/bin/env"], timeout_s=10, environment={"PGDATA": "/ours"}).stdout.splitlines()
    names = {line.partition("=")[0] for line in said}
    assert "LC_ALL=C" in said
    assert {name for name in names if name.startswith("PG")} == {"PGDATA"}
    assert names <= {"LC_ALL", "PATH", "PGDATA", "PWD", "SHLVL", "_", "LC_CTYPE", "__CF_USER_TEXT_ENCODING"}


def test_a_tool_that_never_ends_is_given_up(room: Room) -> None:
    owner = home_of(room.base, state_root=room.state_root).owner
    with pytest.raises(StartFailed, match=r"sleep did not finish within 0 s.*DATABASE_URL"):
        owner.run(["/bin/sleep", "60"], timeout_s=0.1)


@needs_root
def test_root_may_name_a_place_that_its_stand_in_cannot_enter(room: Room) -> None:
    """E-7"""
    private = room.path / "private"
    private.mkdir(mode=0o700)
    base = private / "project" / ".breakeven"
    with room.postgres(base) as postgres:
        assert asyncio.run(fetch(postgres, "SELECT 1")) == 1
        seen = status(base, state_root=room.state_root)
    assert seen.home.parent == room.state_root
    assert (seen.home / "base").read_text() == f"{base}\n"
    assert list(private.iterdir()) == []
    assert private.stat().st_mode & 0o777 == 0o700
    other = home_of(private / "other", state_root=room.state_root)
    assert other.path != seen.home


@needs_root
def test_roots_data_are_found_again_when_the_modes_around_them_have_changed(room: Room) -> None:
    """E-7"""
    project = room.path / "project"
    project.mkdir(mode=0o700)
    with room.postgres(project / "base"):
        first = status(project / "base", state_root=room.state_root).data
    project.chmod(0o755)
    assert status(project / "base", state_root=room.state_root).data == first
    with room.postgres(project / "base"):
        assert not (project / "base").exists()


@needs_root
def test_data_that_have_become_unreachable_are_an_error_and_not_an_empty_database(room: Room) -> None:
    """E-7"""
    project = room.path / "project"
    project.mkdir()
    with room.postgres(project / "base"):
        pass
    project.chmod(0o700)
    with pytest.raises(NoPlace, match="user 'nobody' cannot enter"):
        room.postgres(project / "base").start()
    assert project.stat().st_mode & 0o777 == 0o700
    assert not room.state_root.exists()


@needs_root
def test_root_makes_a_new_base_that_its_stand_in_can_enter_whatever_the_umask(room: Room) -> None:
    """E-7"""
    mask = os.umask(0o077)
    try:
        with room.postgres(room.path / "new" / "deep" / "base") as postgres:
            wait_until(postgres.is_alive)
    finally:
        os.umask(mask)
    assert status(room.path / "new" / "deep" / "base", state_root=room.state_root).home == room.path / "new/deep/base"


@needs_root
def test_root_uses_an_ordinary_users_server_as_that_user_and_leaves_all_to_it(room: Room) -> None:
    """E-8"""
    ordinary = pwd.getpwnam("daemon")
    room, base = as_seen_by(ordinary, room)
    with room.user(base, uid=ordinary.pw_uid) as user:
        assert user.ask("start") == "started"
        pid = room.pid(base)
        root = room.postgres(base)
        root.start()
        assert room.pid(base) == pid
        assert user.ask("stop") == "stopped"
        wait_until(root.is_alive)
        root.stop()
        root.start()  # now root starts it, and still not as nobody
        assert Path(f"/proc/{room.pid(base)}").stat().st_uid == ordinary.pw_uid
        assert user.ask("start") == "started"
        root.stop()
        assert user.ask("sql", "SELECT 1") == 1
        assert user.ask("stop") == "stopped"
        assert not user.ask("alive")
    assert {path.lstat().st_uid for path in [base, *base.rglob("*")]} == {ordinary.pw_uid}


@needs_root
def test_an_ordinary_user_needs_nothing_but_its_own_directory(room: Room) -> None:
    """E-8"""
    ordinary = pwd.getpwnam("daemon")
    room, base = as_seen_by(ordinary, room)
    with room.user(base, uid=ordinary.pw_uid, environment={"HOME": "/nonexistent"}) as user:
        assert user.ask("start") == "started"
        assert user.ask("sql", "SELECT 1") == 1
        assert user.ask("stop") == "stopped"
    assert base.stat().st_mode & 0o777 == 0o700
    assert not room.state_root.exists()


@needs_root
def test_an_ordinary_user_is_told_that_a_base_belongs_to_somebody_else(room: Room) -> None:
    ordinary = pwd.getpwnam("daemon")
    readable, _ = as_seen_by(ordinary, room)
    with room.postgres(), readable.user(room.base, uid=ordinary.pw_uid) as user:
        assert user.ask("start").startswith("NoPlace: ")


def as_seen_by(ordinary: pwd.struct_passwd, room: Room) -> tuple[Room, Path]:
    """The room with binaries that the user can reach, and a base of the user's own."""
    own = room.path / "own"
    own.mkdir(mode=0o700)
    os.chown(own, ordinary.pw_uid, ordinary.pw_gid)
    owner = Owner(name=ordinary.pw_name, uid=ordinary.pw_uid, gid=ordinary.pw_gid, becomes=True)
    if not owner.reaches(room.binaries):
        room = Room(path=room.path, binaries=copy_of_wheel(room.path / "readable"))
    return room, own / "base"


@needs_root
def test_a_system_without_the_service_user_says_what_to_do(room: Room) -> None:
    """E-20"""
    with pytest.raises(NoOwner, match=r"no user 'breakeven-missing'.*run as an ordinary user, or set DATABASE_URL"):
        home_of(room.base, state_root=room.state_root, service_user="breakeven-missing")


@needs_root
def test_root_that_may_not_become_another_user_says_what_to_do(room: Room) -> None:
    """E-20"""
    story = (
        "import sys; from pathlib import Path; from app.storage.embedded import *\n"
        "try: EmbeddedPostgres(Path(sys.argv[1]), binaries=find_binaries(named=None)).start()\n"
        "except NoOwner as error: print(error)\n"
    )
    confined = ["unshare", "--user", "--map-root-user", sys.executable, "-c", story, str(room.base)]
    told = subprocess.run(confined, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if "unshare failed" in told.stderr:
        pytest.skip("no user namespace can be made here")
    assert told.stdout.startswith("PostgreSQL refuses to run as root and this process may not become user 'nobody'")
    assert told.stdout.strip().endswith("run as an ordinary user, or set DATABASE_URL")


def test_a_nameless_user_is_told_to_set_the_database_url() -> None:
    """E-20"""
    with pytest.raises(NoOwner, match=r"user id 54321 has no entry in /etc/passwd.*set DATABASE_URL"):
        require_passwd_entry(Owner(name="?", uid=54321, gid=54321, becomes=False))


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_a_base_that_cannot_be_made_is_named(room: Room) -> None:
    room.path.chmod(0o500)
    with pytest.raises(NoPlace, match=r"cannot be made .*BREAKEVEN_DATA"):
        room.postgres().start()


def test_looking_makes_nothing(room: Room) -> None:
    postgres = EmbeddedPostgres(room.base, binaries=room.binaries, state_root=room.state_root)
    assert postgres.url("x").startswith("postgresql://postgres@/x?host=")
    assert not postgres.is_alive()
    assert list(room.path.iterdir()) == []


def test_a_symbolic_link_in_the_place_of_a_lock_or_log_is_refused(room: Room) -> None:
    home = home_of(room.base, state_root=room.state_root)
    home.prepare()
    precious = room.path / "precious"
    precious.write_text("kept")
    for name in ("server.log", "turn.lock"):
        (room.base / name).unlink(missing_ok=True)
        (room.base / name).symlink_to(precious)
        with pytest.raises(NoPlace, match="name another directory"):
            room.postgres().start()
        (room.base / name).unlink()
    assert precious.read_text() == "kept"


def test_the_same_base_by_another_name_is_the_same_home(room: Room) -> None:
    room.base.mkdir()
    (room.path / "alias").symlink_to(room.base)

    def home(base: Path) -> Home:
        return home_of(base, state_root=room.state_root)

    assert home(room.path / "alias").path == home(room.base).path
    assert home(room.path / "alias" / ".." / "base").path == home(room.base).path
