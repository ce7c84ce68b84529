"""From what is written under `engines`, and what the product knows, to the families in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from app.documents.engines import WrittenEngine, WrittenError, WrittenSignal
from app.domain.engine import EngineFamily, Sooner, Spelling
from app.domain.fault import FaultKind
from app.domain.signals import Combine, SignalName, SignalRule, entry, rule

#: For who compiles without any engine at hand.
NO_FAMILIES: Mapping[str, EngineFamily] = MappingProxyType({})
#: What an own engine begins with that does not say `like`.
PLAIN = "openai_compatible"


def engine_families(
    written: Mapping[str, WrittenEngine], known: Mapping[str, EngineFamily]
) -> Mapping[str, EngineFamily]:
    """All families: those that are known, with what is written put over them, and those of the policy's own."""
    return {**known, **{name: _family(name, each, known) for name, each in written.items()}}


def _family(name: str, written: WrittenEngine, known: Mapping[str, EngineFamily]) -> EngineFamily:
    base = known.get(name) or known.get(written.like or PLAIN) or EngineFamily(name=name, title=name)
    own = name not in known
    signals = {**base.signals}
    for word, signal in written.signals.items():
        signals.pop(SignalName(word), None)
        if signal.of:
            signals[SignalName(word)] = _rule(signal)
    return replace(
        base,
        name=name,
        title=name if own else base.title,
        metrics=written.metrics or base.metrics,
        health=written.health or base.health,
        version=base.version if written.version is None else (entry(written.version), *base.version),
        signals=MappingProxyType(signals),
        errors=(*(_spelling(error) for error in written.errors), *base.errors),
        sooner=base.sooner if written.priority is None else Sooner(written.priority),
        step_tokens=written.step_tokens or base.step_tokens,
    )


def _rule(written: WrittenSignal) -> SignalRule:
    return rule(
        *written.of,
        by=Combine(written.by),
        scale=float(written.scale),
        zero_is_missing=written.zero_is_missing,
    )


def _spelling(written: WrittenError) -> Spelling:
    return Spelling(
        kind=FaultKind(written.kind),
        statuses=frozenset(written.statuses),
        codes=frozenset(code.lower() for code in written.codes),
        phrases=tuple(phrase.lower() for phrase in written.phrases),
    )
