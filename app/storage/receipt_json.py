"""A receipt as JSON: what the spool keeps and what the ledger book is fed. The same receipt gives the same bytes.

Prices are strings, money and moments whole numbers, enumerations their values, and the decision is a plan when it
has an `order`, a refusal when it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import msgspec

from app.domain.ledger.receipt import Receipt
from app.domain.routing.plan import Plan, Refusal

_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode(receipt: Receipt) -> bytes:
    """One line of UTF-8 JSON with every field of the receipt, sets sorted. Never contains a line break."""
    return _ENCODER.encode(receipt)


def decode(text: bytes | str) -> Receipt:
    """The receipt that was encoded, equal to it. An unknown field is left out, an absent one takes its default.

    Raises ValueError that names the field at fault.
    """
    try:
        raw_fields = _RAW_FIELDS.decode(text)
        return Receipt(**{name: _field(name, raw) for name, raw in raw_fields.items() if name in _FIELDS})
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as fault:
        raise ValueError(f"this is not the JSON of a receipt ({fault}): look at the record in the spool") from fault


def _field(name: str, raw: msgspec.Raw) -> Any:
    try:
        return _decision(raw) if name == "decision" else _FIELDS[name].decode(raw)
    except msgspec.ValidationError as fault:
        raise msgspec.ValidationError(f"{name}: {fault}") from fault


def _decision(raw: msgspec.Raw) -> Plan | Refusal:
    is_plan = "order" in _RAW_FIELDS.decode(raw)
    return _PLAN.decode(raw) if is_plan else _REFUSAL.decode(raw)


_RAW_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PLAN = msgspec.json.Decoder(Plan)
_REFUSAL = msgspec.json.Decoder(Refusal)
_HINTS = get_type_hints(Receipt)
#: msgspec cannot tell two dataclasses of a union apart, so each field has its own decoder and the decision two.
_FIELDS: Mapping[str, msgspec.json.Decoder[Any]] = {
    field.name: msgspec.json.Decoder(msgspec.Raw if field.name == "decision" else _HINTS[field.name])
    for field in fields(Receipt)
}
