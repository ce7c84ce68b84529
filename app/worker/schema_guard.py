"""Which JSON schemas the engine is given.

The engine compiles a schema inside the step that all answers share, and a schema that it cannot compile breaks that
step for everyone (seen with 2026.4.1). So only schemas made of what it is known to compile pass; others are refused,
with the place and the reason, before the engine sees them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

NODES_MOST: Final = 512
DEPTH_MOST: Final = 16
#: A counted repetition of characters is compiled one by one while all answers wait: 256 take a second or two on a slow
#: machine, so that is the most for one string, and twice that for a schema.
LENGTH_MOST: Final = 256
LENGTHS_MOST: Final = 512
ITEMS_MOST: Final = 256
NUMBER_MOST: Final = 10**15
PATTERN_CHARACTERS_MOST: Final = 256

_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "$schema", "$comment", "deprecated", "readOnly", "writeOnly"}
)
_KEYWORDS_OF: Final = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "boolean": frozenset(),
    "null": frozenset(),
}
_WHOLE: Final = frozenset({"type", "enum", "const", "anyOf", "allOf", "$ref"})
_FORMATS: Final = frozenset(
    {"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"}
)
_DEFINITIONS: Final = ("$defs", "definitions")
#: The engine writes names into its grammar as they are: a quote ends them there.
_PLAIN_NAME: Final = re.compile(r"[^\"\\\x00-\x1f\x7f]*")
#: What a pattern may be made of: plain characters, \d and \w, classes of these, groups, choices and counts. Whatever
#: could stand for a quote, a backslash or a line break would let the engine write strings that are not JSON.
_PATTERN: Final = re.compile(
    r"\^?(?:[\w \-,:;@#%&=!~'/<>]"
    r"|\\[dw.\-+*?()\[\]{}|^$/]"
    r"|\[(?:[\w ,:;@#%&=!~'/<>.+*?()\-]|\\[dw.\-])+\]"
    r"|[(|)*+?]|\{\d+(?:,\d*)?\})*\$?",
    re.ASCII,
)
_PATTERN_BEYOND: Final = re.compile(r"\(\?|[*+?}][*+?{]|\(\)|\(\||\|\||\|\)|^\^?\||\|\$?$")
_COUNT: Final = re.compile(r"\{(\d+),?(\d*)\}")


class SchemaRefused(Exception):
    """`place` is where, as a path inside the schema; the message says what."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


def check_schema(schema: object) -> None:
    """Raises SchemaRefused unless the engine is known to compile this schema."""
    if not isinstance(schema, dict):
        raise SchemaRefused("", "a schema is a JSON object")
    _Check(schema).run()


