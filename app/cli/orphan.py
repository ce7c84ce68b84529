"""A child that does not outlive its parent, however the parent ends."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import threading
import time
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LOOK_EVERY_S: Final = 0.5


def leave_with(parent: int) -> None:
    """Send this process SIGTERM when the process `parent`, which started it, has ended; also if it has already.

    On Linux the kernel does it, even after `kill -9` of the parent; elsewhere a thread looks twice a second.
    """
    if platform.system() == "Linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the kernel does not report the end of a parent process")
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
        return
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent-watch").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
