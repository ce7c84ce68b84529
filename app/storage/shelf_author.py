"""Who wrote what lies on the shelf: what git says, where it is under version control, or else the file's owner."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterable
from pathlib import Path

#: For both questions to git, each.
GIT_WITHIN_S = 1.0
NOT_KNOWN = "unknown"
LONGEST = 200

#: git runs nothing that the repository names, writes nothing, and asks nobody.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks")


def author_of(directory: Path, *, files: Iterable[Path]) -> str:
    """A name for people. The author of the last commit, if everything in `directory` is committed; else the owner of
    the newest of `files`. Takes at most `2 * GIT_WITHIN_S`, and never raises."""
    return _committer(directory) or _owner(files) or NOT_KNOWN


def _committer(directory: Path) -> str | None:
    if _git(directory, "status", "--porcelain", "--ignored", "--", ".") != "":
        return None
    return _git(directory, "log", "-1", "--format=%an", "--", ".") or None


def _git(directory: Path, *words: str) -> str | None:
    """What git says, on one line; None when it is not there, fails, or takes too long."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        said = subprocess.run(
            [*_GIT, *words],
            cwd=directory,
            env={**environment, "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_WITHIN_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _one_line(said.stdout.decode("utf-8", "replace"))


def _owner(files: Iterable[Path]) -> str | None:
    newest: os.stat_result | None = None
    for path in files:
        try:
            seen = path.stat()
        except OSError:
            continue
        if newest is None or seen.st_mtime_ns > newest.st_mtime_ns:
            newest = seen
    if newest is None:
        return None
    try:
        return pwd.getpwuid(newest.st_uid).pw_name
    except KeyError:
        return f"uid {newest.st_uid}"


def _one_line(text: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:LONGEST]
