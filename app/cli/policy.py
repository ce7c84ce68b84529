"""`breakeven policy …`: what ops wrote, checked as the gateway checks it; and the door to the other policy commands."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from app.bootstrap.policy import read_policy
from app.cli.on_demand import Commands, group_of, listed
from app.cli.output import AsJson, counted, note, write_json
from app.domain.errors import PolicyInvalid
from app.domain.findings import Finding, Severity, finding_view
from app.domain.routing.policy import Policy
from app.domain.target import Hosting
from app.settings import read_settings

#: Commands in files of their own, loaded when they are asked for: name → module, function there, line in the help.
COMMANDS: Final[Commands] = {
    "explain": ("app.cli.policy_explain", "explain", "Why a request went where it went, or where one would go."),
    "diff": ("app.cli.policy_history", "diff", "What differs between two policies, and which requests would move."),
    "history": ("app.cli.policy_history", "history", "Every revision that was in force or was offered."),
    "rollback": ("app.cli.policy_history", "rollback", "Pin an old revision until it is released."),
    "release": ("app.cli.policy_history", "release", "Release the pin: the files decide again."),
    "test": ("app.cli.policy_test", "try_scenarios", "Run the scenarios; --mutate tells what they do not notice."),
    "schema": ("app.cli.policy_schema", "schema", "The JSON Schema of a policy file, for editors."),
}

app = typer.Typer(
    add_completion=False,
    cls=group_of(COMMANDS),
    no_args_is_help=True,
    help="Check the policy files, and all around them.",
)


class Format(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


@app.callback()
def policy() -> None:
    """Check the policy files, and all around them."""


@app.command(help="Every finding with file and line. Exit status 1 when the policy may not go live.")
def check(
    directory: Annotated[Path | None, typer.Argument(help="Instead of BREAKEVEN_POLICIES.")] = None,
    format: Annotated[Format, typer.Option(help="github: annotations of a pull request.")] = Format.TEXT,
    json: AsJson = False,
) -> None:
    settings = read_settings()
    if directory is not None:
        settings = settings.model_copy(update={"policies": directory})
    try:
        compiled = read_policy(settings)
    except PolicyInvalid as fault:
        _write(fault.findings, digest=None, format=Format.JSON if json else format)
        raise typer.Exit(1) from fault
    _write(compiled.findings, digest=compiled.policy.digest, format=Format.JSON if json else format)
    for name in unmeasured(compiled.policy):
        cure = f"`breakeven calibrate {name}`"
        note(f"{name} has no price in the policy: without a measured one it takes no traffic ({cure})")


def unmeasured(policy: Policy) -> list[str]:
    """Self-hosted targets in use whose tokens get their price from a measurement, which the files cannot tell of."""
    used = {target for route in policy.routes.values() for rule in route.rules for target in rule.use}
    return [
        name
        for name, target in policy.targets.items()
        if target.hosting is Hosting.SELF_HOSTED and name in used and name not in policy.given_rates
    ]


listed(app, COMMANDS)


def _write(findings: Sequence[Finding], *, digest: str | None, format: Format) -> None:
    match format:
        case Format.JSON:
            write_json(
                {"valid": digest is not None, "digest": digest, "findings": [finding_view(each) for each in findings]}
            )
        case Format.GITHUB:
            for each in findings:
                print(_annotation(each))
        case Format.TEXT:
            for each in findings:
                print(each)
            errors = sum(each.severity is Severity.ERROR for each in findings)
            warnings = len(findings) - errors
            verdict = f"valid, digest {digest}" if digest is not None else "not valid: the gateway would refuse it"
            print(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}: {verdict}")


def _annotation(finding: Finding) -> str:
    text = f"{finding.message} ({finding.mend})" if finding.mend else finding.message
    place = f"file={_escaped(finding.file)},line={finding.line},col={finding.column},title={_escaped(finding.code)}"
    return f"::{finding.severity.value} {place}::{_escaped(text)}"


def _escaped(text: str) -> str:
    for plain, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        text = text.replace(plain, code)
    return text
