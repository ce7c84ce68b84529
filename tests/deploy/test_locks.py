"""The lock files: everything pinned, everything hashed, and nothing heavy where it does not belong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "deploy" / "locks").glob("*.txt"))
_PINNED = re.compile(r"([a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9_,-]+\])?==([^ ;\\]+)(?: ; [^\\]+)? \\")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}(?: \\)?")


def pins(lock: Path) -> dict[str, set[str]]:
    """Package → versions. Fails on any line that is neither a pin, a hash nor a comment."""
    found: dict[str, set[str]] = {}
    hashes = 1
    for line in lock.read_text().splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("--hash"):
            assert _HASH.fullmatch(text), f"{lock.name}: {text}"
            hashes += 1
            continue
        match = _PINNED.fullmatch(text)
        assert match, f"{lock.name}: {text} is not pinned"
        assert hashes, f"{lock.name}: what stands before {text} has no hash"
        found.setdefault(match[1], set()).add(match[2])
        hashes = 0
    assert hashes, f"{lock.name}: its last package has no hash"
    return found


def direct(table: str | None = None) -> set[str]:
    """The names that the project asks for itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] if table is None else project["optional-dependencies"][table]
    return {re.split(r"[\[<>=;! ]", line)[0].lower() for line in wanted}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_is_pinned_and_hashed(lock: Path) -> None:
    assert pins(lock)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_no_lock_names_an_index_or_a_place_of_its_own(lock: Path) -> None:
    assert not re.search(r"(?m)^\s*(-i|--index|--extra-index|--find-links|-f|-e)|://|file:", lock.read_text())


def test_the_gateway_installs_without_any_engine() -> None:
    heavy = {"torch", "vllm", "openvino", "openvino-genai", "numpy", "litellm", "transformers"}
    assert not heavy & set(pins(ROOT / "deploy/locks/gateway.txt"))


@pytest.mark.parametrize(
    ("name", "extras"), [("gateway", ()), ("worker", ("worker",)), ("dev", ("worker", "dev")), ("vllm", ("vllm",))]
)
def test_a_lock_holds_what_the_project_asks_for(name: str, extras: tuple[str, ...]) -> None:
    locked = set(pins(ROOT / f"deploy/locks/{name}.txt"))
    wanted = direct().union(*(direct(extra) for extra in extras))
    assert {package.replace("_", "-") for package in wanted} <= {package.replace("_", "-") for package in locked}


def test_gateway_worker_and_dev_agree_on_every_version() -> None:
    gateway, worker, dev = (pins(ROOT / f"deploy/locks/{name}.txt") for name in ("gateway", "worker", "dev"))
    assert gateway.items() <= worker.items()
    assert worker.items() <= dev.items()


def test_the_gateway_has_few_direct_dependencies() -> None:
    assert len(direct()) <= 25
