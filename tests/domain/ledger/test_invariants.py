"""`app.domain.ledger.invariants`: every line of the promise is said, and what was found broken does not hold."""

from __future__ import annotations

from app.domain.ledger.invariants import SAID, Checked, Invariant


def test_every_invariant_is_said_in_a_sentence_of_its_own() -> None:
    assert set(SAID) == set(Invariant)
    assert len(set(SAID.values())) == len(Invariant) == 11


def test_one_violation_is_enough() -> None:
    assert Checked(invariant=Invariant.UNIQUE, rows=5, violations=0).holds
    assert not Checked(invariant=Invariant.UNIQUE, rows=5, violations=1).holds
