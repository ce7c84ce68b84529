"""A process that uses the spool until it is killed: `python -m tests.storage.spool_child WHAT DIRECTORY FIRST`.

It says on its standard output what it was told was kept, one line at a time, each written before the next step.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from app.domain.errors import LedgerUnavailable
from app.domain.money import Nanodollars
from app.ports import Shipment
from app.storage.receipt_json import decode
from app.storage.spool import Spool, SpoolLimits
from tests.storage.spool_pieces import HandClock, intended, request_id, settled

LIMITS = SpoolLimits(segment=65_536, reserve=0)
IN_FLIGHT = 8


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def serve(spool: Spool, first: int, *, requests: int) -> None:
    """Requests from `first` on, eight at a time. Every fifth is never settled."""
    numbers = iter(range(first, first + requests))

    async def one_after_the_other() -> None:
        for number in numbers:
            try:
                spool.intend(intended(number))
                say("intended", number)
                spool.checkpoint(request_id=request_id(number), output_tokens=100 + number, charge=Nanodollars(number))
                if number % 5:
                    await spool.settle(settled(number))
                    say("settled", number)
            except LedgerUnavailable as fault:
                say("refused", number, fault)
                await asyncio.sleep(0.01)

    await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT)))


async def ship(spool: Spool) -> None:
    """Book everything: a line for each receipt."""
    shipment: Shipment | None
    while (shipment := await spool.next_shipment(most=50)) is not None:
        for raw in shipment.receipts:
            receipt = decode(raw)
            say("booked", receipt.request_id, receipt.outcome)
        spool.shipped(shipment)


async def main(what: str, directory: Path, first: int) -> None:
    async with Spool.open(directory, clock=HandClock(2e9 + first), limits=LIMITS, notice=lambda _: None) as spool:
        match what:
            case "serve for ever":
                await serve(spool, first, requests=10**9)
            case "serve":
                await serve(spool, first, requests=200)
            case "serve with small files":
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
                await serve(spool, first, requests=200)
            case "adopt":
                say("ready")
                sys.stdin.readline()
                await spool.adopt()
                await ship(spool)
    say("ended")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
