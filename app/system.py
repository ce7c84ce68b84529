"""The machine's clock and chance: the one door to both."""

from __future__ import annotations

import os
import random
import time
from datetime import UTC, date, datetime
from typing import Final

_VERSION_7: Final = 0x7 << 76
_VARIANT_10: Final = 0b10 << 62
_RANDOM_BITS_A: Final = (1 << 12) - 1
_RANDOM_BITS_B: Final = (1 << 62) - 1
_POOL_BYTES: Final = 10 * 256
#: Counts on while the machine is suspended, and nobody sets it. Where there is none, the monotonic clock does so.
_SINCE_BOOT: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """ports.Clock over the kernel's clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def unix_us(self) -> int:
        return time.time_ns() // 1000

    def today(self) -> date:
        """The day in UTC."""
        return datetime.fromtimestamp(self.unix_us() / 1e6, UTC).date()


class SteadyClock(SystemClock):
    """The clocks of a process that serves: its wall clock jumps only when it is put right.

    The machine's wall clock is read once; from there on the time since boot is counted, which nobody sets.
    """

    def __init__(self) -> None:
        self._at_boot_us = super().unix_us() - _since_boot_us()

    def unix_us(self) -> int:
        return self._at_boot_us + _since_boot_us()

    def put_right(self, by_us: int) -> None:
        """So much later than it says, or earlier, is the time."""
        self._at_boot_us += by_us


def _since_boot_us() -> int:
    return time.clock_gettime_ns(_SINCE_BOOT) // 1000


class RandomIds:
    """ports.Ids: UUIDv7 (RFC 9562 §5.7) with 74 random bits from the kernel, drawn in pools to save system calls.

    A fork would share what is left of the pool, so each process makes its own instance after it started.
    """

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def request_id(self, *, at_us: int) -> str:
        if self._at >= len(self._pool):
            self._pool, self._at = os.urandom(_POOL_BYTES), 0
        drawn = int.from_bytes(self._pool[self._at : self._at + 10])
        self._at += 10
        number = (
            (at_us // 1000) << 80
            | _VERSION_7
            | (drawn & _RANDOM_BITS_A) << 64
            | _VARIANT_10
            | (drawn >> 12 & _RANDOM_BITS_B)
        )
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def random_bytes(count: int) -> bytes:
    """`count` bytes of the kernel's randomness, fit for secrets."""
    return os.urandom(count)


def jitter() -> float:
    """A number in [0, 1), to spread what would happen everywhere at once; no secret."""
    return random.random()
