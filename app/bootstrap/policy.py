"""The policy from the shelf: read, compiled, or refused with every finding."""

from __future__ import annotations

from collections.abc import Mapping

from app.documents.compile import Compiled, compile_policy
from app.providers.engines.families import FAMILIES
from app.settings import Settings
from app.storage.price_catalogue import PackagedCatalogue
from app.storage.shelf import PolicyShelf


def read_policy(settings: Settings) -> Compiled:
    """The compiled policy of this directory, with its warnings. Raises PolicyInvalid."""
    return compile_here(PolicyShelf(settings.policies).read())


def compile_here(files: Mapping[str, str]) -> Compiled:
    """`compile_policy` with the list prices that are installed here and the engines that the product knows. Raises
    PolicyInvalid."""
    return compile_policy(files, catalogue=PackagedCatalogue(), families=FAMILIES)
