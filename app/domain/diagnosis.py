"""What a look and a small chat say of a self-hosted target: what fits the policy, what is lacking, what to do.

Pure: the same reading, the same diagnosis. Each check is a finding in a few words and, where there is something to do,
a sentence that says what.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.domain.engine import (
    OWN_PREFIX,
    EngineFamily,
    EngineReading,
    EngineTrial,
    Health,
    Lack,
    OnAbort,
    Reports,
    ServedModel,
    WhenFull,
)
from app.domain.signals import Absent, SignalName
from app.domain.target import Target

#: Without these the gateway routes on its own counts alone.
OF_LOAD: Final = (SignalName.RUNNING, SignalName.WAITING)
#: Names of models that are listed; an engine may serve hundreds.
_MODELS_SHOWN: Final = 5


class Grade(StrEnum):
    """How much a check matters."""

    OK = "ok"
    #: Worth knowing; everything works without it.
    NOTE = "note"
    #: Something must be done: requests fail, or their money or load is not known.
    ACT = "act"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    what: str
    grade: Grade
    found: str
    #: What to do; empty: nothing.
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All checks of one target, in the order in which they should be mended."""

    target: Target
    reading: EngineReading
    checks: tuple[Check, ...]

    @property
    def must_act(self) -> bool:
        return any(check.grade is Grade.ACT for check in self.checks)


def diagnosed(
    target: Target, reading: EngineReading, trial: EngineTrial | None, *, has_credential: bool = True
) -> Diagnosis:
    """`trial` None: no request was sent. Where nobody answers nothing else is checked."""
    family = target.family or EngineFamily(name=target.kind, title=target.kind)
    checks = [*_credential(target, has_credential=has_credential), _reach(target, family, reading)]
    if reading.health is not Health.AWAY:
        is_sure = _is_sure(family, reading)
        checks += [
            _engine(target, family, reading, is_sure=is_sure),
            *_legacy(family),
            _model(target, reading),
            *_context(target, reading.model(target.model)),
            *_load(family, reading),
            *_chat(family, trial),
            _queue(target, family, is_sure=is_sure),
            _abort(family, is_sure=is_sure),
        ]
    return Diagnosis(target=target, reading=reading, checks=tuple(checks))


# ── is it there, and is it what the policy says ──────────────────────────────────────────────────────────────────────


def _credential(target: Target, *, has_credential: bool) -> Iterator[Check]:
    if target.credential is not None and not has_credential:
        found = f"{target.credential} is not there"
        yield Check(what="credential", grade=Grade.ACT, found=found, advice="Set it where the gateway runs.")


def _reach(target: Target, family: EngineFamily, reading: EngineReading) -> Check:
    what, why = "reachable", f" ({reading.faults[0]})" if reading.faults else ""
    match reading.health:
        case Health.READY:
            silent = [fault for fault in reading.faults if family.health and fault.startswith(family.health)]
            if silent:
                found = f"it lists its models, and does not say whether it is ready ({silent[0]})"
                return Check(what=what, grade=Grade.NOTE, found=found)
            said = "lists its models" if family.health is None else "says that it is ready"
            return Check(what=what, grade=Grade.OK, found=f"it answers and {said}")
        case Health.UNKNOWN:
            found = f"it answers, and does not say whether it is ready{why}"
            return Check(what=what, grade=Grade.NOTE, found=found)
        case Health.NOT_READY:
            advice = "Wait until its model is loaded, or look into its log."
            return Check(what=what, grade=Grade.ACT, found="it answers, and says that it cannot serve", advice=advice)
        case Health.AWAY:
            advice = f"Start it, or correct `url` of {target.name} in the policy."
            found = f"it does not answer: {reading.faults[0] if reading.faults else 'nobody is there'}"
            return Check(what=what, grade=Grade.ACT, found=found, advice=advice)


def _is_sure(family: EngineFamily, reading: EngineReading) -> bool:
    """What only engines of this family say was seen: any server may answer in OpenAI's dialect."""
    return family.name in reading.looks_like or any(name in reading.signals.numbers for name in family.signals)


