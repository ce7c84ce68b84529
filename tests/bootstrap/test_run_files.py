"""Where gateway processes leave their sockets, and what is read from them."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.bootstrap.run_files import LONGEST_SOCKET_PATH, metrics_of_all, metrics_socket, run_directory
from app.domain.errors import SetupError
from app.settings import Settings

NOBODY = 65534


def writable(aside: Path) -> None:
    aside.mkdir()
    aside.chmod(0o777)


def linked(aside: Path) -> None:
    (elsewhere := aside.with_name("elsewhere")).mkdir(mode=0o700)
    aside.symlink_to(elsewhere)


def a_file(aside: Path) -> None:
    aside.write_text("")


def somebody_elses(aside: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives a directory away")
    aside.mkdir(mode=0o700)
    os.chown(aside, NOBODY, NOBODY)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A data directory whose path is too long for a socket, with temporary files of its own."""
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return Settings(data=tmp_path / ("d" * LONGEST_SOCKET_PATH))


def test_sockets_lie_with_the_data_however_it_is_named_and_for_nobody_else(tmp_path: Path) -> None:
    settings = Settings(data=Path(os.path.relpath(tmp_path)))
    directory = run_directory(settings)
    assert directory == tmp_path / "run" == run_directory(Settings(data=tmp_path))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert run_directory(settings) == directory


def test_where_the_path_is_too_long_they_lie_among_temporary_files_for_nobody_else(far: Settings) -> None:
    directory = run_directory(far)
    assert directory.parent == Path(tempfile.gettempdir())
    assert directory.stat().st_mode & 0o777 == 0o700
    assert run_directory(far) == directory
    other = far.model_copy(update={"data": far.data / "other"})
    assert run_directory(other) != directory


@pytest.mark.parametrize("made", [writable, linked, a_file, somebody_elses])
async def test_a_directory_that_somebody_else_laid_there_is_not_believed(
    far: Settings, made: Callable[[Path], None]
) -> None:
    aside = run_directory(far)
    aside.rmdir()
    made(aside)
    for ask in (metrics_of_all(far), metrics_socket(far, bytes).__aenter__()):
        with pytest.raises(SetupError, match=f"{aside} is not a directory of this user with mode 0700.*BREAKEVEN_DATA"):
            await ask


async def test_each_process_tells_its_metrics_and_a_dead_ones_socket_is_cleared_away(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    dead = run_directory(settings) / "gateway-1.sock"
    server = await asyncio.start_unix_server(lambda _reader, _writer: None, path=dead)
    server.close()
    async with metrics_socket(settings, lambda: b"up 1\n"):
        assert dead.exists()
        assert await metrics_of_all(settings) == {f"gateway-{os.getpid()}": b"up 1\n"}
        assert not dead.exists()
    assert await metrics_of_all(settings) == {}
    assert list(run_directory(settings).iterdir()) == []


async def test_metrics_that_no_buffer_of_the_kernel_holds_come_whole(tmp_path: Path) -> None:
    text = b"breakeven_up 1\n" * 200_000
    async with metrics_socket(Settings(data=tmp_path), lambda: text):
        (told,) = (await metrics_of_all(Settings(data=tmp_path))).values()
    assert told == text
