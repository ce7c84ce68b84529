"""From what an engine's pages say to the signals: the one reading of a family's rules. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from app.domain.engine import EngineFamily
from app.domain.signals import (
    Absent,
    Combine,
    EngineSignals,
    Entry,
    Figure,
    Place,
    Series,
    SignalName,
    SignalRule,
)
from app.providers.engines.exposition import Exposition, labels_of

#: No engine has counted so far: what is larger, or is no number, was not meant.
NUMBER_MOST: Final = 2.0**53

_COMBINED: Final[Mapping[Combine, Callable[[Sequence[float]], float]]] = {
    Combine.SUM: math.fsum,
    Combine.MAX: max,
    Combine.MIN: min,
    Combine.MEAN: fmean,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What could be read: the page of metrics, and JSON pages by their path. None: it could not."""

    metrics: Exposition | None = None
    json: Mapping[str, object] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def signals_of(family: EngineFamily, pages: Pages, *, at_s: float) -> EngineSignals:
    """Every signal of the family: a number, or why there is none."""
    numbers: dict[SignalName, float] = {}
    missing: dict[SignalName, Absent] = {}
    for name in SignalName:
        rule = family.signals.get(name)
        found = Absent.NOT_OFFERED if rule is None else _by_rule(rule, pages)
        if isinstance(found, Absent):
            missing[name] = found
        else:
            numbers[name] = found
    return EngineSignals(
        at_s=at_s,
        numbers=numbers,
        missing=missing,
        faults=pages.faults,
        broken_lines=0 if pages.metrics is None else pages.metrics.broken_lines,
    )


def unmet_pages(family: EngineFamily, metrics: Exposition | None) -> tuple[str, ...]:
    """The JSON pages that some signal needs, as the page of metrics does not have it."""
    pages: dict[str, None] = {}
    for rule in family.signals.values():
        for figure in rule.figures:
            if _is_told(figure, metrics):
                break
            pages.update((place.page, None) for place in figure.places if isinstance(place, Entry))
    return tuple(pages)


def values_at(page: object, keys: Sequence[str]) -> Iterator[object]:
    """What stands in a JSON page along the keys; nothing where they lead nowhere."""
    if not keys:
        yield page
        return
    key, *rest = keys
    if key == "[]":
        for item in page if isinstance(page, list) else ():
            yield from values_at(item, rest) if rest else (1,)
    elif isinstance(page, dict) and key in page:
        yield from values_at(page[key], rest)


def _by_rule(rule: SignalRule, pages: Pages) -> float | Absent:
    """The first figure that is there. Of the reasons why none is, the one that says most."""
    reasons = []
    for figure in rule.figures:
        found = _by_figure(figure, rule.combine, pages)
        if not isinstance(found, Absent):
            if rule.zero_is_missing and found == 0:
                return Absent.ALWAYS_ZERO
            number = found * rule.scale
            return number if abs(number) <= NUMBER_MOST else Absent.NO_NUMBER
        reasons.append(found)
    for reason in (Absent.NO_NUMBER, Absent.NOT_EMITTED):
        if reason in reasons:
            return reason
    return Absent.UNREADABLE


def _by_figure(figure: Figure, combine: Combine, pages: Pages) -> float | Absent:
    number = _at(figure.of, combine, pages)
    if isinstance(number, Absent):
        return number
    for place, is_divisor in ((figure.times, False), (figure.over, True)):
        if place is None:
            continue
        other = _at(place, Combine.MAX, pages)
        if isinstance(other, Absent):
            return other
        if is_divisor and other == 0:
            return Absent.NO_NUMBER
        number = number / other if is_divisor else number * other
    return number


def _at(place: Place, combine: Combine, pages: Pages) -> float | Absent:
    if isinstance(place, Entry):
        if place.page not in pages.json:
            return Absent.UNREADABLE
        found = list(values_at(pages.json[place.page], place.keys))
        numbers = [number for each in found if (number := _as_number(each)) is not None]
        if not numbers:
            return Absent.NO_NUMBER if found else Absent.NOT_EMITTED
        return _COMBINED[combine](numbers)
    if pages.metrics is None:
        return Absent.UNREADABLE
    numbers = list(_of_series(place, pages.metrics))
    meant = [number for number in numbers if abs(number) <= NUMBER_MOST]
    if meant:
        return _COMBINED[combine](meant)
    return Absent.NO_NUMBER if pages.metrics.has(place.name) and not place.labels else Absent.NOT_EMITTED


def _of_series(place: Series, metrics: Exposition) -> Iterator[float]:
    samples = metrics.samples(place.name)
    if not place.labels and place.label is None:
        yield from samples.values()
        return
    for text, number in samples.items():
        labels = labels_of(text)
        if any(labels.get(name) != value for name, value in place.labels):
            continue
        told: float | None = number if place.label is None else _as_number(labels.get(place.label))
        if told is not None:
            yield told


def _is_told(figure: Figure, metrics: Exposition | None) -> bool:
    return metrics is not None and all(
        isinstance(place, Series) and any(True for _ in _of_series(place, metrics)) for place in figure.places
    )


def _as_number(found: object) -> float | None:
    if isinstance(found, str):
        try:
            found = float(found)
        except ValueError:
            return None
    if not isinstance(found, int | float) or not abs(found) <= NUMBER_MOST:
        return None
    return float(found)
