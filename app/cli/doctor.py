"""`breakeven doctor`: what answers behind each self-hosted target, what it lacks, and which flag to add."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from app.bootstrap import examine_targets, learned_curves
from app.cli.output import AsJson, console, counted, note, write_json
from app.domain.capacity.learned import identity_of
from app.domain.diagnosis import Check, Diagnosis, Grade
from app.domain.engine import EngineReading, Health
from app.domain.figures import in_digits
from app.domain.signals import Absent, SignalName
from app.domain.target import Target
from app.ports.curves import KeptCurve
from app.settings import read_settings

app = typer.Typer(add_completion=False)

_STYLES: Final = {Grade.OK: "green", Grade.NOTE: "yellow", Grade.ACT: "bold red"}


@app.command(help="Examine self-hosted targets: what answers, what it lacks, which flag to add.")
def doctor(
    target: Annotated[str | None, typer.Argument(help="Its name in the policy; without one: all of them.")] = None,
    no_request: Annotated[
        bool, typer.Option("--no-request", help="Send no chat; usage and cached tokens are then not looked at.")
    ] = False,
    json: AsJson = False,
) -> None:
    settings = read_settings()
    found = asyncio.run(examine_targets(settings, target=target, with_request=not no_request, progress=note))
    kept = asyncio.run(learned_curves(settings))
    learned = {each.target.name: _of_that_target(each.target, kept.get(each.target.name)) for each in found}
    if json:
        write_json([{**diagnosis_view(each), "learned": learned_view(learned[each.target.name])} for each in found])
    else:
        out = console()
        for each in found:
            out.print(Text(heading(each), style="bold"))
            out.print(checks_table(each.checks))
            lines = [*signal_lines(each.reading), *learned_lines(each.reading, learned[each.target.name])]
            if lines:
                out.print(Text("\n".join(lines)))
            out.print()
    if any(each.must_act for each in found):
        raise typer.Exit(1)


def heading(diagnosis: Diagnosis) -> str:
    """Which target, and how it does in a word."""
    target = diagnosis.target
    acts = sum(check.grade is Grade.ACT for check in diagnosis.checks)
    state = "nothing must be done" if not acts else f"{acts} thing{'s' if acts > 1 else ''} must be done"
    return f"{target.name}: {target.kind} at {target.url}, {state}"


def checks_table(checks: tuple[Check, ...]) -> Table:
    """A line a check; long words are wrapped in their column."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "check", "found", "what to do"):
        table.add_column(name, no_wrap=name in {"", "check"}, overflow="fold")
    for check in checks:
        table.add_row(
            Text(check.grade.value, style=_STYLES[check.grade]),
            Text(check.what),
            Text(check.found),
            Text(check.advice),
        )
    return table


def signal_lines(reading: EngineReading) -> Iterator[str]:
    """Every signal with its number, or why there is none; of an engine that does not answer, none at all."""
    if reading.health is Health.AWAY:
        return
    signals = reading.signals
    for name in SignalName:
        if name in signals.numbers:
            yield f"  {name.value:<20} {in_digits(signals.numbers[name], significant=10)}"
        elif signals.missing.get(name) is not Absent.NOT_OFFERED:
            yield f"  {name.value:<20} missing: {signals.missing.get(name, Absent.NEVER_READ).value}"
    never = [name.value for name in SignalName if signals.missing.get(name) is Absent.NOT_OFFERED]
    if never:
        yield f"  not told by engines of this family: {', '.join(never)}"


def learned_lines(reading: EngineReading, kept: KeptCurve | None) -> Iterator[str]:
    """How fast gateways have found it to be; that nothing is kept of one that does not answer is no news."""
    known = learned_view(kept)
    if kept is None or known is None:
        if reading.health is not Health.AWAY:
            yield "  learned              nothing is kept: no gateway has timed its answers lately, or Postgres is away"
        return
    step_ms, more_ms = in_digits(known["step_ms"]), in_digits(known["step_per_sequence_ms"])
    first_ms, prefill_ms = in_digits(known["overhead_ms"]), in_digits(known["prefill_ms_per_token"], significant=3)
    tokens, answers = in_digits(known["output_tokens"], significant=3), max(1, round(known["answers"]))
    yield (
        f"  learned              a step of n takes {step_ms} + {more_ms} n ms; a first token {first_ms} ms and "
        f"{prefill_ms} ms a prompt token more; answers of {tokens} tokens; from about "
        f"{counted(answers, 'answer')}, kept {_ago(kept.age_s)} ago"
    )


def learned_view(kept: KeptCurve | None) -> dict[str, float] | None:
    """The learned curve as plain values; None: nothing that predicts is kept."""
    if kept is None:
        return None
    worth = kept.curve.after(kept.age_s).fit
    curve = worth.curve
    if curve is None:
        return None
    return {
        "step_ms": 1000 * curve.step_s,
        "step_per_sequence_ms": 1000 * curve.step_per_sequence_s,
        "prefill_ms_per_token": 1000 * curve.prefill_s_per_token,
        "overhead_ms": 1000 * curve.overhead_s,
        "output_tokens": curve.output_tokens,
        "answers": worth.answers,
        "age_s": kept.age_s,
    }


def diagnosis_view(diagnosis: Diagnosis) -> dict[str, object]:
    """The diagnosis as plain values. A signal is `{"value": …}` or `{"missing": why}`."""
    target, reading = diagnosis.target, diagnosis.reading
    signals = reading.signals
    return {
        "target": target.name,
        "engine": target.kind,
        "url": target.url,
        "must_act": diagnosis.must_act,
        "health": reading.health.value,
        "version": reading.version,
        "looks_like": list(reading.looks_like),
        "models": [{"name": model.name, "context_tokens": model.context_tokens} for model in reading.models],
        "checks": [
            {"check": check.what, "grade": check.grade.value, "found": check.found, "advice": check.advice}
            for check in diagnosis.checks
        ],
        "signals": {
            name.value: {"value": signals.numbers[name]}
            if name in signals.numbers
            else {"missing": signals.missing.get(name, Absent.NEVER_READ).value}
            for name in SignalName
        },
    }


def _of_that_target(target: Target, kept: KeptCurve | None) -> KeptCurve | None:
    """What is kept, unless it is of another engine that once had this name."""
    return kept if kept is not None and kept.curve.of == identity_of(target) else None


def _ago(age_s: float) -> str:
    for unit, seconds in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if age_s >= 2 * seconds:
            return f"{age_s / seconds:.0f} {unit}"
    return f"{age_s:.0f} seconds"
