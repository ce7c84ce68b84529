"""Kinds of words and numbers that documents are made of, with what to say when one is not as it should be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    field_validator,
)


class Written(BaseModel):
    """Base of all that people write: unknown keys are refused, nothing is converted in silence, nothing changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    #: Keys that people may expect here, and what to do until they are built.
    not_yet: ClassVar[Mapping[str, str]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _something(cls, value: object) -> object:
        """A key without a value is no way to leave it out: `when:` with nothing behind it would match always."""
        if value is None:
            raise ValueError("it is empty; write a value, or remove the key")
        return value


# What these validators raise goes to people as it is: "it …", after the place.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """Text of one pattern."""

    pattern: str
    longest: int
    described: str

    def checked(self, word: str) -> str:
        if len(word) > self.longest:
            raise ValueError(f"it has {len(word):,} characters; at most {self.longest} are allowed")
        if not re.fullmatch(self.pattern, word):
            raise ValueError(self.described)
        return word

    @property
    def schema(self) -> WithJsonSchema:
        return WithJsonSchema({"type": "string", "pattern": f"^{self.pattern}$", "maxLength": self.longest})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """A whole number."""

    least: int
    most: int

    def checked(self, number: int) -> int:
        if not self.least <= number <= self.most:
            raise ValueError(f"{number} is out of range; write a whole number from {self.least:,} to {self.most:,}")
        return number

    @property
    def schema(self) -> WithJsonSchema:
        return WithJsonSchema({"type": "integer", "minimum": self.least, "maximum": self.most})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exact:
    """A number kept exactly as written, never through a binary fraction."""

    least: Decimal
    most: Decimal
    decimals: int

    def checked(self, value: object) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValueError(f"it must be a number, not {kind_of(value)}")
        number = Decimal(value)
        if not self.least <= number <= self.most:
            least = f"{self.least:f}"
            raise ValueError(f"{number:f} is out of range; write a number from {least} to {self.most:,}")
        exponent = number.normalize().as_tuple().exponent
        if isinstance(exponent, int) and -exponent > self.decimals:
            raise ValueError(f"{number:f} has more than {self.decimals} decimals")
        return number

    @property
    def schema(self) -> WithJsonSchema:
        return WithJsonSchema({"type": "number", "minimum": _editors(self.least), "maximum": _editors(self.most)})


def _editors(bound: Decimal) -> int | float:
    """A bound as JSON has it; editors only hint, the exact check is ours."""
    return int(bound) if bound == int(bound) else float(bound)


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

_INK = r"[^\s\x00-\x1f\x7f-\x9f]"
_PLAIN_TEXT = "it must be one line of visible characters"

_TARGET_NAME = _Text(
    pattern=r"[a-z0-9][a-z0-9._-]*",
    longest=63,
    described="a name is small letters, digits, `.`, `_` and `-`, and begins with a letter or digit",
)
_MODEL_NAME = _Text(
    pattern=r"[A-Za-z0-9][A-Za-z0-9._:/-]*",
    longest=128,
    described="a model's name is letters, digits and any of `._:/-`, and begins with a letter or digit",
)
_DATA_CLASS = _Text(
    pattern=r"[A-Za-z0-9][A-Za-z0-9._:-]*",
    longest=64,
    described="a data class is letters, digits and any of `._:-`, and begins with a letter or digit",
)
_SERVICE_TIER = _Text(
    pattern=r"[a-z0-9][a-z0-9_-]*",
    longest=40,
    described="a service tier is small letters, digits, `_` and `-`, and begins with a letter or digit",
)
_LINE = _Text(pattern=rf"{_INK}(?:[^\x00-\x1f\x7f-\x9f]*{_INK})?", longest=120, described=_PLAIN_TEXT)
_FOREIGN_NAME = _Text(pattern=r"[\x21-\x7e]+", longest=256, described=_PLAIN_TEXT)
_REFERENCE = _Text(pattern=r"[\s\S]+", longest=1000, described="it is empty")

#: No price is higher: a dollar a token.
MOST_USD_PER_MILLION = Decimal(1_000_000)

_PERCENT = _Exact(least=Decimal(0), most=Decimal(100), decimals=3)
_REGION_MULTIPLIER = _Exact(least=Decimal("0.01"), most=Decimal(100), decimals=3)
_THRESHOLD = _Whole(least=1, most=100_000_000)
_DAY_FORM = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"

_ATTEMPTS = _Whole(least=1, most=10)
_TOKENS = _Whole(least=1, most=100_000_000)
_TOKENS_PER_MINUTE = _Whole(least=1, most=1_000_000_000_000)
_REQUESTS = _Whole(least=1, most=100_000)
_WAITING = _Whole(least=0, most=100_000)
_REQUESTS_PER_MINUTE = _Whole(least=1, most=100_000_000)
_MACHINES = _Whole(least=1, most=10_000)
_WEIGHT = _Whole(least=0, most=1_000_000)

_SECONDS = _Exact(least=Decimal("0.001"), most=Decimal(86_400), decimals=3)
_MILLISECONDS = _Exact(least=Decimal(1), most=Decimal(86_400_000), decimals=3)
_USD_PER_MILLION = _Exact(least=Decimal(0), most=MOST_USD_PER_MILLION, decimals=12)
_USD_PER_HOUR = _Exact(least=Decimal("0.000001"), most=Decimal(100_000), decimals=9)
_MARGINAL_USD_PER_HOUR = _Exact(least=Decimal(0), most=Decimal(100_000), decimals=9)
_USD_PER_SECOND = _Exact(least=Decimal("0.000000001"), most=Decimal(1_000), decimals=9)
_USD = _Exact(least=Decimal("0.000001"), most=Decimal(1_000_000_000), decimals=9)
_SHARE = _Exact(least=Decimal("0.000001"), most=Decimal(1), decimals=6)
_TOKENS_PER_SECOND = _Exact(least=Decimal("0.1"), most=Decimal(10**9), decimals=6)

#: Names of targets, machines and budgets: they become labels, header values and parts of file names.
TargetName = Annotated[StrictStr, AfterValidator(_TARGET_NAME.checked), _TARGET_NAME.schema]
#: Public model names, as callers ask for them.
ModelName = Annotated[StrictStr, AfterValidator(_MODEL_NAME.checked), _MODEL_NAME.schema]
#: What a caller says of a request in the header x-breakeven-data-class.
DataClass = Annotated[StrictStr, AfterValidator(_DATA_CLASS.checked), _DATA_CLASS.schema]
#: A line for people.
Line = Annotated[StrictStr, AfterValidator(_LINE.checked), _LINE.schema]
#: A name that somebody else gave, such as a model's at its target.
ForeignName = Annotated[StrictStr, AfterValidator(_FOREIGN_NAME.checked), _FOREIGN_NAME.schema]
#: A URL or a reference; looked at closely by `lint`.
Reference = Annotated[StrictStr, AfterValidator(_REFERENCE.checked), _REFERENCE.schema]
#: A tier of a seller's service, as its answers name it.
ServiceTierName = Annotated[StrictStr, AfterValidator(_SERVICE_TIER.checked), _SERVICE_TIER.schema]
#: A condition; read closely by `conditions`.
ConditionText = StrictStr


def _day(value: object) -> date:
    """A day of the calendar, written as 2026-12-01."""
    if not isinstance(value, str) or not re.fullmatch(_DAY_FORM, value):
        raise ValueError("it must be a day, such as 2026-12-01")
    try:
        return date.fromisoformat(value)
    except ValueError as fault:
        raise ValueError(f"{value} is no day of the calendar") from fault


#: A day in UTC.
Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "pattern": f"^{_DAY_FORM}$"})]
#: Of a price.
Percent = Annotated[Decimal, BeforeValidator(_PERCENT.checked), _PERCENT.schema]
RegionMultiplier = Annotated[Decimal, BeforeValidator(_REGION_MULTIPLIER.checked), _REGION_MULTIPLIER.schema]
#: Tokens of a prompt at which prices change.
Threshold = Annotated[StrictInt, AfterValidator(_THRESHOLD.checked), _THRESHOLD.schema]
Attempts = Annotated[StrictInt, AfterValidator(_ATTEMPTS.checked), _ATTEMPTS.schema]
Tokens = Annotated[StrictInt, AfterValidator(_TOKENS.checked), _TOKENS.schema]
TokensPerMinute = Annotated[StrictInt, AfterValidator(_TOKENS_PER_MINUTE.checked), _TOKENS_PER_MINUTE.schema]
InFlight = Annotated[StrictInt, AfterValidator(_REQUESTS.checked), _REQUESTS.schema]
Waiting = Annotated[StrictInt, AfterValidator(_WAITING.checked), _WAITING.schema]
RequestsPerMinute = Annotated[StrictInt, AfterValidator(_REQUESTS_PER_MINUTE.checked), _REQUESTS_PER_MINUTE.schema]
MachineCount = Annotated[StrictInt, AfterValidator(_MACHINES.checked), _MACHINES.schema]
Weight = Annotated[StrictInt, AfterValidator(_WEIGHT.checked), _WEIGHT.schema]

