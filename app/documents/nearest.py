"""Did you mean …?"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LIKENESS = 0.6


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when nothing comes near."""
    found = get_close_matches(word, sorted(known), n=1, cutoff=_LIKENESS)
    return found[0] if found else None


def mend_for(word: str, known: Iterable[str], *, what: str) -> str:
    """What to write instead of a `word` that is none of `known`: the nearest one, or all of them.

    `what` names the known things in the plural: "the targets are …".
    """
    names = sorted(known)
    near = nearest(word, names)
    if near is not None:
        return f'did you mean "{near}"?'
    return f"the {what} are {', '.join(names)}" if names else f"there are no {what}"
