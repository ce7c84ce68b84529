"""`app.providers.http` is what `app.providers.exchange` says, in the clear and under TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.providers.exchange import HttpClient
from app.providers.http import http_client
from tests.certificates import ROOTS_FILE, serving
from tests.ports.http_suite import HttpSuite
from tests.upstream import ScriptedUpstream


class TestInTheClear(HttpSuite):
    @pytest.fixture
    async def client(self) -> AsyncIterator[HttpClient]:
        client = http_client()
        yield client
        await client.close()


class TestUnderTls(HttpSuite):
    @pytest.fixture
    async def client(self) -> AsyncIterator[HttpClient]:
        client = http_client(roots_file=ROOTS_FILE)
        yield client
        await client.close()

    @pytest.fixture
    async def upstream(self) -> AsyncIterator[ScriptedUpstream]:
        async with ScriptedUpstream(tls=serving("good")) as upstream:
            yield upstream
