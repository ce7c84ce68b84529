"""`app.storage.spool` against a model: whatever is written, shipped and torn away, in whatever order, no receipt is
lost, none is booked as interrupted that was settled, and every request that was begun is booked."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.storage.receipt_json import decode
from app.storage.spool import Spool, SpoolLimits
from tests.storage.spool_pieces import (
    HandClock,
    checkpointed,
    crashed,
    files,
    intended,
    opened,
    request_id,
    settled,
)

LIMITS = SpoolLimits(segment=8_000, reserve=0)


class SpoolMachine(RuleBasedStateMachine):
    """One process after the other uses a spool. `died` says what must be booked of requests that a crash cut off."""

    open_requests = Bundle("open_requests")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp())
        self.generation = 0
        self.number = 0
        #: What is under way, and what it would be booked as now.
        self.running: dict[int, Receipt] = {}
        #: What has to be in the books in the end.
        self.owed: dict[str, Receipt] = {}
        self.booked: dict[str, Receipt] = {}
        self.spool: Spool
        self.door: AbstractAsyncContextManager[Spool]
        self.enter()

    @property
    def directory(self) -> Path:
        return self.root / str(self.generation)

    def enter(self) -> None:
        self.door = opened(self.directory, limits=LIMITS, clock=HandClock(1e9 + self.generation))
        self.spool = self.runner.run(self.door.__aenter__())

    def leave(self) -> None:
        self.runner.run(self.door.__aexit__(None, None, None))

    @rule(target=open_requests)
    def intend(self) -> int:
        self.number += 1
        self.spool.intend(intended(self.number))
        self.running[self.number] = intended(self.number)
        return self.number

    @rule(number=open_requests)
    def intend_again(self, number: int) -> None:
        if number in self.running:
            self.spool.intend(intended(number))
            self.running[number] = intended(number)

    @rule(number=open_requests, tokens=st.integers(1, 10**6))
    def checkpoint(self, number: int, tokens: int) -> None:
        self.spool.checkpoint(request_id=request_id(number), output_tokens=tokens, charge=Nanodollars(tokens * 3))
        if number in self.running:
            self.running[number] = checkpointed(number, output_tokens=tokens, charge=tokens * 3)

    @rule(number=consumes(open_requests), waits=st.booleans())
    def settle(self, number: int, waits: bool) -> None:
        if self.running.pop(number, None) is None:
            return
        if waits:
            self.runner.run(self.spool.settle(settled(number)))
        else:
            self.spool.settle_later(settled(number))
        self.owed[request_id(number)] = settled(number)

    @rule(most=st.integers(1, 9), confirmed=st.booleans())
    def ship(self, most: int, confirmed: bool) -> None:
        shipment = self.runner.run(self.spool.next_shipment(most=most))
        if shipment is None:
            return
        assert 1 <= len(shipment.receipts) <= most
        for raw in shipment.receipts:
            receipt = decode(raw)
            self.booked.setdefault(receipt.request_id, receipt)
        if confirmed:
            self.spool.shipped(shipment)

    @rule()
    def process_is_killed(self) -> None:
        self.go_on_with(crashed(self.directory, self.root / str(self.generation + 1)))

    @rule(cut=st.integers(1, 40))
    def process_is_killed_in_the_middle_of_an_intent(self, cut: int) -> None:
        self.number += 1
        self.spool.intend(intended(self.number))
        last = max(files(self.directory / "homes", "*.seg"), key=lambda path: (path.parent.name, path.name))
        left = crashed(self.directory, self.root / str(self.generation + 1))
        with (left / last.relative_to(self.directory)).open("r+b") as file:
            file.truncate(last.stat().st_size - cut)
        self.go_on_with(left)

    @precondition(lambda self: self.generation < 20)
    @rule()
    def process_ends_well(self) -> None:
        self.leave()
        self.cut_off()
        self.generation += 1
        shutil.copytree(self.root / str(self.generation - 1), self.directory)
        self.enter()

    def go_on_with(self, left: Path) -> None:
        self.leave()
        self.cut_off()
        self.generation += 1
        assert left == self.directory
        self.enter()

    def cut_off(self) -> None:
        for number, receipt in self.running.items():
            self.owed[request_id(number)] = receipt
        self.running = {}

    @invariant()
    def what_is_waiting_is_never_less_than_what_is_owed(self) -> None:
        assert self.spool.depth >= len(self.owed.keys() - self.booked.keys())
        assert self.spool.quarantined == 0

    def teardown(self) -> None:
        try:
            while (shipment := self.runner.run(self.spool.next_shipment(most=500))) is not None:
                for raw in shipment.receipts:
                    receipt = decode(raw)
                    self.booked.setdefault(receipt.request_id, receipt)
                self.spool.shipped(shipment)
            assert self.booked == self.owed
            assert self.spool.depth == 0
        finally:
            self.leave()
            self.runner.close()
            shutil.rmtree(self.root)


TestSpoolAgainstItsModel = SpoolMachine.TestCase
TestSpoolAgainstItsModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
