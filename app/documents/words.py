"""Kinds of words and numbers that documents are made of, with what to say when one is not as it should be."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StrictInt, StrictStr


class Written(BaseModel):
    """Base of all that people write: unknown keys are refused, nothing is converted in silence, nothing changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# What these validators raise goes to people as it is: "it …", after the place.


def _word(pattern: str, *, longest: int, described: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def checked(word: str) -> str:
        if len(word) > longest:
            raise ValueError(f"it has {len(word):,} characters; at most {longest} are allowed")
        if not compiled.fullmatch(word):
            raise ValueError(described)
        return word

    return checked


def _whole(*, least: int, most: int) -> Callable[[int], int]:
    def checked(number: int) -> int:
        if not least <= number <= most:
            raise ValueError(f"{number} is out of range; write a whole number from {least:,} to {most:,}")
        return number

    return checked


def _exact(*, least: Decimal, most: Decimal, decimals: int) -> Callable[[object], Decimal]:
    """A number kept exactly as written, never through a binary fraction."""

    def checked(value: object) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValueError(f"it must be a number, not {kind_of(value)}")
        number = Decimal(value)
        if not least <= number <= most:
            raise ValueError(f"{number} is out of range; write a number from {least} to {most:,}")
        exponent = number.normalize().as_tuple().exponent
        if isinstance(exponent, int) and -exponent > decimals:
            raise ValueError(f"{number} has more than {decimals} decimals")
        return number

    return checked


def kind_of(value: object) -> str:
    """What a value is, as people say it."""
    for kind, said in _KINDS:
        if isinstance(value, kind):
            return said
    return "nothing"


#: In this order: a bool is an int to Python.
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (Decimal, "a number with decimals"),
    (str, "text"),
    (list, "a list"),
    (dict, "a mapping"),
)

_LOWER_NAME = "a name is small letters, digits, `.`, `_` and `-`, and begins with a letter or digit"
_MODEL_NAME = "a model's name is letters, digits and any of `._:/-`, and begins with a letter or digit"
_PLAIN_TEXT = "it must be one line of visible characters"
_INK = r"[^\s\x00-\x1f\x7f-\x9f]"
_LINE = rf"{_INK}(?:[^\x00-\x1f\x7f-\x9f]*{_INK})?"

#: No price is higher: a dollar a token.
MOST_USD_PER_MILLION = Decimal(1_000_000)

#: Names of targets and machines: they become labels, header values and parts of file names.
TargetName = Annotated[StrictStr, AfterValidator(_word(r"[a-z0-9][a-z0-9._-]*", longest=63, described=_LOWER_NAME))]
#: Public model names, as callers ask for them.
ModelName = Annotated[
    StrictStr,
    AfterValidator(
        _word(
            r"[A-Za-z0-9][A-Za-z0-9._:/-]*",
            longest=128,
            described=_MODEL_NAME,
        )
    ),
]
#: A line for people.
Line = Annotated[StrictStr, AfterValidator(_word(_LINE, longest=120, described=_PLAIN_TEXT))]
#: A name that somebody else gave, such as a model's at its target.
ForeignName = Annotated[StrictStr, AfterValidator(_word(r"[\x21-\x7e]+", longest=256, described=_PLAIN_TEXT))]
#: A URL or a reference; looked at closely by `lint`.
Reference = Annotated[StrictStr, AfterValidator(_word(r"(?s:.+)", longest=1000, described="it is empty"))]
#: A condition; read closely by `conditions`.
ConditionText = StrictStr

Attempts = Annotated[StrictInt, AfterValidator(_whole(least=1, most=10))]
Tokens = Annotated[StrictInt, AfterValidator(_whole(least=1, most=100_000_000))]
InFlight = Annotated[StrictInt, AfterValidator(_whole(least=1, most=100_000))]
MachineCount = Annotated[StrictInt, AfterValidator(_whole(least=1, most=10_000))]
Weight = Annotated[StrictInt, AfterValidator(_whole(least=0, most=1_000_000))]

#: A time-out. A day is the longest.
Seconds = Annotated[Decimal, BeforeValidator(_exact(least=Decimal("0.001"), most=Decimal(86_400), decimals=3))]
#: USD per million tokens; zero is a price.
UsdPerMillion = Annotated[Decimal, BeforeValidator(_exact(least=Decimal(0), most=MOST_USD_PER_MILLION, decimals=12))]
#: USD per hour of one machine; nothing runs for nothing.
UsdPerHour = Annotated[Decimal, BeforeValidator(_exact(least=Decimal("0.000001"), most=Decimal(100_000), decimals=9))]
#: Tokens per second at saturation.
TokensPerSecond = Annotated[Decimal, BeforeValidator(_exact(least=Decimal("0.1"), most=Decimal(10**9), decimals=6))]
