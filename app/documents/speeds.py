"""How fast targets are in a simulation, as options say it: `gpu-a=8,0.65,12000,64`, `hosted=500,20`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Final, TypeVar

from app.domain.errors import BadRequest
from app.domain.replay.speed import EngineSpeed, Pace

A_CURVE: Final = (
    "TARGET=STEP_MS,PER_SEQUENCE_MS,PREFILL_TOKENS_PER_S,SEQUENCES or TARGET=…,KV_TOKENS, as in gpu-a=8,0.65,12000,64"
)
A_PACE: Final = "TARGET=TTFT_MS,TPOT_MS, as in hosted=500,20"
_MOST: Final = 1e9
#: No engine is quicker or slower; within these every rate that is computed of a curve is above zero and can be written.
_STEP_LEAST_MS: Final = 0.001
_STEP_MOST_MS: Final = 10_000.0
_PREFILL_LEAST: Final = 1.0

Speed = TypeVar("Speed", EngineSpeed, Pace)


def read_curves(texts: Iterable[str]) -> Mapping[str, EngineSpeed]:
    """By target. Raises BadRequest, which says how a curve is written."""
    return _by_target((_curve(text) for text in texts), option="--curve")


def read_paces(texts: Iterable[str]) -> Mapping[str, Pace]:
    """By target. Raises BadRequest, which says how a pace is written."""
    return _by_target((_pace(text) for text in texts), option="--pace")


def _curve(text: str) -> tuple[str, EngineSpeed]:
    name, numbers = _parts(text, form=A_CURVE, option="--curve")
    if len(numbers) not in (4, 5):
        raise _wrong(text, f"it has {len(numbers)} numbers", form=A_CURVE, option="--curve")
    step_ms, per_sequence_ms, prefill, sequences, *kv_tokens = numbers
    counts = [sequences, *kv_tokens]
    if step_ms <= 0 or prefill <= 0 or min(counts) < 1:
        what = "a step, prompt tokens a second, sequences and KV tokens must be above zero"
        raise _wrong(text, what, form=A_CURVE, option="--curve")
    if step_ms < _STEP_LEAST_MS or max(step_ms, per_sequence_ms) > _STEP_MOST_MS or prefill < _PREFILL_LEAST:
        what = (
            f"a step takes from {_STEP_LEAST_MS:g} to {_STEP_MOST_MS:,.0f} ms, a sequence adds at most as much, and "
            f"{_PREFILL_LEAST:g} prompt token a second is the least"
        )
        raise _wrong(text, what, form=A_CURVE, option="--curve")
    if any(count != int(count) for count in counts):
        raise _wrong(text, "sequences and KV tokens must be whole numbers", form=A_CURVE, option="--curve")
    return name, EngineSpeed(
        step_s=step_ms / 1000,
        step_per_sequence_s=per_sequence_ms / 1000,
        prefill_tokens_per_s=prefill,
        sequences_most=int(sequences),
        kv_tokens=int(kv_tokens[0]) if kv_tokens else None,
    )


def _pace(text: str) -> tuple[str, Pace]:
    name, numbers = _parts(text, form=A_PACE, option="--pace")
    if len(numbers) != 2:
        raise _wrong(text, f"it has {len(numbers)} numbers", form=A_PACE, option="--pace")
    ttft_ms, tpot_ms = numbers
    return name, Pace(ttft_s=ttft_ms / 1000, tpot_s=tpot_ms / 1000)


def _parts(text: str, *, form: str, option: str) -> tuple[str, Sequence[float]]:
    name, equals, rest = text.partition("=")
    if not equals:
        raise _wrong(text, "it has no =", form=form, option=option)
    if not name.strip():
        raise _wrong(text, "it names no target", form=form, option=option)
    numbers = []
    for word in rest.split(","):
        try:
            number = float(word)
        except ValueError:
            raise _wrong(text, f"{word.strip()[:40]!r} is no number", form=form, option=option) from None
        if not isfinite(number) or not 0 <= number <= _MOST:
            raise _wrong(text, f"{word.strip()[:40]} cannot be", form=form, option=option)
        numbers.append(number)
    return name.strip(), numbers


def _by_target(pairs: Iterable[tuple[str, Speed]], *, option: str) -> Mapping[str, Speed]:
    found: dict[str, Speed] = {}
    for name, speed in pairs:
        if name in found:
            raise BadRequest(f'{option} is given twice for "{name[:200]}": keep one', param=option.strip("-"))
        found[name] = speed
    return found


def _wrong(text: str, what: str, *, form: str, option: str) -> BadRequest:
    return BadRequest(f"{option} {text[:100]!r}: {what}; write {form}", param=option.strip("-"))
