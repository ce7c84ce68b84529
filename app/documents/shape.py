"""Has what was written the right shape? Every fault becomes a finding at the very node, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from app.documents.nearest import mend_for, nearest
from app.documents.page import Page, Path, plain
from app.documents.policy import FORMS
from app.documents.words import Written, kind_of
from app.domain.findings import Finding

#: One of pydantic's faults: type, loc, msg, input and, for some, ctx.
Fault = Mapping[str, Any]
_W = TypeVar("_W", bound=Written)

#: What pydantic puts last into the place of a fault that is in a key.
_IN_THE_KEY = "[key]"
#: pydantic's wrong-type faults → what was wanted.
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}


def shaped(page: Page, path: Path, model: type[_W]) -> tuple[_W | None, tuple[Finding, ...]]:
    """What is written at `path` as a `model`, or every fault of it."""
    try:
        return model.model_validate(plain(page.node(path))), ()
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=True)
        misspelt = {place for fault in faults for place in _meant(model, fault)}
        told = [fault for fault in faults if fault["type"] != "missing" or _steps(fault) not in misspelt]
        return None, tuple(_finding(page, path, model, fault) for fault in told)


def shaped_word(page: Page, path: Path, word: str, kind: Any) -> tuple[Finding, ...]:
    """The faults of the key `word` that leads to `path`, as a word of `kind`."""
    try:
        TypeAdapter(kind).validate_python(word)
    except ValidationError as error:
        return tuple(_word_finding(page, path, word, fault) for fault in error.errors(include_url=False))
    return ()


def _word_finding(page: Page, path: Path, word: str, fault: Fault) -> Finding:
    return page.finding("name", f'the name "{_short(word)}": {_sentence(fault)}', at=page.key_mark(path))


def _steps(fault: Fault) -> tuple[str | int, ...]:
    """Where the fault is, without the tags of a union's members."""
    places = fault["loc"]
    return tuple(
        step
        for step, before in zip(places, ("", *places), strict=False)
        if not (before in ("prefer", "engine") and step in FORMS)
    )


def _meant(model: type[Written], fault: Fault) -> Iterator[tuple[str | int, ...]]:
    """For an unknown key the known one that was meant, so that it is not told as missing too."""
    if fault["type"] == "extra_forbidden":
        *above, key = _steps(fault)
        near = nearest(str(key), _keys_of(model, above))
        if near is not None:
            yield (*above, near)


def _finding(page: Page, path: Path, model: type[Written], fault: Fault) -> Finding:
    steps = _steps(fault)
    if steps[-1:] == (_IN_THE_KEY,) and fault["type"] != "extra_forbidden":
        place = (*path, *steps[:-1])
        return _word_finding(page, place, str(place[-1]), fault)
    place = (*path, *steps)
    match fault["type"]:
        case "missing":
            message = f'"{steps[-1]}" is missing in {_spoken(place[:-1])}'
            return page.finding("missing", message, at=page.key_mark(place[:-1]), mend="add it")
        case "extra_forbidden":
            message = f'unknown key "{_short(str(steps[-1]))}" in {_spoken(place[:-1])}'
            mend = _mend_for_key(model, steps)
            return page.finding("unknown-key", message, at=page.key_mark(place), mend=mend)
        case "literal_error":
            return _no_such_word(page, place, fault)
        case "too_short":
            return page.finding("empty", f"{_spoken(place)} is empty", at=page.mark(place), mend="write at least one")
    return page.finding("shape", f"{_spoken(place)}: {_sentence(fault)}", at=page.mark(place))


def _mend_for_key(model: type[Written], steps: Sequence[str | int]) -> str:
    key = str(steps[-1])
    for above in _models_at(model, steps[:-1]):
        if key in above.not_yet:
            return above.not_yet[key]
    return mend_for(key, _keys_of(model, steps[:-1]), what="keys")


def _no_such_word(page: Page, place: Path, fault: Fault) -> Finding:
    value = fault["input"]
    known = [
        word.strip("'") for word in str(fault.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
    ]
    said = f'"{_short(value)}"' if isinstance(value, str) else kind_of(value)
    mend = mend_for(value if isinstance(value, str) else "", known, what="words")
    return page.finding("word", f"{_spoken(place)} cannot be {said}", at=page.mark(place), mend=mend)


def _sentence(fault: Fault) -> str:
    """The fault as a clause. Never repeats what was written where it may be a secret."""
    wanted = _WANTED.get(fault["type"])
    if wanted is not None:
        return f"it must be {wanted}, not {kind_of(fault['input'])}"
    ours = fault.get("ctx", {}).get("error")
    return str(fault["msg"] if ours is None else ours)


def _spoken(place: Path) -> str:
    """`models.chat.rules[0].use`."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{_short(step)}" if text else _short(step)
    return text or "the file"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def _keys_of(model: type[Written], steps: Sequence[str | int]) -> list[str]:
    """The keys that may stand where `steps` lead from `model`."""
    return sorted({key for one in _models_at(model, steps) for key in one.model_fields})


def _models_at(model: type[Written], steps: Sequence[str | int]) -> list[type[Written]]:
    """What may stand where `steps` lead from `model`."""
    kinds: list[Any] = [model]
    for step in steps:
        kinds = [below for kind in kinds for below in _below(kind, step)]
    return [one for kind in kinds for one in _models(kind)]


def _below(kind: Any, step: str | int) -> Iterator[Any]:
    for part in _parts(kind):
        if isinstance(part, type) and issubclass(part, Written):
            if step in part.model_fields:
                yield part.model_fields[str(step)].annotation
        elif get_origin(part) in (list, dict):
            yield get_args(part)[-1]


def _models(kind: Any) -> Iterator[type[Written]]:
    return (part for part in _parts(kind) if isinstance(part, type) and issubclass(part, Written))


def _parts(kind: Any) -> Iterator[Any]:
    """The members of a union, through any annotation; the kind itself otherwise."""
    if hasattr(kind, "__metadata__"):
        yield from _parts(kind.__origin__)
    elif get_origin(kind) in (Union, UnionType):
        for part in get_args(kind):
            yield from _parts(part)
    else:
        yield kind
