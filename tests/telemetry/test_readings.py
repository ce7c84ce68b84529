from __future__ import annotations

from app.domain.ledger.receipt import Receipt
from app.telemetry.readings import AllReadings
from tests.makers import a_receipt


class Notebook:
    """Readings that write down what they are told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def dispatched(self, *, target: str) -> None:
        self.told.append(target)

    def waited(self, *, target: str, waited_s: float, ended: str) -> None:
        self.told.append((target, waited_s, ended))

    def settled(self, receipt: Receipt) -> None:
        self.told.append(receipt)


def test_every_reading_is_told_the_same() -> None:
    one, other = Notebook(), Notebook()
    both = AllReadings(one, other)
    receipt = a_receipt()
    both.dispatched(target="home")
    both.waited(target="home", waited_s=1.5, ended="sent")
    both.settled(receipt)
    assert one.told == other.told == ["home", ("home", 1.5, "sent"), receipt]