#: A time-out. A day is the longest.
Seconds = Annotated[Decimal, BeforeValidator(_SECONDS.checked), _SECONDS.schema]
#: A time to the first token.
Milliseconds = Annotated[Decimal, BeforeValidator(_MILLISECONDS.checked), _MILLISECONDS.schema]
#: USD per million tokens; zero is a price.
UsdPerMillion = Annotated[Decimal, BeforeValidator(_USD_PER_MILLION.checked), _USD_PER_MILLION.schema]
#: USD per hour of one machine; nothing runs for nothing.
UsdPerHour = Annotated[Decimal, BeforeValidator(_USD_PER_HOUR.checked), _USD_PER_HOUR.schema]
#: USD per hour that one machine costs more when it works; zero: it is paid for anyway.
MarginalUsdPerHour = Annotated[Decimal, BeforeValidator(_MARGINAL_USD_PER_HOUR.checked), _MARGINAL_USD_PER_HOUR.schema]
#: What a second of waiting is worth.
UsdPerSecond = Annotated[Decimal, BeforeValidator(_USD_PER_SECOND.checked), _USD_PER_SECOND.schema]
#: An amount of money that something may cost.
Usd = Annotated[Decimal, BeforeValidator(_USD.checked), _USD.schema]
#: A part of all requests: over 0, and 1 for all of them. Millionths are the finest.
Share = Annotated[Decimal, BeforeValidator(_SHARE.checked), _SHARE.schema]
#: Tokens per second at saturation.
TokensPerSecond = Annotated[Decimal, BeforeValidator(_TOKENS_PER_SECOND.checked), _TOKENS_PER_SECOND.schema]