def _engine(target: Target, family: EngineFamily, reading: EngineReading, *, is_sure: bool) -> Check:
    version = f" {reading.version}" if reading.version else ""
    seen = reading.looks_like
    if family.name in seen or (is_sure and (not seen or family.name.startswith(OWN_PREFIX))):
        return Check(what="engine", grade=Grade.OK, found=f"{family.title}{version}")
    if not seen:
        return _unknown_engine(target, family, version=version)
    # Our worker has vLLM's marks too.
    likely = "openvino" if "openvino" in seen else seen[0]
    if family.name == "openai_compatible":
        advice = f"Write `engine: {likely}` for {target.name}, so that its load is read."
        return Check(what="engine", grade=Grade.NOTE, found=f"it looks like {likely}{version}", advice=advice)
    found = f"the policy says {family.name}, and what answers looks like {' or '.join(seen)}{version}"
    advice = f"Write `engine: {likely}` for {target.name}, or correct its `url`."
    return Check(what="engine", grade=Grade.ACT, found=found, advice=advice)


def _unknown_engine(target: Target, family: EngineFamily, *, version: str) -> Check:
    """It answers like one, and so may any server."""
    if family.name == "openai_compatible":
        found = f"it answers like {family.title}{version}; which engine that is cannot be told"
        advice = f"Where it is an engine that has a word of its own, write that as `engine` of {target.name}."
    else:
        found = (
            f"it answers, and nothing that it says shows that it is {family.title}{version}; without figures of its "
            "own no prediction of a first token is corrected by them"
        )
        advice = f"Make sure that `engine` and `url` of {target.name} are right."
    return Check(what="engine", grade=Grade.NOTE, found=found, advice=advice)


def _legacy(family: EngineFamily) -> Iterator[Check]:
    if family.legacy:
        yield Check(what="engine's future", grade=Grade.NOTE, found=f"{family.title} is legacy", advice=family.legacy)


def _model(target: Target, reading: EngineReading) -> Check:
    if reading.model(target.model) is not None:
        return Check(what="model", grade=Grade.OK, found=f"{target.model} is served")
    if not reading.models:
        found = "it does not list its models, so that its model cannot be checked"
        return Check(what="model", grade=Grade.NOTE, found=found)
    names = [model.name for model in reading.models]
    more = f" and {len(names) - _MODELS_SHOWN} more" if len(names) > _MODELS_SHOWN else ""
    found = f"{target.model} is not served; {', '.join(names[:_MODELS_SHOWN])}{more} is"
    advice = f"Write `model: {names[0]}` for {target.name}, or start the engine with the name {target.model}."
    return Check(what="model", grade=Grade.ACT, found=found, advice=advice)


def _context(target: Target, model: ServedModel | None) -> Iterator[Check]:
    served = None if model is None else model.context_tokens
    if served is None:
        return
    written = target.context_tokens
    if written is None:
        found = f"{served} tokens, and the policy names none"
        advice = f"Write `context_tokens: {served}` for {target.name}, so that longer prompts go elsewhere."
        yield Check(what="context", grade=Grade.NOTE, found=found, advice=advice)
    elif written > served:
        found = f"{served} tokens, and the policy says {written}"
        advice = f"Write `context_tokens: {served}` for {target.name}; longer prompts fail there."
        yield Check(what="context", grade=Grade.ACT, found=found, advice=advice)
    else:
        kept = "" if written == served else f"; the policy keeps to {written} of them"
        yield Check(what="context", grade=Grade.OK, found=f"{served} tokens{kept}")


# ── what it tells ────────────────────────────────────────────────────────────────────────────────────────────────────


def _load(family: EngineFamily, reading: EngineReading) -> Iterator[Check]:
    signals = reading.signals
    if not family.signals:
        found = (
            f"{family.title} tells none: the gateway counts what it sends itself, and no prediction of a first token "
            "is corrected by what the engine says"
        )
        yield Check(what="load", grade=Grade.NOTE, found=found)
        return
    lacking = [name for name in family.signals if name not in signals.numbers]
    blind = [name for name in OF_LOAD if name in family.signals and name in lacking]
    told = f"{len(signals.numbers)} of {len(family.signals)} signals"
    if not lacking:
        yield Check(what="load", grade=Grade.OK, found=told)
    else:
        slots = lacking == [SignalName.SLOTS]
        found = f"{told}; missing: {', '.join(lacking)}{_why(family, lacking, reading)}"
        advice = _advice(family, Lack.SLOTS if slots else Lack.METRICS)
        if blind and not advice:
            advice = "Let its page of figures be read from here."
        yield Check(what="load", grade=Grade.ACT if blind else Grade.NOTE, found=found, advice=advice)
    if SignalName.SLOTS in lacking and len(lacking) > 1 and family.flags_for(Lack.SLOTS):
        yield Check(what="slots", grade=Grade.NOTE, found="not told", advice=_advice(family, Lack.SLOTS))
    if signals.broken_lines:
        found = f"{signals.broken_lines} lines of its page of figures make no sense"
        yield Check(what="figures", grade=Grade.NOTE, found=found)


