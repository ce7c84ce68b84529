"""What `breakeven doctor` works with: the policy, the one HTTP client, a probe; and what gateways have learned, where
Postgres is there. It starts none, and works without."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping

from app.bootstrap.policy import read_policy
from app.bootstrap.postgres import url_in_use
from app.domain.diagnosis import Diagnosis
from app.domain.errors import SetupError
from app.flows.doctor import examine, not_examined, patients
from app.ports import BooksAway
from app.ports.curves import KeptCurve
from app.providers.credentials import NamedCredentials
from app.providers.engine_probe import HttpEngineProbe
from app.providers.http import http_client
from app.settings import Settings
from app.storage.curve_book import PostgresCurveBook
from app.storage.engine import Database
from app.system import SystemClock

#: A person waits; a page may take longer than a router would let it.
PAGE_S = 5.0
#: … and no longer for what is only worth knowing.
BOOKS_S = 2.0


async def examine_targets(
    settings: Settings, *, target: str | None, with_request: bool, progress: Callable[[str], None]
) -> list[Diagnosis]:
    """Examine the policy's self-hosted targets, or the one of this name; `progress` is told who is left out. Raises
    SetupError or PolicyInvalid."""
    policy = read_policy(settings).policy
    wanted = patients(policy, target)
    if target is None and (left_out := not_examined(policy)):
        progress(left_out)
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


async def learned_curves(settings: Settings) -> Mapping[str, KeptCurve]:
    """What gateways have learned of targets, by name; nothing where Postgres is not there."""
    with contextlib.suppress(BooksAway, SetupError):
        if (url := url_in_use(settings)) is not None:
            async with Database(
                url, application="breakeven command", connect_timeout_s=BOOKS_S, command_timeout_s=BOOKS_S
            ) as database:
                return {each.curve.of.target: each for each in await PostgresCurveBook(database).kept()}
    return {}
