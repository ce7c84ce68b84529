"""What the tests of the spool share: receipts with numbers, a clock that is set by hand, a crash."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.usage import Usage, UsageSource
from app.ports import Outbox
from app.storage.receipt_json import decode
from app.storage.spool import Spool
from tests.makers import a_receipt, an_attempt, some_facts


@dataclass(slots=True)
class HandClock:
    """Stands still until a test moves it."""

    now_s: float = 1_795_435_200.0

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_us(self) -> int:
        return int(self.now_s * 1e6)


class Disk:
    """A sync that counts, can be held up, and can fail."""

    def __init__(self) -> None:
        self.synced: list[int] = []
        self.sizes: list[int] = []
        self.failing: set[int] = set()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, fd: int) -> None:
        self.synced.append(fd)
        self.sizes.append(os.fstat(fd).st_size)
        assert self.may_go_on.wait(30), "the test forgot to let the disk go on"
        if fd in self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def request_id(number: int) -> str:
    return f"019ab000-0000-7000-8000-{number:012x}"


def settled(number: int, **named: object) -> Receipt:
    """The final receipt of request `number`."""
    identity = request_id(number)
    receipt = a_receipt(an_attempt(attempt_id=f"{identity}/1"), facts=some_facts(request_id=identity))
    return replace(receipt, request_id=identity, at_us=receipt.at_us + number, **named)  # type: ignore[arg-type]


def intended(number: int) -> Receipt:
    """The intent of request `number`: what is to be booked if its process dies."""
    receipt = settled(number, outcome=Outcome.INTERRUPTED, duration_s=0.0)
    guess = replace(
        receipt.attempts[0],
        outcome=Outcome.INTERRUPTED,
        usage=Usage(prompt=900, output=64),
        usage_source=UsageSource.GATEWAY_ESTIMATE,
        charge=Nanodollars(353_000),
        flags=("usage_estimated",),
    )
    return replace(receipt, attempts=(guess,))


def checkpointed(number: int, *, output_tokens: int, charge: int) -> Receipt:
    """What the intent of request `number` becomes when its process dies after this checkpoint."""
    intent = intended(number)
    last = replace(
        intent.attempts[0],
        usage=Usage(prompt=900, output=output_tokens),
        usage_source=UsageSource.CHECKPOINT,
        charge=Nanodollars(charge),
    )
    return replace(intent, attempts=(last,))


def opened(directory: Path, **named: Any) -> AbstractAsyncContextManager[Spool]:
    """`Spool.open` with a clock that stands still."""
    return Spool.open(directory, **{"clock": HandClock(), **named})


def crashed(directory: Path, into: Path) -> Path:
    """The spool as `kill -9` of every process that uses it would leave it: the same files, and no locks."""
    shutil.copytree(directory, into)
    return into


async def everything(outbox: Outbox, *, most: int = 500) -> list[Receipt]:
    """Ship all there is; every receipt in the order in which it left."""
    shipped: list[Receipt] = []
    while (shipment := await outbox.next_shipment(most=most)) is not None:
        shipped += [decode(receipt) for receipt in shipment.receipts]
        outbox.shipped(shipment)
    return shipped


def files(directory: Path, pattern: str) -> list[Path]:
    """The files below a directory that fit a pattern, in order."""
    return sorted(directory.rglob(pattern))
