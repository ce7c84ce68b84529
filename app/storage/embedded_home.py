"""Where the embedded server lives, and as whom it runs.

An ordinary user runs the server as itself, in the base directory it named. PostgreSQL refuses to run as root,
so root becomes somebody else first: whoever owns the data that is already there, or else `nobody`. No user is
ever created and no existing directory ever changes its mode. Where `nobody` cannot enter the base directory
(below a home of mode 0700, say) the data live in a system state directory instead, under a name derived from
the base. Once data exist they are found again in the same place, whatever happens to the modes around them.
"""

import contextlib
import errno
import hashlib
import os
import pwd
import re
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from app.storage.embedded_errors import NoOwner, NoPlace, StartFailed

SERVICE_USER = "nobody"
SOCKET_PATH_LIMIT_BYTES = 103  # sun_path: 108 on Linux and 104 on macOS, with the closing zero
LONGEST_SOCKET_NAME = "/.s.PGSQL.65535.lock"
PLAIN_PATH = re.compile(r"[\w./+@~-]+", re.ASCII)  # what needs no quoting in a settings list or a connection URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The operating-system user that owns the data and runs the tools and the server."""

    name: str
    uid: int
    gid: int
    becomes: bool
    """Whether this process is root and has to become that user first."""

    def run(
        self,
        command: Sequence[str | Path],
        *,
        timeout_s: float,
        environment: Mapping[str, str] = MappingProxyType({}),
        log_fd: int | None = None,
        stdin_text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run one tool as this user in a session of its own, with cwd `/`.

        Nothing of the caller's environment reaches it: it gets `LC_ALL=C`, a plain PATH, and `environment`.
        Output is returned, or goes to `log_fd` where the tool leaves a server behind. A tool that runs longer than
        `timeout_s` (`StartFailed`) or is interrupted is killed with all its children, but for such a server. Raises
        `NoOwner` where root may not become the user, and lets the `OSError` through when the tool itself cannot be
        executed.
        """
        output = subprocess.PIPE if log_fd is None else log_fd
        words = [os.fspath(word) for word in command]
        try:
            tool = subprocess.Popen(
                words,
                user=self.uid if self.becomes else None,
                group=self.gid if self.becomes else None,
                extra_groups=[] if self.becomes else None,
                cwd="/",
                env={"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin", **environment},
                umask=0o077,
                start_new_session=True,
                stdin=subprocess.DEVNULL if stdin_text is None else subprocess.PIPE,
                stdout=output,
                stderr=output,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as fault:
            if self.becomes and fault.errno in (errno.EPERM, errno.EINVAL):
                raise NoOwner(
                    f"PostgreSQL refuses to run as root and this process may not become user {self.name!r} "
                    f"({fault.strerror}): run as an ordinary user, or set DATABASE_URL"
                ) from fault
            raise
        with tool:
            try:
                said, complained = tool.communicate(stdin_text, timeout=timeout_s)
            except BaseException as interruption:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(tool.pid, signal.SIGKILL)
                if not isinstance(interruption, subprocess.TimeoutExpired):
                    raise
                raise StartFailed(
                    f"{words[0]} did not finish within {timeout_s:.0f} s: the machine may be overloaded or the disk "
                    "stuck; try again, or set DATABASE_URL to a PostgreSQL of your own"
                ) from None
        return subprocess.CompletedProcess(words, tool.returncode, said or "", complained or "")

    def reaches(self, directory: Path) -> bool:
        """Whether this user can enter the directory; asked of the system, not computed from modes."""
        if not self.becomes:
            return os.access(directory, os.X_OK)
        entered = self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", directory], timeout_s=10)
        return entered.returncode == 0

    def keep(self, directory: Path) -> None:
        """Make the directory, if it is not there, for this user alone (mode 0700)."""
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            return
        self.give(directory)

    def give(self, path: Path) -> None:
        """Hand something that this process has just made to this user."""
        if self.becomes:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def open_file(self, path: Path, flags: int) -> int:
        """Open a file of this user (mode 0600), made if it is not there; symbolic links are refused."""
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except PermissionError as fault:
            raise NoPlace(
                f"{path} belongs to another user: run as that user, or name another directory in BREAKEVEN_DATA"
            ) from fault
        except OSError as fault:
            raise NoPlace(
                f"{path} cannot be opened ({fault.strerror}): name another directory in BREAKEVEN_DATA"
            ) from fault
        if self.becomes:
            os.fchown(fd, self.uid, self.gid)
        return fd


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The directory that holds everything of one embedded server: data, locks, log and, if it fits, the socket."""

    base: Path
    """The directory that was asked for, resolved."""
    path: Path
    """The directory that is used: the base, or for root a stand-in in the system's state directory."""
    owner: Owner

    @property
    def turn_lock(self) -> Path:
        """Held by whoever is starting or stopping the server right now."""
        return self.path / "turn.lock"

    @property
    def users_lock(self) -> Path:
        """Shared by all who use the server."""
        return self.path / "users.lock"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    @property
    def sockets(self) -> Path:
        """The directory of the socket: in the home, or below /tmp where the path is too long or needs quoting."""
        near = self.path / "socket"
        fits = len(os.fsencode(near)) + len(LONGEST_SOCKET_NAME) <= SOCKET_PATH_LIMIT_BYTES
        if fits and PLAIN_PATH.fullmatch(str(near)):
            return near
        return Path("/tmp") / f"breakeven-{self.owner.uid}-{short_digest(self.path)}"  # noqa: S108 - prepare() checks it

    def data(self, major: int) -> Path:
        """The data directory of one major version; no other major ever opens it."""
        return self.path / f"data-{major}"

    def all_data(self) -> dict[int, Path]:
        """The data directories that exist, by major version."""
        return _data_directories(self.path)

    def prepare(self) -> None:
        """Make the home and the socket directory. Second calls change nothing. Raises `NoPlace`."""
        if not str(self.path).isprintable():
            raise NoPlace(f"{str(self.path)!r} has unprintable characters: name another directory in BREAKEVEN_DATA")
        try:
            if self.owner.becomes:
                make_public_directories(self.path)
            else:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.owner.keep(self.sockets)
            if self.path != self.base:
                (self.path / "base").write_text(f"{self.base}\n", encoding="utf-8", errors="surrogateescape")
        except OSError as fault:
            raise NoPlace(
                f"the database directory {self.path} cannot be made ({fault.strerror}): name another one in "
                "BREAKEVEN_DATA, or set DATABASE_URL"
            ) from fault
        if not self.owner.reaches(self.path):
            raise NoPlace(
                f"user {self.owner.name!r} cannot enter {self.path}: let that user pass, or name another directory "
                "in BREAKEVEN_DATA"
            )
        self._check_sockets()

    def _check_sockets(self) -> None:
        """The socket is trusted, so its directory must be a real one of the owner's, closed to everybody else."""
        if not is_private(self.sockets, uid=self.owner.uid):
            raise NoPlace(
                f"{self.sockets} is not a directory of user {self.owner.name!r} with mode 0700, so its socket cannot "
                "be trusted: remove it and try again"
            )


def home_of(base: Path, *, state_root: Path, service_user: str = SERVICE_USER) -> Home:
    """Where the server of this base lives and as whom it runs; looks only, makes nothing. Raises `NoOwner`."""
    base = base.expanduser().resolve()
    if os.geteuid() != 0:
        myself = Owner(name=_own_name(), uid=os.geteuid(), gid=os.getegid(), becomes=False)
        return Home(base=base, path=base, owner=myself)
    stand_in = state_root.resolve() / f"base-{short_digest(base)}"
    for path in (stand_in, base):
        for data in _data_directories(path).values():
            return Home(base=base, path=path, owner=_owner_of(data, otherwise=service_user))
    nobody = _service_owner(service_user)
    nearest = _nearest_existing(base)
    closed = nearest.is_dir() and not nobody.reaches(nearest)  # a base below a file is for prepare() to complain about
    return Home(base=base, path=stand_in if closed else base, owner=nobody)


def require_passwd_entry(owner: Owner) -> None:
    """Raise `NoOwner` unless the user has a name: initdb fails without one."""
    try:
        pwd.getpwuid(owner.uid)
    except KeyError:
        raise NoOwner(
            f"user id {owner.uid} has no entry in /etc/passwd, and PostgreSQL cannot make a database without one: "
            "add an entry, run as another user, or set DATABASE_URL"
        ) from None


def is_private(path: Path, *, uid: int) -> bool:
    """Whether this is a real directory of that user, closed to everybody else. Raises OSError when nothing is there."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and stat.S_IMODE(found.st_mode) & 0o077 == 0


def short_digest(path: Path) -> str:
    """A short name for a path, the same on every start."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def make_public_directories(path: Path) -> None:
    """Make a directory that everybody may enter, and the parents it lacks; nothing that exists is touched."""
    if path.is_dir():
        return
    make_public_directories(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        return
    path.chmod(0o755)  # our own new directory: the caller's umask must not close it to the owner


def _data_directories(path: Path) -> dict[int, Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(path))
    except OSError:
        return {}  # not there yet, or not ours to look into: prepare() says so
    majors = [int(name.removeprefix("data-")) for name in names if re.fullmatch(r"data-[0-9]+", name)]
    return {major: path / f"data-{major}" for major in sorted(majors)}


def _owner_of(data: Path, *, otherwise: str) -> Owner:
    found = data.lstat()
    if found.st_uid == 0:
        return _service_owner(otherwise)
    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = f"uid {found.st_uid}"
    return Owner(name=name, uid=found.st_uid, gid=found.st_gid, becomes=True)


def _service_owner(name: str) -> Owner:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise NoOwner(
            f"PostgreSQL refuses to run as root and this system has no user {name!r} to run it as: run as an "
            "ordinary user, or set DATABASE_URL"
        ) from None
    return Owner(name=name, uid=entry.pw_uid, gid=entry.pw_gid, becomes=True)


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def _nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
