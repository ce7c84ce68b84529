"""Where secrets come from: the environment, or files of one directory, by name. The policy holds the name only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_VARIABLE: Final = "env:"
_FILE: Final = "file:"
#: A plain name: no directory, no `..`, nothing hidden.
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
#: Longer files are no keys.
_MOST_BYTES: Final = 65_536


class NamedCredentials:
    """The Credentials port over a mapping, such as `os.environ`, and a directory.

    `env:NAME` is the variable NAME; `file:NAME` is the file NAME of the directory, of which a trailing line end is not
    part. Both are read at each call, so that a rotated key counts at once. An empty one is an absent one, and so is a
    file that cannot be read, is not one line of text, or is named by a path. Blanks around a variable are not part of
    it: a shell put them there.
    """

    def __init__(self, environ: Mapping[str, str], *, directory: Path | None = None) -> None:
        self._environ = environ
        self._directory = directory

    def is_present(self, reference: str) -> bool:
        return self.secret(reference) is not None

    def secret(self, reference: str) -> str | None:
        if reference.startswith(_VARIABLE):
            return self._environ.get(reference.removeprefix(_VARIABLE), "").strip() or None
        if reference.startswith(_FILE):
            return self._of_file(reference.removeprefix(_FILE))
        return None

    def _of_file(self, name: str) -> str | None:
        if self._directory is None or not _FILE_NAME.fullmatch(name):
            return None
        try:
            with (self._directory / name).open("rb") as file:
                raw = file.read(_MOST_BYTES + 1)
            text = raw.decode("ascii").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError):
            return None
        return text if text and len(raw) <= _MOST_BYTES and text.isprintable() else None
