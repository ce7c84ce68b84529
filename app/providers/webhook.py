"""The way out to the receiver of alerts: one POST over the one HTTP client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from app.ports.alerts import NotTaken
from app.providers.exchange import Destination, HttpClient, HttpFault

CONNECT_S: Final = 5.0
#: Connection, request and the head of the answer together.
WITHIN_S: Final = 10.0

_HEADERS: Final = {"content-type": "application/json", "user-agent": "breakeven"}


class Webhook:
    """`ports.alerts.AlertDoor`. Redirects are not followed: what is signed for one place is not sent to another."""

    def __init__(self, client: HttpClient, url: str, *, within_s: float = WITHIN_S) -> None:
        self._client = client
        self._url = url
        self._within_s = within_s

    async def send(self, body: bytes, *, headers: Mapping[str, str]) -> None:
        """Returns once the receiver has answered 2xx. Raises NotTaken, within a bound."""
        try:
            async with asyncio.timeout(self._within_s):
                status, leads_to = await self._posted(self._destination(), body, headers)
        except TimeoutError as fault:
            raise NotTaken(f"no answer within {self._within_s:g} s") from fault
        except HttpFault as fault:
            raise NotTaken(f"{fault} ({fault.kind.value})") from fault
        if leads_to:
            raise NotTaken(f"answered {status}, a redirect, which is not followed: set the address it leads to")
        if not 200 <= status < 300:
            raise NotTaken(f"answered {status}")

    def _destination(self) -> Destination:
        return self._client.destination(self._url, headers=_HEADERS)

    async def _posted(self, destination: Destination, body: bytes, headers: Mapping[str, str]) -> tuple[int, bool]:
        """The status, and whether it sends us elsewhere. What else the receiver says is not read."""
        answer = await destination.post(body, headers=headers, connect_s=min(CONNECT_S, self._within_s))
        try:
            return answer.status, 300 <= answer.status < 400 and answer.header("location") is not None
        finally:
            answer.finish()
