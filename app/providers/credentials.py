"""Where secrets come from: the environment, by name. The policy holds the name, never the secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SCHEME: Final = "env:"


class EnvironmentCredentials:
    """The Credentials port over a mapping, such as `os.environ`. `env:NAME` is the variable NAME, read at each call.

    An empty variable is an absent one. Blanks around a secret are not part of it: a file or a shell put them there."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def is_present(self, reference: str) -> bool:
        return self.secret(reference) is not None

    def secret(self, reference: str) -> str | None:
        if not reference.startswith(_SCHEME):
            return None
        return self._environ.get(reference.removeprefix(_SCHEME), "").strip() or None
