"""`app.providers.http11` and `app.providers.http` both are what `app.providers.exchange` says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.providers.exchange import HttpClient
from app.providers.http import AiohttpClient, http_client
from app.providers.http11 import Http11Client
from tests.ports.http_suite import HttpSuite


class TestOurOwn(HttpSuite):
    @pytest.fixture
    async def client(self) -> AsyncIterator[HttpClient]:
        client = Http11Client()
        yield client
        await client.close()


class TestAiohttp(HttpSuite):
    @pytest.fixture
    async def client(self) -> AsyncIterator[HttpClient]:
        client = AiohttpClient()
        yield client
        await client.close()


class TestTheOneOfTheProcess(HttpSuite):
    @pytest.fixture
    async def client(self) -> AsyncIterator[HttpClient]:
        client = http_client()
        yield client
        await client.close()
