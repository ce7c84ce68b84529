"""All readings of a receipt as one."""

from __future__ import annotations

from app.domain.ledger.receipt import Receipt
from app.ports import Readings


class AllReadings:
    """ports.Readings that tells each of the given ones, in their order."""

    def __init__(self, *readings: Readings) -> None:
        self._readings = readings

    def dispatched(self, *, target: str) -> None:
        for reading in self._readings:
            reading.dispatched(target=target)

    def waited(self, *, target: str, waited_s: float, ended: str) -> None:
        for reading in self._readings:
            reading.waited(target=target, waited_s=waited_s, ended=ended)

    def settled(self, receipt: Receipt) -> None:
        for reading in self._readings:
            reading.settled(receipt)
