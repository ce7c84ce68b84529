"""The `policies/` directory: what ops wrote, as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.domain.errors import SetupError

#: No policy file of a person is larger; a larger one is a mistake.
MOST_FILE_BYTES = 1 << 20
MOST_FILES = 256


class PolicyShelf:
    """ports.Shelf over a directory. Reads anew at every call; hidden files and those that are not YAML are left out."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> Mapping[str, str]:
        try:
            files = sorted(path for path in self._directory.glob("*.yaml") if not path.name.startswith("."))
        except OSError as fault:
            raise self._unreadable(self._directory, fault) from fault
        if not files:
            raise SetupError(
                f"there are no *.yaml files in {self._directory}: copy the shipped policies there, or name another "
                "directory in BREAKEVEN_POLICIES"
            )
        if len(files) > MOST_FILES:
            raise SetupError(
                f"{self._directory} holds {len(files)} policy files; merge them into {MOST_FILES} or fewer"
            )
        return {path.name: self._text(path) for path in files}

    def _text(self, path: Path) -> str:
        try:
            if path.stat().st_size > MOST_FILE_BYTES:
                raise SetupError(
                    f"{path} is over {MOST_FILE_BYTES >> 20} MiB; no policy is that long, split or mend it"
                )
            return path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as fault:
            raise SetupError(f"{path} is not UTF-8 (byte {fault.start}); save it as UTF-8") from fault
        except OSError as fault:
            raise self._unreadable(path, fault) from fault

    @staticmethod
    def _unreadable(path: Path, fault: OSError) -> SetupError:
        return SetupError(
            f"{path} cannot be read ({fault.strerror}); mend its rights or name another in BREAKEVEN_POLICIES"
        )
