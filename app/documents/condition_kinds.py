"""The kinds of values in conditions, and the names that conditions may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of CEL. `of` is the kind of a list's items. As text it reads as people say it."""

    name: str
    of: Kind | None = None

    def __str__(self) -> str:
        return self.name if self.of is None else f"{self.name} of {self.of}"


BOOL = Kind("true or false")
INT = Kind("whole number")
DOUBLE = Kind("number with decimals")
STRING = Kind("text")
#: Not known because of a fault already noted, or the items of an empty list.
ANY = Kind("anything")

NUMBERS = frozenset({INT, DOUBLE})
#: The kinds of constants, by the token they are written as.
OF_LITERALS: Mapping[str, Kind] = {"bool": BOOL, "int": INT, "double": DOUBLE, "string": STRING}

#: What `names_for_conditions` of the domain fills in for every request. Each of these fields is always there.
NAMES: Mapping[str, Mapping[str, Kind]] = {
    "request": {
        "model": STRING,
        "endpoint": STRING,
        "stream": BOOL,
        "prompt_tokens": INT,
        "output_tokens_most": INT,
        "n": INT,
        "has_tools": BOOL,
        "has_images": BOOL,
        "has_audio": BOOL,
        "json_schema": BOOL,
        "data_class": STRING,
        "deadline_s": DOUBLE,
        "priority": INT,
        "tags": Kind("list", STRING),
    },
    "caller": {"key": STRING, "team": STRING, "cost_centre": STRING, "tags": Kind("list", STRING)},
    "time": {"hour": INT, "minute": INT, "weekday": INT, "date": STRING},
}

#: Names that hold a table by name, as in `fleet["gpu-a"].waiting`: their fields. What is not known is not there.
SIGNALS: Mapping[str, Mapping[str, Kind]] = {
    "fleet": {
        "in_flight": INT,
        "waiting": INT,
        "saturation": DOUBLE,
        "predicted_ttft_ms": DOUBLE,
        "age_s": DOUBLE,
        "circuit": STRING,
    },
    "budget": {"remaining_usd": DOUBLE, "used": DOUBLE, "days_left": INT},
}


def list_of(kind: Kind) -> Kind:
    """The kind of a list whose items are of `kind`."""
    return Kind("list", kind)


def is_list(kind: Kind) -> bool:
    """True for lists of anything."""
    return kind.of is not None


def comparable(one: Kind, other: Kind) -> bool:
    """True when `==` between the two can ever be true: the same kind, or two numbers."""
    if ANY in (one, other) or one == other:
        return True
    if one.of is not None and other.of is not None:
        return comparable(one.of, other.of)
    return one in NUMBERS and other in NUMBERS
