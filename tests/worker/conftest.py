"""The real engine, inside this process for what needs its steps one by one, and as a whole worker for the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from app.worker.openvino import EngineSettings, OpenVinoPipeline
from app.worker.prefix_account import PrefixAccount
from app.worker.weights import find_weights
from tests.worker.engine import Inside
from tests.worker_process import CpuWorker, cpu_worker

__all__ = ["cpu_worker"]


@pytest.fixture(scope="session")
def one_token_a_step() -> tuple[OpenVinoPipeline, PrefixAccount]:
    """An engine that computes exactly one token a step, with a cache of 24 blocks: what it reuses can be counted."""
    settings = EngineSettings(weights=find_weights(), max_num_seqs=8, threads=1, cache_gb=1)
    pipeline = OpenVinoPipeline(settings, step_tokens=1, cache_blocks=24)
    account, _ = pipeline.warm_up(lambda *_: None)
    return pipeline, account


@pytest.fixture(scope="session")
def inside() -> Inside:
    """An engine and its scheduler as the worker has them, with a cache of 64 blocks that is soon full."""
    settings = EngineSettings(weights=find_weights(), max_num_seqs=8, threads=1, cache_gb=1)
    return Inside(OpenVinoPipeline(settings, cache_blocks=64), max_num_seqs=8)


@pytest.fixture
async def http(cpu_worker: CpuWorker) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the session's worker."""
    async with aiohttp.ClientSession(cpu_worker.base_url) as session:
        yield session
