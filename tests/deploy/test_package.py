"""The wheel: the package, what it ships beside its code, and its command."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """File → text of a freshly built wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    build = f"import hatchling.build as backend; print(backend.build_wheel({str(directory)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True)
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name).decode(errors="replace") for name in opened.namelist()}


def test_every_module_is_inside(names: dict[str, str]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "app").rglob("*.py")}
    assert modules <= set(names)


def test_the_migrations_and_the_shipped_policy_are_inside(names: dict[str, str]) -> None:
    assert "app/_shipped/migrations/env.py" in names
    for path in (ROOT / "policies").glob("*.yaml"):
        assert names[f"app/_shipped/policies/{path.name}"] == path.read_text()


def test_tests_and_deployment_stay_out(names: dict[str, str]) -> None:
    assert {name.split("/")[0] for name in names} <= {
        "app",
        *(name.split("/")[0] for name in names if ".dist-info" in name),
    }
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in names)


def test_it_brings_the_command_and_names_its_licence(names: dict[str, str]) -> None:
    entries = next(text for name, text in names.items() if name.endswith("entry_points.txt"))
    assert "breakeven = app.__main__:main" in entries
    metadata = next(text for name, text in names.items() if name.endswith("METADATA"))
    assert "License-Expression: Apache-2.0" in metadata
