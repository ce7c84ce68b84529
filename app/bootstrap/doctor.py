"""What `breakeven doctor` works with: the policy, the one HTTP client, a probe. No database."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from app.bootstrap.policy import read_policy
from app.domain.diagnosis import Diagnosis
from app.flows.doctor import examine, patients
from app.providers.credentials import NamedCredentials
from app.providers.engine_probe import HttpEngineProbe
from app.providers.http import http_client
from app.settings import Settings
from app.system import SystemClock

#: A person waits; a page may take longer than a router would let it.
PAGE_S = 5.0


async def examine_targets(
    settings: Settings, *, target: str | None, with_request: bool, progress: Callable[[str], None]
) -> list[Diagnosis]:
    """Examine the policy's self-hosted targets, or the one of this name. Raises SetupError or PolicyInvalid."""
    wanted = patients(read_policy(settings).policy, target)
    credentials = NamedCredentials(os.environ, directory=settings.credentials)
    async with contextlib.AsyncExitStack() as stack:
        client = http_client()
        stack.push_async_callback(client.close)
        return await examine(
            wanted,
            HttpEngineProbe(client, credentials, SystemClock(), page_s=PAGE_S),
            has_credential=credentials.is_present,
            with_request=with_request,
            progress=progress,
        )
