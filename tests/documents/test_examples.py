"""The library of example policies, and the shipped one, as `app.documents.mutate` sees them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.documents.compile import compile_policy
from app.documents.mutate import Fate, judged, mutants, score_of

POLICIES = Path(__file__).parents[2] / "policies"
EXAMPLES = sorted(path for path in (POLICIES / "examples").iterdir() if path.is_dir())


def files_of(directory: Path) -> Mapping[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.yaml"))}


def unnoticed(directory: Path) -> list[str]:
    files = files_of(directory)
    found = tuple(judged(mutants(files), compile_policy(files)))
    assert score_of(fate for _, fate in found).counted > 10
    return [f"{one.file}:{one.line} {one.change}" for one, fate in found if fate not in (Fate.CAUGHT, Fate.EQUIVALENT)]


def test_the_library_is_what_the_page_says() -> None:
    assert [path.name for path in EXAMPLES] == [
        "budget-aware",
        "canary",
        "cost-first",
        "latency-first",
        "multi-region",
        "night-batch",
        "privacy-first",
    ]


@pytest.mark.parametrize("directory", EXAMPLES, ids=lambda path: path.name)
def test_an_example_goes_live_without_a_finding(directory: Path) -> None:
    compiled = compile_policy(files_of(directory))
    assert not compiled.findings, "\n".join(map(str, compiled.findings))
    assert len(compiled.scenarios) >= 5


@pytest.mark.parametrize("directory", EXAMPLES, ids=lambda path: path.name)
def test_no_mistake_in_an_example_goes_unnoticed(directory: Path) -> None:
    assert unnoticed(directory) == []


@pytest.mark.parametrize("directory", EXAMPLES, ids=lambda path: path.name)
def test_an_example_says_what_it_is_for_and_what_to_take_over(directory: Path) -> None:
    remarks = [line for text in files_of(directory).values() for line in text.splitlines() if line.startswith("#")]
    assert any(line.startswith("# To take over: ") for line in remarks)
    for text in files_of(directory).values():
        assert text.startswith("# yaml-language-server: $schema=../../policy.schema.json\n")


def test_of_the_shipped_policy_only_a_preference_that_cannot_matter_goes_unnoticed() -> None:
    # The worker's marginal charge is nothing, so the cheapest order is the listed one.
    assert [change.partition(" ")[2] for change in unnoticed(POLICIES)] == [
        'rule "home while it can, hosted otherwise": `prefer: listed` became `cheapest`'
    ]
