"""The JSON Schema of a policy file, for editors: it completes and checks while people type.

Generated from the very models that read the files. It is a hint: numbers are checked exactly, and names against one
another, by `compile` only.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.documents.budgets import WrittenBudget
from app.documents.engines import EngineName, WrittenEngine
from app.documents.policy import WrittenDefaults, WrittenModel, WrittenTarget
from app.documents.rates import WrittenRates
from app.documents.scenario import WrittenScenario
from app.documents.words import ModelName, TargetName, Written

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: What every model of a key's values is called in the schema, less this.
_PREFIX = "Written"
#: pydantic writes these for programs, not for people who type.
_NOISE = frozenset({"title", "default"})


class WrittenFile(Written):
    """A policy file. All files of the directory are merged; every key may stand in any of them."""

    timezone: str = Field(
        default="UTC",
        description="Of `time` in conditions and of budgets: a name of the IANA database. Once over all files.",
        examples=["Europe/Berlin", "UTC"],
    )
    targets: dict[TargetName, WrittenTarget] = Field(
        default={}, description="The places that serve a model, by a name of yours."
    )
    models: dict[ModelName, WrittenModel] = Field(
        default={}, description="The names that callers may ask for, and the rules that choose a target."
    )
    defaults: WrittenDefaults = Field(
        default=WrittenDefaults(),
        description="What models and rules are when they do not say it themselves. Once over all files.",
        examples=[{"attempts": 3, "timeouts": {"total_s": 300}, "affinity": "session"}],
    )
    engines: dict[EngineName, WrittenEngine] = Field(
        default={},
        description="What is different of engines that are known, by their word; and engines of your own, `own-…`.",
    )
    rates: WrittenRates = Field(default=WrittenRates(), description="What things cost, in US dollars.")
    budgets: dict[TargetName, WrittenBudget] = Field(
        default={}, description="Amounts of money to watch, by a name of yours; conditions can read them."
    )
    scenarios: list[WrittenScenario] = Field(
        default=[],
        description="Tests of the rules: run whenever the policy is read, and it does not go live when one fails.",
    )


def policy_schema() -> dict[str, Any]:
    """The schema as plain values, the same at every call."""
    schema = _tidied(WrittenFile.model_json_schema())
    return {"$schema": DIALECT, "title": "Breakeven policy file", **schema}


def _tidied(node: Any) -> Any:
    """Without noise: no generated titles and defaults, no `null` as a way to leave a key out, short names."""
    if isinstance(node, list):
        return [_tidied(each) for each in node]
    if not isinstance(node, dict):
        return node.replace(f"/{_PREFIX}", "/") if isinstance(node, str) and node.startswith("#/") else node
    kept = {key: _below(key, value) for key, value in node.items() if key not in _NOISE}
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    return _without_null(kept)


def _below(key: str, value: Any) -> Any:
    """What stands under `key`. Names of keys and of models are names, whatever they are called."""
    if key == "properties":
        return {name: _tidied(each) for name, each in value.items()}
    if key == "$defs":
        return {name.removeprefix(_PREFIX): _tidied(each) for name, each in value.items()}
    return value if key == "examples" else _tidied(value)


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    choices = [each for each in node.get("anyOf", ()) if each != {"type": "null"}]
    if len(choices) == len(node.get("anyOf", ())):
        return node
    others = {key: value for key, value in node.items() if key != "anyOf"}
    return {**choices[0], **others} if len(choices) == 1 else {**others, "anyOf": choices}
