"""From YAML text to the policy in force. The only door: text in, values or findings out, no I/O.

source      text → a page whose nodes remember their place
gather      pages → entries of the right shape, by name
lint        what a schema cannot see
conditions  `when` → something that can be asked
scenario    tests beside the rules → worlds to decide in
compile     all of it → one `Policy` and its digest
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from app.documents.assemble import assembled
from app.documents.condition_terms import Fault
from app.documents.conditions import CelCondition, compile_condition
from app.documents.engine_tables import NO_FAMILIES
from app.documents.gather import Gathered, Placed, gather
from app.documents.lint import lint_links, lint_models, lint_targets
from app.documents.lint_budgets import lint_budgets
from app.documents.lint_conditions import lint_conditions
from app.documents.lint_engines import lint_engine_links, lint_engines
from app.documents.lint_rates import lint_rates
from app.documents.lint_reads import lint_reads
from app.documents.lint_rules import lint_rule_links, lint_rules
from app.documents.lint_scenarios import lint_scenarios
from app.documents.page import Page, plain
from app.documents.policy import WrittenModel
from app.documents.price_lists import NO_CATALOGUE
from app.documents.scenario import gather_scenarios
from app.documents.scenario_values import scenario_values
from app.documents.source import read
from app.domain.engine import EngineFamily
from app.domain.errors import PolicyInvalid
from app.domain.findings import Finding, Severity
from app.domain.routing.policy import Policy
from app.domain.routing.scenario import Scenario, Verdict, run_scenarios
from app.ports.prices import Catalogue

_DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A policy that may go live, and its warnings, in the order of the files."""

    policy: Policy
    findings: tuple[Finding, ...]
    scenarios: tuple[Scenario, ...] = ()


def compile_policy(
    files: Mapping[str, str],
    *,
    catalogue: Catalogue = NO_CATALOGUE,
    families: Mapping[str, EngineFamily] = NO_FAMILIES,
) -> Compiled:
    """The policy that these files (name → text) write together.

    The order of the mapping does not matter Raises PolicyInvalid with every finding, warnings too, when one of them
    is an error or a scenario fails; raises nothing else, whatever the text. List prices come out of `catalogue`, what
    is known of engines out of `families`, by the words of `engine`.
    """
    compiled = compile_untested(files, catalogue=catalogue, families=families)
    failed = [
        finding_of(verdict) for verdict in run_scenarios(compiled.scenarios, compiled.policy) if not verdict.passed
    ]
    if failed:
        raise PolicyInvalid(_told_once([*compiled.findings, *failed]))
    return compiled


def finding_of(verdict: Verdict) -> Finding:
    """A failed scenario as the error that keeps the policy from going live."""
    scenario = verdict.scenario
    return Finding(
        file=scenario.file,
        line=scenario.line,
        column=scenario.column,
        severity=Severity.ERROR,
        code="scenario",
        message=f'the scenario "{scenario.name}" fails: {"; ".join(verdict.differences)}',
        mend=(
            "scenarios are tests of the rules: mend the rules, or where the edit means it so, what this one expects in "
            f"{scenario.file}; `breakeven policy test` runs them all"
        ),
    )


def compile_untested(
    files: Mapping[str, str],
    *,
    catalogue: Catalogue = NO_CATALOGUE,
    families: Mapping[str, EngineFamily] = NO_FAMILIES,
) -> Compiled:
    """As `compile_policy`, but the scenarios have not been run."""
    pages, findings = _read_all(files)
    whole = not findings
    gathered, faults = gather(pages)
    findings.extend(faults)
    scenarios, faults = gather_scenarios(pages)
    findings.extend(faults)
    conditions = _conditions(gathered, findings)
    findings.extend(lint_targets(gathered))
    findings.extend(lint_engines(gathered))
    findings.extend(lint_models(gathered))
    findings.extend(lint_rules(gathered))
    findings.extend(lint_conditions(gathered, conditions))
    if whole and gathered.complete:
        findings.extend(lint_links(gathered))
        findings.extend(lint_engine_links(gathered))
        findings.extend(lint_rule_links(gathered, conditions))
        findings.extend(lint_reads(gathered, conditions))
        findings.extend(lint_budgets(gathered, conditions))
        findings.extend(lint_rates(gathered, catalogue=catalogue))
        findings.extend(lint_scenarios(scenarios, gathered, budgets=gathered.budgets))
        findings.extend(_nothing_written(gathered))
    in_order = _told_once(findings)
    if any(finding.severity is Severity.ERROR for finding in in_order):
        raise PolicyInvalid(in_order)
    policy = assembled(gathered, conditions=conditions, digest=digest_of(files), catalogue=catalogue, families=families)
    return Compiled(policy=policy, findings=in_order, scenarios=scenario_values(scenarios, policy))


def digest_of(files: Mapping[str, str]) -> str:
    """Names this very set of files: the first 16 hex digits of SHA-256 over names and texts, sorted by name."""
    digest = sha256()
    for name, text in sorted(files.items()):
        for part in (name, text):
            written = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(written) + written)
    return digest.hexdigest()[:_DIGEST_DIGITS]


def _read_all(files: Mapping[str, str]) -> tuple[list[Page], list[Finding]]:
    pages: list[Page] = []
    findings: list[Finding] = []
    for name, text in sorted(files.items()):
        page, faults = read(file=name, text=text)
        findings.extend(faults)
        if page is not None:
            pages.append(page)
    return pages, findings


def _conditions(gathered: Gathered, findings: list[Finding]) -> Mapping[tuple[str, int], CelCondition]:
    """Every `when` that can be asked, by model and place of its rule; the others' faults go to `findings`."""
    conditions: dict[tuple[str, int], CelCondition] = {}
    for model, placed in gathered.models.items():
        for index, text in _whens(placed):
            compiled = compile_condition(text)
            if isinstance(compiled, CelCondition):
                conditions[model, index] = compiled
                findings.extend(_told(placed, index, compiled.cautions, severity=Severity.WARNING))
            else:
                findings.extend(_told(placed, index, compiled, severity=Severity.ERROR))
    return conditions


def _whens(placed: Placed[WrittenModel]) -> Iterator[tuple[int, str]]:
    """The conditions of a model by the place of their rule, whatever else of it has the wrong shape."""
    match plain(placed.page.node((*placed.path, "rules"))):
        case list(rules):
            for index, rule in enumerate(rules):
                match rule:
                    case {"when": str(text)}:
                        yield index, text


def _told(
    placed: Placed[WrittenModel], index: int, faults: Iterable[Fault], *, severity: Severity
) -> Iterator[Finding]:
    path = (*placed.path, "rules", index, "when")
    for fault in faults:
        at = placed.page.mark_within(path, offset=fault.offset)
        yield placed.page.finding("condition", fault.message, at=at, mend=fault.mend, severity=severity)


def _nothing_written(gathered: Gathered) -> Iterator[Finding]:
    for kind, entries in (("targets", gathered.targets), ("models", gathered.models)):
        if not entries:
            message = f"no file has any {kind}"
            mend = f"write them under `{kind}:` in policies/{kind}.yaml"
            yield Finding(
                file="policies", line=0, column=0, severity=Severity.ERROR, code="empty", message=message, mend=mend
            )


def _told_once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """In the order of the files; of several errors at one place the first stands, as the others follow from it."""
    kept: dict[tuple[str, int, int], list[Finding]] = {}
    for finding in findings:
        here = kept.setdefault((finding.file, finding.line, finding.column), [])
        if finding.line == 0 or not any(one.severity is Severity.ERROR for one in here):
            here.append(finding)
    return tuple(sorted(finding for here in kept.values() for finding in here))
