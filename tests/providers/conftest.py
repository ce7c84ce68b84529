"""Fixtures of the providers' tests, and the two event loops that sockets must work on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.upstream import upstream

__all__ = ["upstream"]

#: Modules whose tests open sockets of ours: they run on the loop that the gateway runs on, and on Python's own.
ON_BOTH_LOOPS = {"test_http11.py", "test_http.py", "test_openai_native.py", "test_deadline.py"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name not in ON_BOTH_LOOPS:
        return {"asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