# ── of scenarios: what a world may be like ───────────────────────────────────────────────────────────────────────────

_COUNT = _Whole(least=0, most=1_000_000_000)
_ANSWERS = _Whole(least=1, most=1_000)
_PRIORITY = _Whole(least=-1_000_000, most=1_000_000)
_HOUR = _Whole(least=0, most=23)
_MINUTE = _Whole(least=0, most=59)
_WEEKDAY = _Whole(least=1, most=7)
_MEASURE = _Exact(least=Decimal(0), most=Decimal(10**9), decimals=9)
_USD_LEFT = _Exact(least=Decimal(-(10**9)), most=Decimal(10**9), decimals=9)

Count = Annotated[StrictInt, AfterValidator(_COUNT.checked), _COUNT.schema]
Answers = Annotated[StrictInt, AfterValidator(_ANSWERS.checked), _ANSWERS.schema]
Priority = Annotated[StrictInt, AfterValidator(_PRIORITY.checked), _PRIORITY.schema]
Hour = Annotated[StrictInt, AfterValidator(_HOUR.checked), _HOUR.schema]
Minute = Annotated[StrictInt, AfterValidator(_MINUTE.checked), _MINUTE.schema]
#: 1 is Monday.
Weekday = Annotated[StrictInt, AfterValidator(_WEEKDAY.checked), _WEEKDAY.schema]
#: A signal, a time or an amount as it is observed.
Measure = Annotated[Decimal, BeforeValidator(_MEASURE.checked), _MEASURE.schema]
#: USD that are left; below zero when more is spent than there was.
UsdLeft = Annotated[Decimal, BeforeValidator(_USD_LEFT.checked), _USD_LEFT.schema]
