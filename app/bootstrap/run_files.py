"""What runs now, for others on this machine to find: one unix socket a gateway process, for its metrics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from app.domain.errors import SetupError
from app.settings import Settings
from app.storage.embedded_home import is_private, short_digest

#: The kernel's limit for the path of a unix socket is 108 bytes with its end; macOS allows 104.
LONGEST_SOCKET_PATH = 100
#: A process that does not answer so soon is left out.
READ_TIMEOUT_S = 2.0
MOST_METRICS_BYTES = 64 << 20


def run_directory(settings: Settings) -> Path:
    """Where the sockets lie: in the data directory, or, when its path is too long for a socket, beside other temporary
    files under a name made from it. Raises SetupError when somebody else has made that one, or may write there: what
    lies in it would be believed."""
    directory = settings.run_directory.resolve()
    if len(str(directory)) + len("/gateway-4194304.sock") <= LONGEST_SOCKET_PATH:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory
    aside = Path(tempfile.gettempdir()) / f"breakeven-{os.getuid()}-{short_digest(directory)}"
    with contextlib.suppress(FileExistsError):
        aside.mkdir(mode=0o700)
    if not is_private(aside, uid=os.getuid()):
        raise SetupError(
            f"{aside} is not a directory of this user with mode 0700, so the sockets in it cannot be trusted: remove "
            "it, or name a directory with a shorter path in BREAKEVEN_DATA"
        )
    return aside


@contextlib.asynccontextmanager
async def metrics_socket(settings: Settings, text: Callable[[], bytes]) -> AsyncIterator[None]:
    """Give this process's metrics to whoever connects, as long as the block lasts."""
    path = run_directory(settings) / f"gateway-{os.getpid()}.sock"
    path.unlink(missing_ok=True)

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(text())
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(tell, path=path)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def metrics_of_all(settings: Settings) -> Mapping[str, bytes]:
    """Process name → its metrics, of every gateway process that answers in time; sockets of dead ones are removed."""
    paths = sorted(run_directory(settings).glob("gateway-*.sock"))
    texts = await asyncio.gather(*(_told_at(path) for path in paths))
    return {path.stem: text for path, text in zip(paths, texts, strict=True) if text is not None}


async def _told_at(path: Path) -> bytes | None:
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return await _to_its_end(reader)
            finally:
                writer.close()
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except (OSError, TimeoutError):
        pass
    return None


async def _to_its_end(reader: asyncio.StreamReader) -> bytes | None:
    text = bytearray()
    while more := await reader.read(1 << 16):
        text += more
        if len(text) > MOST_METRICS_BYTES:
            return None
    return bytes(text)
