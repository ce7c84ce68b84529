"""`app.storage.spool` in processes that are killed, whose disk fails or whose files may not grow."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.storage.receipt_json import encode
from app.storage.spool_format import SEGMENT_HEADER, Kind, framed
from app.storage.spool_home import HOMES, make_home
from tests.storage.spool_pieces import (
    HandClock,
    checkpointed,
    crashed,
    everything,
    files,
    intended,
    opened,
    request_id,
    settled,
)

ROOT = Path(__file__).parents[2]


def child(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-m", "tests.storage.spool_child", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def said(lines: list[str], word: str) -> set[int]:
    return {int(line.split()[1]) for line in lines if line.startswith(f"{word} ") and line.endswith("\n")}


def adopted(directory: Path) -> list[Receipt]:
    """What the next process ships."""

    async def adopt() -> list[Receipt]:
        async with opened(directory, clock=HandClock(3e9)) as spool:
            return await everything(spool)

    return asyncio.run(adopt())


def check(lines: list[str], receipts: list[Receipt]) -> None:
    """All that was acknowledged is there, exact; all that was begun is there, once; nothing else is."""
    by_id = {receipt.request_id: receipt for receipt in receipts}
    assert len(by_id) == len(receipts), "a request was booked twice"
    for number in said(lines, "settled"):
        assert by_id[request_id(number)] == settled(number)
    for number in said(lines, "intended") - said(lines, "settled"):
        receipt = by_id[request_id(number)]
        # Its receipt may have been written and not acknowledged; its checkpoint may not have been written.
        may_be = (settled(number), intended(number), checkpointed(number, output_tokens=100 + number, charge=number))
        assert receipt in may_be
        if number % 5 == 0:
            assert receipt.outcome is Outcome.INTERRUPTED


def test_after_kill_9_everything_acknowledged_is_there_and_everything_begun_is_interrupted(tmp_path: Path) -> None:
    lines: list[str] = []
    for generation in range(4):
        with child("serve for ever", tmp_path, generation * 1_000_000) as process:
            assert process.stdout is not None
            lines += [process.stdout.readline() for _ in range(150 + 211 * generation)]
            os.kill(process.pid, signal.SIGKILL)
            lines += process.stdout.readlines()
            process.wait()
    assert len(said(lines, "settled")) > 200
    receipts = adopted(tmp_path)
    check(lines, receipts)
    assert adopted(tmp_path) == []
    assert files(tmp_path / HOMES, "*/*.seg") == []
    assert files(tmp_path / "quarantine", "*") == []


def test_two_processes_that_adopt_at_once_book_everything_once_between_them(tmp_path: Path) -> None:
    lines: list[str] = []
    for generation in range(4):
        with child("serve", tmp_path / "one" / str(generation), generation * 1_000_000) as process:
            out, err = process.communicate()
        assert process.returncode == 0, err
        lines += out.splitlines(keepends=True)
    shared = tmp_path / "shared"
    with child("adopt", shared, 7_000_000) as first, child("adopt", shared, 8_000_000) as second:
        for process in (first, second):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for home in (tmp_path / "one").glob("*/homes/*"):
            shutil.copytree(home, shared / HOMES / home.name)
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outs = [process.communicate()[0] for process in (first, second)]
    booked = Counter(line.split()[1] for out in outs for line in out.splitlines() if line.startswith("booked "))
    assert set(booked.values()) == {1}
    assert set(booked) == {request_id(number) for number in said(lines, "intended")}


def test_a_limit_on_the_size_of_files_only_means_more_files(tmp_path: Path) -> None:
    with child("serve with small files", tmp_path, 0) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    lines = out.splitlines(keepends=True)
    assert len(said(lines, "settled")) == 160
    assert max(path.stat().st_size for path in files(tmp_path, "*.seg")) <= 20_000
    check(lines, adopted(tmp_path))


@pytest.mark.parametrize("fault", ["error=EIO:when=3", "error=EIO:when=3+7", "error=ENOSPC:when=2+2"])
def test_a_disk_that_fails_to_sync_loses_nothing_that_was_acknowledged(tmp_path: Path, fault: str) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: a failing fdatasync cannot be staged from outside")
    trace = tmp_path / "trace"
    before = (strace, "-f", "-qq", "-y", "-o", str(trace), "-e", "trace=fdatasync", "-e", f"inject=fdatasync:{fault}")
    spool = tmp_path / "spool"
    with child("serve", spool, 0, before=before) as process:
        out, err = process.communicate()
    calls = trace.read_text().splitlines() if trace.exists() else []
    if not calls:
        pytest.skip(f"strace may not trace here: {err.strip()[:200]}")
    assert process.returncode == 0, err
    failed_at: dict[str, int] = {}
    for place, call in enumerate(calls):
        path = call.partition("<")[2].partition(">")[0]
        assert path not in failed_at, f"{path} was synced again after its sync had failed"
        if "(INJECTED)" in call:
            failed_at[path] = place
    assert failed_at
    lines = out.splitlines(keepends=True)
    receipts = adopted(spool)
    once = list({receipt.request_id: receipt for receipt in reversed(receipts)}.values())
    check(lines, once)


def test_twenty_thousand_records_are_replayed_in_seconds(tmp_path: Path) -> None:
    home = make_home(tmp_path, at_us=1)
    per_segment = 2500
    for segment in range(4):
        numbers = range(segment * per_segment, (segment + 1) * per_segment)
        records = (
            framed(Kind.INTENT, request_id(number), encode(intended(number)))
            + framed(Kind.RECEIPT, request_id(number), encode(settled(number)))
            for number in numbers
        )
        home.segment_path(segment + 1).write_bytes(SEGMENT_HEADER + b"".join(records))
    home.leave()
    began = time.perf_counter()

    async def replay() -> int:
        shipped = 0
        async with opened(tmp_path, clock=HandClock(3e9)) as spool:
            while (shipment := await spool.next_shipment(most=500)) is not None:
                shipped += len(shipment.receipts)
                spool.shipped(shipment)
        return shipped

    assert asyncio.run(replay()) == 4 * per_segment
    took_s = time.perf_counter() - began
    print(f"20,000 records replayed and read for shipping in {took_s:.2f} s")
    assert took_s < 60


def test_every_cut_of_a_small_spool_yields_the_whole_records_before_it(tmp_path: Path) -> None:
    async def fill() -> None:
        async with opened(tmp_path / "whole", durability="os") as spool:
            spool.intend(intended(1))
            await spool.settle(settled(1))
            spool.intend(intended(2))

    asyncio.run(fill())
    (segment,) = files(tmp_path / "whole", "*.seg")
    content = segment.read_bytes()
    seen: list[list[Receipt]] = []
    for cut in range(0, len(content) + 1, 97):
        left = crashed(tmp_path / "whole", tmp_path / str(cut))
        (cut_segment,) = files(left, "*.seg")
        with cut_segment.open("r+b") as file:
            file.truncate(cut)
        receipts = adopted(left)
        if not seen or receipts != seen[-1]:
            seen.append(receipts)
        shutil.rmtree(left)
    assert seen[:3] == [[], [intended(1)], [settled(1)]]
    assert adopted(tmp_path / "whole") == [settled(1), intended(2)]
