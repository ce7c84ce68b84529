"""`app.storage.receipt_json`: the same receipt gives the same bytes, and the same bytes the same receipt."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ledger.receipt import Receipt
from app.storage.receipt_json import decode, encode
from tests.makers import a_caller, a_receipt, some_facts
from tests.random_receipts import receipts


@given(receipts())
def test_every_receipt_comes_back_as_it_was(receipt: Receipt) -> None:
    line = encode(receipt)
    assert decode(line) == decode(line.decode()) == receipt
    assert encode(decode(line)) == line
    assert b"\n" not in line


def test_sets_are_written_in_order_so_that_one_receipt_has_one_text() -> None:
    models = [f"model-{number}" for number in range(50)]
    texts = {
        encode(a_receipt(facts=some_facts(caller=a_caller(models=frozenset(order)))))
        for order in (models, reversed(models))
    }
    assert len(texts) == 1


def test_every_field_of_a_receipt_is_written() -> None:
    assert list(json.loads(encode(a_receipt()))) == [field.name for field in fields(Receipt)]


def test_a_field_of_another_version_is_left_out_and_an_absent_one_takes_its_default() -> None:
    written = json.loads(encode(a_receipt(flags=("old",))))
    del written["flags"]
    written["mood"] = "splendid"
    assert decode(json.dumps(written)) == a_receipt(flags=())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"status": "fine"}, "status"),
        ({"decision": {"rule": 1, "order": []}}, "decision"),
        ({"decision": None}, "decision"),
        ({"facts": {}}, "facts"),
        ({"attempts": [{"number": 1}]}, "attempts"),
        ({"outcome": "splendid"}, "outcome"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], named: str) -> None:
    written = {**json.loads(encode(a_receipt())), **change}
    with pytest.raises(ValueError, match=named):
        decode(json.dumps(written))


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_nonsense_is_a_value_error_and_nothing_else(line: bytes) -> None:
    with pytest.raises(ValueError, match="not the JSON of a receipt"):
        decode(line)
