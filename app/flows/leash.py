"""One bound around all work for one caller: the total timeout, and the caller's own leaving."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Leash:
    """`async with Leash(total_s)`: the body is cancelled and TimeoutError raised when time is up or `pull` was called.

    What comes after the block is outside: neither the clock nor the caller can cancel it. Pulling a leash that has
    been left does nothing; pulling one that has not been entered cancels the body at its first wait.
    """

    __slots__ = ("_entered", "_timeout", "pulled")

    def __init__(self, total_s: float) -> None:
        self._timeout = asyncio.timeout(total_s)
        self._entered = False
        self.pulled = False

    def pull(self) -> None:
        """The caller left."""
        self.pulled = True
        if self._entered:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    @property
    def expired(self) -> bool:
        """True once the body was cancelled by this leash, for either cause."""
        return self._timeout.expired()

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._entered = True
        if self.pulled:
            self.pull()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        await self._timeout.__aexit__(kind, fault, trace)
