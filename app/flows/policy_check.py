"""What would become of candidate files, were they on the shelf: every finding, and every scenario's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.documents.compile import compile_untested, digest_of, finding_of
from app.domain.errors import PolicyInvalid
from app.domain.findings import Finding, Severity, finding_view
from app.domain.routing.scenario import Verdict, run_scenarios
from app.flows.policy_archive import PolicyArchive
from app.ports.prices import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the files came to. Without verdicts when they have errors of their own: then nothing can be decided."""

    digest: str
    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...] = ()

    @property
    def is_valid(self) -> bool:
        """The files may go live."""
        return not any(finding.severity is Severity.ERROR for finding in self.findings)


async def check_files(archive: PolicyArchive, files: Mapping[str, str]) -> Checked:
    """Compile them and run their scenarios, off the event loop. Nothing is kept and nothing goes in force."""
    return await archive.compiled.take_a_turn(lambda: _checked(files, catalogue=archive.compiled.catalogue))


def checked_view(checked: Checked) -> dict[str, object]:
    """What the files came to, as a JSON-ready mapping."""
    return {
        "valid": checked.is_valid,
        "digest": checked.digest,
        "findings": [finding_view(finding) for finding in checked.findings],
        "scenarios": [
            {
                "name": verdict.scenario.name,
                "file": verdict.scenario.file,
                "line": verdict.scenario.line,
                "passed": verdict.passed,
                "differences": list(verdict.differences),
            }
            for verdict in checked.verdicts
        ],
    }


def _checked(files: Mapping[str, str], *, catalogue: Catalogue) -> Checked:
    digest = digest_of(files)
    try:
        compiled = compile_untested(files, catalogue=catalogue)
    except PolicyInvalid as fault:
        return Checked(digest=digest, findings=fault.findings)
    verdicts = tuple(run_scenarios(compiled.scenarios, compiled.policy))
    failed = [finding_of(verdict) for verdict in verdicts if not verdict.passed]
    return Checked(digest=digest, findings=tuple(sorted([*compiled.findings, *failed])), verdicts=verdicts)
