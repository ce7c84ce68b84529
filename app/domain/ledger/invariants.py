"""What must hold of the books, always: the lines of `breakeven verify`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: So many violations of one invariant are named; the others are counted.
NAMED_MOST = 5


class Invariant(StrEnum):
    """One line of the promise. Values are names for programs; `SAID` has the sentences."""

    SETTLED_ONCE = "settled_once"
    UNIQUE = "unique"
    ACCOUNTS = "accounts"
    WITHIN_CAP = "within_cap"
    LEASES = "leases"
    BALANCED = "balanced"
    CLOSED_MONTHS = "closed_months"
    PROVENANCE = "provenance"
    ESTIMATES = "estimates"
    ROLL_UPS = "roll_ups"
    JOURNAL = "journal"


SAID = {
    Invariant.SETTLED_ONCE: "every receipt has its attempts, every attempt its receipt, and their charges agree",
    Invariant.UNIQUE: "no attempt and no receipt is booked twice",
    Invariant.ACCOUNTS: "what each budget has spent is the sum of its receipts and adjustments",
    Invariant.WITHIN_CAP: "no hard budget was overrun by a request that was held for",
    Invariant.LEASES: "no lease is open past its time and a sweep, none keeps less than nothing",
    Invariant.BALANCED: "the postings of every entry sum to zero",
    Invariant.CLOSED_MONTHS: "closed months follow one another, and each is sealed",
    Invariant.PROVENANCE: "every attempt names its rate card, its policy and where its usage comes from",
    Invariant.ESTIMATES: "no estimated charge is above what was held for it",
    Invariant.ROLL_UPS: "the roll-ups that reports read sum to the ledger, month by month",
    Invariant.JOURNAL: "the postings of every entry are the charges of its attempts and adjustments",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One invariant, looked at. `named` are the first violations, each in a few words."""

    invariant: Invariant
    rows: int
    violations: int
    named: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """No violation was found."""
        return not self.violations
