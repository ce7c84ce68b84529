"""The glossary against the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| ([^|]+) \| `(app[\w.:]+)` \|", (ROOT / "app/domain/README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("word", "place"), ROWS, ids=[word for word, _ in ROWS])
def test_a_word_of_the_glossary_exists_in_the_code(word: str, place: str) -> None:
    module, _, path = place.partition(":")
    found: object = importlib.import_module(module)
    for name in path.split(".") if path else ():
        annotations = getattr(found, "__annotations__", {})
        assert hasattr(found, name) or name in annotations, f"{word}: {place} does not exist"
        found = getattr(found, name, annotations.get(name))


def test_the_glossary_has_its_rows() -> None:
    assert len(ROWS) > 40
