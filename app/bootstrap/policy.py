"""The policy from the shelf: read, compiled, or refused with every finding."""

from __future__ import annotations

from app.documents.compile import Compiled, compile_policy
from app.settings import Settings
from app.storage.shelf import PolicyShelf


def read_policy(settings: Settings) -> Compiled:
    """The compiled policy of this directory, with its warnings. Raises PolicyInvalid."""
    return compile_policy(PolicyShelf(settings.policies).read())
