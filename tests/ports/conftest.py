"""Fixtures of the suites that fake and real things both pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.upstream import upstream

__all__ = ["upstream"]

#: Suites over sockets of ours: they run on the loop that the gateway runs on, and on Python's own.
ON_BOTH_LOOPS = {"test_http.py", "test_provider.py"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name not in ON_BOTH_LOOPS:
        return {"asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
