"""Signals as the command line takes them."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Final, Self

#: What ends a program from outside: Ctrl-C, a service manager, a closed terminal.
ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does, through every `finally`, until a server takes the signals over."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@dataclass(slots=True)
class Endings:
    """The first signal raises KeyboardInterrupt, unless the work is being ended already; a second one asks for haste.

    For the main thread, as a context manager: what stood before is put back at the end.
    """

    #: True once a second signal came.
    hurry: bool = False
    _ending: bool = False
    _before: dict[signal.Signals, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        for number in ENDINGS:
            self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def begin_ending(self) -> bool:
        """From now on no signal raises. Returns whether one had."""
        had, self._ending = self._ending, True
        return had

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self._ending:
            self.hurry = True
            return
        self._ending = True
        raise KeyboardInterrupt
