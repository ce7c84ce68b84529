"""What lies between two ends of a TCP connection on this machine, as Linux counts it.

The kernel tells of any socket what its own process has not read yet (`sock_diag`, no rights needed). So a server can
know which of its bytes a client's process has really read, and which were only on their way to it.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import termios
from types import TracebackType
from typing import Self

_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_TOLD = struct.Struct("=BBBB48xIII")
_ALL_STATES = 0xFFFFFFFF
_ANY_COOKIE = b"\xff" * 8

Address = tuple[str, int]


class SocketQueues:
    """Asks the kernel. Enter it; leaving it closes its line to the kernel."""

    def __enter__(self) -> Self:
        self._line = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()

    def on_the_way(self, ours: socket.socket) -> int | None:
        """Bytes that were written to this IPv4 socket and that the process at its other end has not read; None: the
        other end is not there any more. Asked while bytes move, it says too much rather than too little."""
        unsent = array.array("i", [0])
        fcntl.ioctl(ours.fileno(), termios.TIOCOUTQ, unsent)
        try:
            unread = self._unread(here=ours.getpeername(), there=ours.getsockname())
        except OSError:
            return None
        return None if unread is None else unsent[0] + unread

    def _unread(self, *, here: Address, there: Address) -> int | None:
        addresses = b"".join(socket.inet_aton(host).ljust(16, b"\0") for host, _ in (here, there))
        which = _PORTS.pack(here[1], there[1]) + addresses + struct.pack("=I", 0) + _ANY_COOKIE
        asked = _ASKED.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + which
        self._line.send(_HEADER.pack(_HEADER.size + len(asked), _BY_FAMILY, _REQUEST, 1, 0) + asked)
        answer = self._line.recv(8192)
        if _HEADER.unpack_from(answer)[1] != _BY_FAMILY:
            return None
        unread: int = _TOLD.unpack_from(answer, _HEADER.size)[5]
        return unread