class _Check:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._nodes = 0
        self._lengths = 0

    def run(self) -> None:
        for home in _DEFINITIONS:
            definitions = self._root.get(home, {})
            _require(isinstance(definitions, dict), home, "must be an object")
            for name, schema in definitions.items():
                self._schema(schema, f"{home}.{name}", depth=1)
        self._schema({key: value for key, value in self._root.items() if key not in _DEFINITIONS}, "", depth=0)

    def _schema(self, schema: object, place: str, *, depth: int) -> None:
        self._nodes += 1
        _require(self._nodes <= NODES_MOST, place, f"the schema has more than {NODES_MOST} parts")
        _require(depth <= DEPTH_MOST, place, f"the schema is nested more than {DEPTH_MOST} deep")
        if schema is True:
            return
        if not isinstance(schema, dict):
            raise SchemaRefused(place, "must be an object or true")
        rest = set(schema) - _NOTES
        for whole in ("$ref", "anyOf", "allOf", "enum", "const"):
            if whole in rest:
                extra = rest - {whole, *(("type",) if whole in {"enum", "const"} else ())}
                _require(not extra, place, f"`{whole}` does not go together with {_listed(extra)} here")
                self._whole(whole, schema[whole], place, depth=depth)
                return
        self._typed(schema, rest, place, depth=depth)

    def _whole(self, keyword: str, value: object, place: str, *, depth: int) -> None:
        where = _inside(place, keyword)
        if keyword == "$ref":
            self._reference(value, where)
        elif keyword in {"enum", "const"}:
            values = value if keyword == "enum" else [value]
            _require(isinstance(values, list) and bool(values), where, "must be a list with something in it")
            assert isinstance(values, list)
            _require(len(values) <= NODES_MOST, where, f"has more than {NODES_MOST} values")
            plain = all(item is None or isinstance(item, str | int | float) for item in values)
            _require(plain, where, "only strings, numbers, booleans and null are supported")
        else:
            most = 32 if keyword == "anyOf" else 1
            fits = isinstance(value, list) and 1 <= len(value) <= most
            _require(fits, where, f"must be a list of 1 to {most} schemas")
            assert isinstance(value, list)
            for index, schema in enumerate(value):
                self._schema(schema, f"{where}[{index}]", depth=depth + 1)

    def _reference(self, value: object, place: str) -> None:
        """A reference must lead to something, and not to itself without an object or array in between."""
        seen: set[str] = set()
        ahead = [value]
        while ahead:
            reference = ahead.pop()
            target = self._target(reference, place)
            _require(reference not in seen or reference != value, place, "refers to itself and nothing else")
            if reference not in seen:
                seen.add(str(reference))
                ahead.extend(_bare_references(target))

    def _target(self, reference: object, place: str) -> object:
        if isinstance(reference, str):
            home, _, name = reference.removeprefix("#/").partition("/")
            definitions = self._root.get(home) if home in _DEFINITIONS else None
            if isinstance(definitions, dict) and name in definitions:
                return definitions[name]
        raise SchemaRefused(place, "must name one of the schema's own definitions, such as #/$defs/name")

    def _typed(self, schema: dict[str, Any], rest: set[str], place: str, *, depth: int) -> None:
        types = schema.get("type")
        if types is None:
            _require(not rest, place, f"{_listed(rest)} is not supported here: is there no `type`?")
            return
        types = types if isinstance(types, list) else [types]
        known = bool(types) and all(isinstance(name, str) and name in _KEYWORDS_OF for name in types)
        _require(known and len(set(types)) == len(types), _inside(place, "type"), "must name JSON types")
        allowed = frozenset[str]().union(*(_KEYWORDS_OF[name] for name in types)) | {"type"}
        _require(rest <= allowed, place, f"{_listed(rest - allowed)} is not supported for {_listed(set(types))}")
        self._string(schema, place)
        _number(schema, place)
        self._object(schema, place, depth=depth)
        self._array(schema, place, depth=depth)

    def _string(self, schema: dict[str, Any], place: str) -> None:
        _bounds(schema, "minLength", "maxLength", most=LENGTH_MOST, place=place)
        self._count(schema.get("maxLength", schema.get("minLength", 0)), place)
        if "format" in schema:
            known = isinstance(schema["format"], str) and schema["format"] in _FORMATS
            _require(known, _inside(place, "format"), f"must be one of {_listed(_FORMATS)}")
        if "pattern" in schema:
            self._count(_pattern(schema["pattern"], _inside(place, "pattern")), place)
        alone = {"pattern", "format", "minLength"} & set(schema)
        _require(len(alone) <= 1, place, f"{_listed(alone)} are not supported together")
        mixed = {"pattern", "format"} & set(schema) and "maxLength" in schema
        _require(not mixed, place, "`maxLength` is not supported together with a pattern or format")

    def _count(self, length: int, place: str) -> None:
        self._lengths += length
        _require(self._lengths <= LENGTHS_MOST, place, f"the lengths in the schema add up to more than {LENGTHS_MOST}")

    def _object(self, schema: dict[str, Any], place: str, *, depth: int) -> None:
        properties = schema.get("properties", {})
        _require(isinstance(properties, dict), _inside(place, "properties"), "must be an object")
        for name, part in properties.items():
            plain = len(name) <= LENGTH_MOST and _PLAIN_NAME.fullmatch(name)
            _require(plain, _inside(place, "properties"), "a name has a quote, backslash or control character")
            self._schema(part, _inside(place, f"properties.{name}"), depth=depth + 1)
        required = schema.get("required", [])
        known = isinstance(required, list) and all(isinstance(name, str) and name in properties for name in required)
        _require(known, _inside(place, "required"), "must list names of `properties`")
        more = schema.get("additionalProperties", True)
        if not isinstance(more, bool):
            self._schema(more, _inside(place, "additionalProperties"), depth=depth + 1)

    def _array(self, schema: dict[str, Any], place: str, *, depth: int) -> None:
        _bounds(schema, "minItems", "maxItems", most=ITEMS_MOST, place=place)
        types = schema["type"]
        if types == "array" or (isinstance(types, list) and "array" in types):
            _require("items" in schema, place, "an array must say what its `items` are")
            self._schema(schema["items"], _inside(place, "items"), depth=depth + 1)


def _bare_references(schema: object) -> Iterator[object]:
    """The references of a schema that are not inside an object or array of its own."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"]
        for keyword in ("anyOf", "allOf"):
            parts = schema.get(keyword)
            for part in parts if isinstance(parts, list) else ():
                yield from _bare_references(part)


def _bounds(schema: dict[str, Any], least: str, most_name: str, *, most: int, place: str) -> None:
    for name in (least, most_name):
        value = schema.get(name, 0)
        whole = isinstance(value, int) and not isinstance(value, bool)
        _require(whole and 0 <= value <= most, _inside(place, name), f"must be a whole number from 0 to {most}")
    if least in schema and most_name in schema:
        _require(schema[least] <= schema[most_name], place, f"`{least}` is more than `{most_name}`")


def _number(schema: dict[str, Any], place: str) -> None:
    names = [name for name in _KEYWORDS_OF["number"] if name in schema]
    for name in names:
        value = schema[name]
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= NUMBER_MOST
        _require(whole, _inside(place, name), "must be a whole number of at most 15 digits")
    low = [schema[name] + (name == "exclusiveMinimum") for name in ("minimum", "exclusiveMinimum") if name in names]
    high = [schema[name] - (name == "exclusiveMaximum") for name in ("maximum", "exclusiveMaximum") if name in names]
    _require(len(low) <= 1 and len(high) <= 1, place, "give one lower and one upper limit")
    if low and high:
        _require(low[0] <= high[0], place, "no number is between the limits")


def _pattern(pattern: object, place: str) -> int:
    """How many repetitions it counts; nested ones multiply, so all are taken to be nested."""
    if not isinstance(pattern, str) or len(pattern) > PATTERN_CHARACTERS_MOST:
        raise SchemaRefused(place, f"must be a pattern of at most {PATTERN_CHARACTERS_MOST} characters")
    try:
        re.compile(pattern)
    except re.error as fault:
        raise SchemaRefused(place, f"is no pattern: {fault}") from fault
    simple = _PATTERN.fullmatch(pattern) and not _PATTERN_BEYOND.search(pattern)
    _require(simple, place, "only plain characters, \\d, \\w, classes, groups, choices and counts are supported")
    repetitions = math.prod(
        max(int(number) for number in match.groups() if number) for match in _COUNT.finditer(pattern)
    )
    _require(repetitions <= LENGTH_MOST, place, f"repeats more than {LENGTH_MOST} times")
    return repetitions


def _require(holds: object, place: str, message: str) -> None:
    if not holds:
        raise SchemaRefused(place, message)


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
