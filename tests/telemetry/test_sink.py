from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.telemetry.sink import LONGEST_LINE_BYTES, PIPE_BYTES, LineSink, atomic_bytes, write_to

ROOT = Path(__file__).parents[2]


def dropped(count: int) -> bytes:
    return b"dropped %d" % count


def a_sink(write: Callable[[bytes], object], **named: object) -> LineSink:
    return LineSink(write, dropped_line=dropped, gather_s=0.001, **named)  # type: ignore[arg-type]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    yield read_end, write_end
    for descriptor in (read_end, write_end):
        try:
            os.close(descriptor)
        except OSError:
            continue


class Gate:
    """A sink's other side: takes what comes, once it is open."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.is_open = threading.Event()

    def __call__(self, part: bytes) -> None:
        assert self.is_open.wait(30)
        self.parts.append(part)

    @property
    def lines(self) -> list[bytes]:
        return b"".join(self.parts).splitlines()


def test_lines_come_out_whole_and_in_order() -> None:
    gate = Gate()
    gate.is_open.set()
    sink = a_sink(gate)
    for number in range(5000):
        sink.offer(b"line %d" % number)
    assert sink.close(timeout_s=30)
    assert gate.lines == [b"line %d" % number for number in range(5000)]
    assert sink.dropped == 0


def test_a_sink_that_blocks_never_makes_anybody_wait_and_drops_are_counted() -> None:
    """F-51."""
    gate = Gate()
    sink = a_sink(gate, most_lines=100)
    started = time.monotonic()
    for number in range(10_000):
        sink.offer(b"line %d" % number)
    assert time.monotonic() - started < 5
    assert sink.dropped >= 10_000 - 100 - 256
    gate.is_open.set()
    _until(lambda: len(gate.lines) >= 100)
    lost = sink.dropped
    sink.offer(b"after")
    assert sink.close(timeout_s=30)
    told = [int(line.removeprefix(b"dropped ")) for line in gate.lines if line.startswith(b"dropped")]
    assert sum(told) == lost, "at once, or in parts where the writer woke in between"
    assert gate.lines[-1] == b"after"
    kept = [line for line in gate.lines if line.startswith(b"line")]
    assert len(kept) + lost == 10_000
    assert kept == [b"line %d" % number for number in range(len(kept))]


def test_a_pipe_without_a_reader_blocks_nobody(pipe: tuple[int, int]) -> None:
    """F-51, on a real pipe that fills up."""
    read_end, write_end = pipe
    others = set(threading.enumerate())
    sink = a_sink(write_to(write_end), most_lines=1000)
    line = b"x" * 500
    started = time.monotonic()
    for _ in range(5000):
        sink.offer(line)
    assert time.monotonic() - started < 5
    _until(lambda: sink.dropped > 0)
    assert not sink.close(timeout_s=0.05), "the writer is stuck, and closing does not wait for it"
    (writer,) = set(threading.enumerate()) - others
    os.close(read_end)
    _until(lambda: not writer.is_alive())


def test_a_sink_that_breaks_is_counted_and_used_again_when_it_is_back() -> None:
    parts: list[bytes] = []
    broken = threading.Event()
    broken.set()

    def write(part: bytes) -> None:
        if broken.is_set():
            raise BrokenPipeError
        parts.append(part)

    sink = a_sink(write)
    sink.offer(b"lost")
    _until(lambda: sink.dropped == 1)
    broken.clear()
    sink.offer(b"kept")
    assert sink.close(timeout_s=30)
    assert b"".join(parts) == b"dropped 1\nkept\n"


def test_a_descriptor_that_somebody_made_non_blocking_still_gets_every_byte(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    fcntl.fcntl(write_end, fcntl.F_SETFL, fcntl.fcntl(write_end, fcntl.F_GETFL) | os.O_NONBLOCK)
    taken = bytearray()

    def read_slowly() -> None:
        while part := os.read(read_end, 1000):
            taken.extend(part)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    sink = a_sink(write_to(write_end))
    for _ in range(1000):
        sink.offer(b"y" * 300)
    assert sink.close(timeout_s=30)
    os.close(write_end)
    reader.join(30)
    assert taken.count(b"\n") == 1000
    assert len(taken) == 1000 * 301


def test_lines_of_several_writers_to_one_pipe_do_not_tear_one_another(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    sinks = [a_sink(write_to(write_end)) for _ in range(4)]
    taken = bytearray()

    def read() -> None:
        while part := os.read(read_end, 65536):
            taken.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(2000):
        for name, sink in zip(b"abcd", sinks, strict=True):
            sink.offer(bytes([name]) * (50 + number % 700))
    assert all(sink.close(timeout_s=30) for sink in sinks)
    os.close(write_end)
    reader.join(30)
    lines = taken.splitlines()
    assert len(lines) == 8000
    assert all(len(set(line)) == 1 for line in lines)


def test_parts_fit_into_a_pipe_at_once_and_a_monstrous_line_is_cut() -> None:
    gate = Gate()
    gate.is_open.set()
    sink = a_sink(gate)
    for _ in range(100):
        sink.offer(b"z" * 300)
    sink.offer(b"m" * 1_000_000)
    assert sink.close(timeout_s=30)
    assert all(len(part) <= max(select.PIPE_BUF, 301) or part.startswith(b"m") for part in gate.parts)
    assert max(map(len, gate.parts)) == LONGEST_LINE_BYTES


def test_what_is_offered_after_the_close_is_dropped() -> None:
    gate = Gate()
    gate.is_open.set()
    sink = a_sink(gate)
    assert sink.close(timeout_s=30)
    sink.offer(b"late")
    assert sink.dropped == 1
    assert gate.parts == []


def test_a_stuck_sink_does_not_keep_the_process_from_ending() -> None:
    script = (
        "import os; from app.telemetry.sink import LineSink, write_to; read, write = os.pipe();"
        "sink = LineSink(write_to(write), dropped_line=lambda n: b'', gather_s=0.001);"
        "[sink.offer(b'x' * 1000) for _ in range(1000)]; sink.close(timeout_s=0.2); print('ended')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "ended\n"


def _until(reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline_s, "it never came to that"
        time.sleep(0.002)


def test_a_file_takes_many_lines_in_one_write_and_a_pipe_only_what_it_keeps_together(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        assert atomic_bytes(writer) == PIPE_BYTES
    finally:
        os.close(reader)
        os.close(writer)
    with (tmp_path / "log").open("wb") as file:
        assert atomic_bytes(file.fileno()) > PIPE_BYTES
