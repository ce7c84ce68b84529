"""The real vLLM, and one gateway in front of it, for the whole run: `make test-vllm`.

Without VLLM_PYTHON, the interpreter of an environment that has vLLM, nothing here is collected: starting it takes
minutes, and the ordinary suite does not have them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.storage.embedded import EmbeddedPostgres
from app.storage.migrate import migrate
from tests.gateway_process import GatewayProcess
from tests.vllm.process import RealVllm, running_vllm
from tests.worker_process import CpuWorker, cpu_worker

__all__ = ["cpu_worker"]

IS_WANTED = "VLLM_PYTHON" in os.environ
collect_ignore_glob = [] if IS_WANTED else ["test_*.py"]

POLICY = """
targets:
  ours:
    hosting: self_hosted
    engine: vllm
    url: {vllm}/v1
    model: {model}
    can: [chat, completions, json_schema, tools]
    context_tokens: 4096
    limits: {{in_flight: 32}}
    machine: {{type: box, count: 1}}
  spare:
    hosting: self_hosted
    engine: openvino
    url: {spare}/v1
    model: {model}
    can: [chat, completions, json_schema]
    limits: {{in_flight: 32}}
    machine: {{type: box, count: 1}}
models:
  chat:
    timeouts: {{connect_s: 5, first_token_s: 120, idle_s: 120, total_s: 240}}
    rules: [{{name: ours alone, use: [ours]}}]
  safe:
    timeouts: {{connect_s: 5, first_token_s: 120, idle_s: 120, total_s: 240}}
    rules: [{{name: ours first, use: [ours, spare]}}]
rates:
  machines:
    box: {{usd_per_hour: 1}}
  targets:
    ours: {{measured: {{prefill_tokens_per_s: 200, decode_tokens_per_s: 40}}}}
    spare: {{measured: {{prefill_tokens_per_s: 900, decode_tokens_per_s: 300}}}}
"""


def pytest_report_header() -> str | None:
    return None if IS_WANTED else "tests/vllm is left out: `make test-vllm` installs vLLM and runs it"


@pytest.fixture(scope="session")
def vllm() -> Iterator[RealVllm]:
    with running_vllm(Path(os.environ["VLLM_PYTHON"]).absolute()) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left_running(vllm: RealVllm) -> Iterator[None]:
    """Each test finds vLLM idle, whatever the one before it did."""
    vllm.wait_until_idle()
    yield
    if vllm.lives:
        vllm.wait_until_idle()


@pytest.fixture(scope="session")
def gateway(
    vllm: RealVllm, cpu_worker: CpuWorker, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """Two models: `chat` is vLLM alone, `safe` has the CPU worker behind it."""
    directory = tmp_path_factory.mktemp("gateway")
    policies, data = directory / "policies", directory / "data"
    for path in (policies, data):
        path.mkdir()
    text = POLICY.format(vllm=vllm.base_url, spare=cpu_worker.base_url, model=vllm.model)
    (policies / "all.yaml").write_text(text)
    postgres.ensure_database("vllm")
    url = postgres.url("vllm")
    asyncio.run(migrate(url, now=datetime.now(UTC)))
    gateway = GatewayProcess(data=data, policies=policies, database_url=url)
    asyncio.run(gateway.start())
    yield gateway
    gateway.stop()