def _why(family: EngineFamily, lacking: list[SignalName], reading: EngineReading) -> str:
    reasons = sorted({reading.signals.missing.get(name, Absent.NEVER_READ) for name in lacking})
    page = (family.metrics or "").partition("?")[0]
    of_page = [fault for fault in reading.signals.faults if page and fault.startswith(page)]
    return f" ({of_page[0] if of_page else '; '.join(reasons)})"


def _chat(family: EngineFamily, trial: EngineTrial | None) -> Iterator[Check]:
    if trial is None:
        found = "no request was sent: usage, cached tokens and request ids were not looked at"
        yield Check(what="chat", grade=Grade.NOTE, found=found)
        return
    if trial.failure is not None:
        advice = "Mend that first: whatever the gateway sends there fails alike."
        yield Check(what="chat", grade=Grade.ACT, found=trial.failure, advice=advice)
        return
    ttft = "" if trial.ttft_s is None else f", the first token after {1000 * trial.ttft_s:.0f} ms"
    yield Check(what="chat", grade=Grade.OK, found=f"one small streamed chat was answered{ttft}")
    if not trial.usage:
        advice = _advice(family, Lack.STREAM_USAGE) or "Streams from there are booked by an estimate."
        yield Check(what="usage on streams", grade=Grade.ACT, found="not reported", advice=advice)
        return
    yield Check(what="usage on streams", grade=Grade.OK, found="reported")
    yield _cached(family, trial)
    for what, is_there, lack in (
        ("timings", trial.timings, Lack.TIMINGS),
        ("request ids", trial.request_id, Lack.REQUEST_ID),
    ):
        advice = _advice(family, lack)
        if is_there:
            yield Check(what=what, grade=Grade.OK, found="reported")
        elif advice:
            yield Check(what=what, grade=Grade.NOTE, found="not reported", advice=advice)


def _cached(family: EngineFamily, trial: EngineTrial) -> Check:
    what = "cached tokens"
    if trial.cached_tokens:
        return Check(what=what, grade=Grade.OK, found="reported")
    advice = _advice(family, Lack.CACHED_TOKENS)
    if family.cached_tokens is Reports.IF_TOLD and advice:
        return Check(what=what, grade=Grade.ACT, found="not reported", advice=advice)
    found = (
        f"{family.title} never reports them; cached prompts are charged as computed ones"
        if family.cached_tokens is Reports.NEVER
        else "not reported for a prompt that was sent twice; cached prompts are charged as computed ones"
    )
    return Check(what=what, grade=Grade.NOTE, found=found)


# ── what is known of its family, and cannot be tried on an engine that serves ────────────────────────────────────────


def _queue(target: Target, family: EngineFamily, *, is_sure: bool) -> Check:
    found = f"{family.title} {family.when_full} (known of its family, not tried)"
    if family.when_full is WhenFull.REFUSES and is_sure:
        return Check(what="full queue", grade=Grade.OK, found=found)
    advice = _advice(family, Lack.QUEUE_LIMIT)
    if target.in_flight_most is None:
        advice = (
            f"Write `limits: {{in_flight: N}}` for {target.name}, so that the gateway does not overfill it. {advice}"
        )
    return Check(what="full queue", grade=Grade.NOTE, found=found, advice=advice.strip())


def _abort(family: EngineFamily, *, is_sure: bool) -> Check:
    found = f"when a caller leaves, {family.title} {family.on_abort} (known of its family, not tried)"
    grade = Grade.OK if is_sure and family.on_abort is not OnAbort.UNKNOWN else Grade.NOTE
    return Check(what="abort", grade=grade, found=found)


def _advice(family: EngineFamily, lack: Lack) -> str:
    """Which flags mend it, and why; empty: none is known."""
    return " ".join(f"{flag.add}: {flag.because}" for flag in family.flags_for(lack))
