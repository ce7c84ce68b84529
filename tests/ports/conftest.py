"""Fixtures of the suites that fake and real things both pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.upstream import upstream
from tests.worker_process import cpu_worker

__all__ = ["cpu_worker", "upstream"]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Sockets of our own work on both loops; a provider is met on the one that the gateway runs on."""
    match item.path.name:
        case "test_http.py" | "test_deadline.py":
            return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
        case "test_provider.py" | "test_engines.py":
            return {"uvloop": uvloop.new_event_loop}
        case _:
            return {"asyncio": asyncio.new_event_loop}
