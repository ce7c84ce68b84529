"""One JSON object, field by field: typed, bounded, and nothing left over in silence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from app.worker.refusals import Refusal, bad_value, malformed, unsupported

#: Fields that change nothing here, whatever they say.
_HARMLESS: Final = frozenset(
    {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls"}
)
#: Fields that are not supported, and the values that mean "off". null is off everywhere.
_OFF: Final[Mapping[str, tuple[object, ...]]] = {
    "add_generation_prompt": (True,),
    "allowed_token_ids": ([],),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "continue_final_message": (False,),
    "chat_template_kwargs": ({},),
    "detokenize": (True,),
    "documents": ([],),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "include_reasoning": (True, False),
    "length_penalty": (1.0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "priority": (0,),
    "prompt_logprobs": (0,),
    "reasoning_effort": ("none",),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "service_tier": ("auto", "default"),
    "spaces_between_special_tokens": (True,),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
}


class Fields:
    """The fields of one JSON object; whatever was not taken by the end is refused."""

    def __init__(self, body: bytes) -> None:
        """Raises Refusal when the body is not one JSON object."""
        try:
            decoded = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as fault:
            raise malformed(f"The body is not valid JSON: {fault}") from fault
        if not isinstance(decoded, dict):
            raise malformed("The body should be a JSON object.")
        self._left: dict[str, Any] = decoded
        self._path = ""

    @classmethod
    def of(cls, value: dict[str, Any], *, path: str) -> Fields:
        fields = cls.__new__(cls)
        fields._left, fields._path = dict(value), f"{path}."
        return fields

    def get(self, name: str) -> Any:
        return self._left.get(name)

    def take(self, name: str) -> Any:
        return self._left.pop(name, None)

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self._take(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def whole(self, name: str, *, default: int | None = None, least: int, most: int = 2**31 - 1) -> int:
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name, "a whole number")
        return int(self._between(name, value, least=least, most=most))

    def number(self, name: str, *, default: float, least: float, most: float, open_below: bool = False) -> float:
        value = self._take(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._wrong(name, "a number")
        if open_below and value == least:
            raise bad_value(f"{name} must be more than {least}, got {value}.", field=self._path + name)
        return float(self._between(name, value, least=least, most=most))

    def numbers(self, name: str, *, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        value = self._take(name, None if default is None else list(default))
        if not isinstance(value, list):
            raise self._wrong(name, "a list of token ids")
        return token_ids(value, field=self._path + name)

    def refuse_the_rest(self) -> None:
        """Raises Refusal for the first field that nobody took and that is not off."""
        for name, value in self._left.items():
            harmless = not self._path and name in _HARMLESS
            if not harmless and value is not None and not _is_off(name, value, outermost=not self._path):
                raise unsupported(self._path + name)

    def _take(self, name: str, default: object) -> Any:
        value = self._left.pop(name, None)
        if value is None and default is None:
            raise malformed("Field required.", field=self._path + name)
        return default if value is None else value

    def _wrong(self, name: str, wanted: str) -> Refusal:
        return malformed(f"Input should be {wanted}.", field=self._path + name)

    def _between(self, name: str, value: float, *, least: float, most: float) -> float:
        if not least <= value <= most:
            raise bad_value(f"{name} must be between {least} and {most}, got {value}.", field=self._path + name)
        return value


def token_ids(value: list[object], *, field: str) -> tuple[int, ...]:
    """Raises Refusal. Whether the model has these tokens is the engine's to say."""
    ids = tuple(item for item in value if isinstance(item, int) and not isinstance(item, bool) and abs(item) < 2**31)
    if len(ids) != len(value):
        raise malformed("Input should be a list of token ids.", field=field)
    return ids


def _is_off(name: str, value: object, *, outermost: bool) -> bool:
    """Is this value of an unsupported field one that asks for nothing? 0 is not False here."""
    return outermost and any(value == off and type(value) is type(off) for off in _off_values(name))


def _off_values(name: str) -> tuple[object, ...]:
    values = _OFF.get(name, ())
    return (*values, *(int(value) for value in values if isinstance(value, float) and value.is_integer()))
