"""Host names become addresses, off the event loop, and a name that hangs keeps nobody but those who wait for it.

The system's own resolver is asked, with its cache and its times to live, anew for each new connection: an address that
changed is followed as soon as a connection is made. It cannot be cancelled, so each name is asked once at a time, by a
thread of its own that nobody has to wait for; whoever wants the same name meanwhile gets the same answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

#: The family of an address, and the address.
Address = tuple[int, str]
LookUp = Callable[[str], Sequence[Address]]

#: A name that is known not to exist is not asked for again so soon.
NO_SUCH_NAME_S: Final = 1.0
#: Names that are asked for at once; more than a policy has targets.
LOOKUPS_MOST: Final = 256
_FINAL: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def system_look_up(host: str) -> Sequence[Address]:
    """What the system says, best first. Waits. Raises OSError (`gaierror`) or UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [(int(family), str(address[0])) for family, _, _, _, address in found]


class Names:
    """Belongs to one event loop."""

    def __init__(self, *, look_up: LookUp = system_look_up) -> None:
        self._look_up = look_up
        self._asked: dict[str, asyncio.Future[Sequence[Address] | Exception]] = {}
        #: By name that does not exist: until when that is believed.
        self._unknown_until_s: dict[str, float] = {}

    async def addresses(self, host: str) -> Sequence[Address]:
        """At least one, best first; of an address itself without asking. Raises OSError (`gaierror`) or UnicodeError.

        Cancelling leaves the question to whoever else waits for it."""
        literal = _literal(host)
        if literal is not None:
            return [literal]
        loop = asyncio.get_running_loop()
        asked = self._asked.get(host)
        if asked is None:
            if self._unknown_until_s.get(host, 0.0) > loop.time():
                raise socket.gaierror(socket.EAI_NONAME, "there is no such name")
            if len(self._asked) >= LOOKUPS_MOST:
                raise socket.gaierror(socket.EAI_AGAIN, "too many names are asked for")
            asked = self._asked[host] = loop.create_future()
            try:
                threading.Thread(target=self._ask, args=(loop, host), name="names", daemon=True).start()
            except RuntimeError as fault:  # nobody will answer, so nobody may wait: the next one asks anew
                del self._asked[host]
                raise socket.gaierror(socket.EAI_AGAIN, f"no thread can be started to ask for it ({fault})") from fault
        found = await asyncio.shield(asked)
        if isinstance(found, Exception):
            raise found
        return found

    def _ask(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        """In a thread."""
        found: Sequence[Address] | Exception
        try:
            found = self._look_up(host) or socket.gaierror(socket.EAI_NONAME, "it has no address")
        except (OSError, UnicodeError) as fault:
            found = fault
        except Exception as fault:  # whatever it is, those who wait must hear of it
            found = OSError(f"the name could not be looked up ({type(fault).__name__}: {fault})")
            found.__cause__ = fault
        with contextlib.suppress(RuntimeError):  # the loop is closed by now: nobody waits
            loop.call_soon_threadsafe(self._told, host, found, loop.time())

    def _told(self, host: str, found: Sequence[Address] | Exception, at_s: float) -> None:
        self._unknown_until_s.pop(host, None)
        if isinstance(found, socket.gaierror) and found.errno in _FINAL:
            self._unknown_until_s = {name: until_s for name, until_s in self._unknown_until_s.items() if until_s > at_s}
            self._unknown_until_s[host] = at_s + NO_SUCH_NAME_S
        self._asked.pop(host).set_result(found)


def _literal(host: str) -> Address | None:
    """An address that is written as one."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return int(family), host
    return None
