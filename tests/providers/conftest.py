"""Fixtures of the providers' tests, and the event loops that they run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.upstream import upstream

__all__ = ["upstream"]

#: Tests of sockets run on Python's own loop too; all others on the one that the gateway runs on.
ON_BOTH_LOOPS = {"test_http.py", "test_stalls.py"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in ON_BOTH_LOOPS:
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}
