"""`breakeven policy test`: the scenarios beside the rules, and whether they would notice a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from app.cli.output import AsJson, note, write_json, write_table
from app.documents.compile import Compiled, compile_untested
from app.documents.mutate import Fate, Mutant, Score, judged, mutants, score_of
from app.domain.errors import PolicyInvalid
from app.domain.findings import Finding, finding_view
from app.domain.routing.plan import Refusal
from app.domain.routing.scenario import Verdict, run_scenarios
from app.settings import read_settings
from app.storage.price_catalogue import PackagedCatalogue
from app.storage.shelf import PolicyShelf

_Judged = Sequence[tuple[Mutant, Fate]]


def try_scenarios(
    directory: Annotated[Path | None, typer.Argument(help="Instead of BREAKEVEN_POLICIES.")] = None,
    mutate: Annotated[
        bool, typer.Option("--mutate", help="Change the policy in one place after another; name what nobody notices.")
    ] = False,
    least: Annotated[
        float | None, typer.Option(min=0, max=100, help="With --mutate: fail below this score, in percent.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Run every scenario. Exit status 1 when one fails, or the score is below --least."""
    if least is not None and not mutate:
        raise typer.BadParameter("it is the least score of --mutate: add that", param_hint="--least")
    try:
        files = PolicyShelf(directory or read_settings().policies).read()
        compiled = compile_untested(files, catalogue=PackagedCatalogue())
    except PolicyInvalid as fault:
        _write_findings(fault.findings, json=json)
        raise typer.Exit(1) from fault
    verdicts = run_scenarios(compiled.scenarios, compiled.policy)
    failed = sum(not verdict.passed for verdict in verdicts)
    changed = _mutated(files, compiled) if mutate and not failed else None
    if json:
        write_json(_view(verdicts, changed))
    else:
        _write_verdicts(verdicts)
        if changed is not None:
            _write_score(changed)
        elif mutate:
            note("the policy is not changed while scenarios fail: mend them first")
    score = None if changed is None else score_of(fate for _, fate in changed)
    if failed or (score is not None and least is not None and score.percent < least):
        raise typer.Exit(1)


def _mutated(files: Mapping[str, str], compiled: Compiled) -> _Judged:
    """Every mutant and its fate; a bar tells on a terminal how far it is."""
    todo = mutants(files, catalogue=PackagedCatalogue())
    out = Console(stderr=True)
    running: Iterable[tuple[Mutant, Fate]] = judged(todo, compiled)
    return tuple(
        track(running, total=len(todo), description="mutants", console=out, transient=True, disable=not out.is_terminal)
    )


def _write_findings(findings: Sequence[Finding], *, json: bool) -> None:
    """Why there is nothing to test yet."""
    if json:
        write_json({"passed": False, "findings": [finding_view(finding) for finding in findings]})
        return
    for finding in findings:
        print(finding)
    print("not valid, so no scenario was run: mend it first")


# ── for people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _write_verdicts(verdicts: Sequence[Verdict]) -> None:
    if not verdicts:
        print("no file has any scenarios: write them under `scenarios:`, as policies/README.md shows")
        return
    rows = [
        (
            "passed" if verdict.passed else "FAILED",
            f"{verdict.scenario.file}:{verdict.scenario.line}",
            verdict.scenario.name,
            verdict.scenario.facts.model,
            verdict.decision.rule or "none",
            _outcome(verdict),
        )
        for verdict in verdicts
    ]
    head = ("", "where", "scenario", "model", "rule", "asked in this order")
    write_table(head=head, rows=rows, words=len(head))
    for verdict in verdicts:
        for difference in verdict.differences:
            print(f"{verdict.scenario.file}:{verdict.scenario.line}: {verdict.scenario.name}: {difference}")
    failed = sum(not verdict.passed for verdict in verdicts)
    print(f"{len(verdicts)} scenarios, {failed} failed")
    if failed:
        files = sorted({verdict.scenario.file for verdict in verdicts if not verdict.passed})
        note(
            "scenarios are tests of the rules, and the policy does not go live while one fails: mend the rules, or "
            f"where the edit means it so, what they expect in {', '.join(files)} (policies/README.md, `scenarios`)"
        )


def _outcome(verdict: Verdict) -> str:
    decision = verdict.decision
    return f"refused: {decision.reason.value}" if isinstance(decision, Refusal) else ", ".join(decision.order)


def _write_score(changed: _Judged) -> None:
    for mutant, fate in changed:
        if fate is Fate.SURVIVED:
            print(f"{mutant.file}:{mutant.line}:{mutant.column}: survived: {mutant.change}")
    score = score_of(fate for _, fate in changed)
    counts = ", ".join(f"{score.fates[fate]} {fate.value}" for fate in Fate)
    print(f"{score.percent:.1f} % of {score.counted} mutants noticed ({counts})")


# ── for programs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _view(verdicts: Sequence[Verdict], changed: _Judged | None) -> dict[str, object]:
    return {
        "findings": [],
        "passed": all(verdict.passed for verdict in verdicts),
        "scenarios": [verdict_view(verdict) for verdict in verdicts],
        "mutation": None if changed is None else _mutation_view(changed, score_of(fate for _, fate in changed)),
    }


def verdict_view(verdict: Verdict) -> dict[str, object]:
    """A verdict as plain values."""
    decision = verdict.decision
    return {
        "name": verdict.scenario.name,
        "file": verdict.scenario.file,
        "line": verdict.scenario.line,
        "passed": verdict.passed,
        "differences": list(verdict.differences),
        "model": verdict.scenario.facts.model,
        "rule": decision.rule,
        "order": [] if isinstance(decision, Refusal) else list(decision.order),
        "refused": decision.reason.value if isinstance(decision, Refusal) else None,
    }


def _mutation_view(changed: _Judged, score: Score) -> dict[str, object]:
    return {
        "percent": round(score.percent, 2),
        "counted": score.counted,
        **{fate.value: score.fates[fate] for fate in Fate},
        "survivors": [
            {"file": mutant.file, "line": mutant.line, "column": mutant.column, "change": mutant.change}
            for mutant, fate in changed
            if fate is Fate.SURVIVED
        ],
    }
