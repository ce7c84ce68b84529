"""Ports for the servers that tests start, which bind them some time later, and again after a restart.

A port that the kernel chose would be the kernel's to give to somebody else in the meantime. These are of a range that
Linux and macOS, as they come, give to nobody who has not asked for it by number. Whoever holds the first port of a
block has the others of it to itself: so no two test processes on a machine share a port.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from functools import cache

FIRST, END = 10_000, 32_000
BLOCK = 200


def free_port() -> int:
    """A port that nobody listens on now, and nobody but who asked for it will."""
    for port in itertools.islice(_of_this_process(), BLOCK):
        with socket.socket() as probe:
            if _binds(probe, port):
                return port
    raise OSError(f"of {BLOCK} ports that belong to this test process none is free: are servers of older tests left?")


@cache
def _of_this_process() -> Iterator[int]:
    """The ports of a block in a circle; its first one is held until the process ends."""
    for first in range(FIRST, END, BLOCK):
        holder = socket.socket()
        if _binds(holder, first):
            holder.detach()
            return itertools.cycle(range(first + 1, first + BLOCK))
        holder.close()
    raise OSError(f"every {BLOCK}th port from {FIRST} to {END} is taken: stop other runs of the tests")


def _binds(one: socket.socket, port: int) -> bool:
    try:
        one.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
