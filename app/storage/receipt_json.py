"""A receipt as JSON: what the spool keeps and what the ledger book is fed. The same receipt gives the same bytes.

Prices are strings, money and moments whole numbers, enumerations their values, and the decision is a plan when it
has an `order`, a refusal when it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import msgspec

from app.domain.ledger.hold import Hold
from app.domain.ledger.receipt import Attempt, Receipt
from app.domain.metering.measurement import Outcome
from app.domain.routing.facts import RequestFacts
from app.domain.routing.plan import Plan, Refusal

_ENCODER = msgspec.json.Encoder(order="deterministic")


class _Head(msgspec.Struct, gc=False):
    """What is known of a receipt once its request is decided on; it is the larger part, and never changes."""

    request_id: str
    at_us: int
    facts: RequestFacts
    caller_label: str | None
    policy_digest: str
    decision: Plan | Refusal


class _Tail(msgspec.Struct, gc=False):
    """What became of it."""

    outcome: Outcome
    status: int
    attempts: tuple[Attempt, ...]
    duration_s: float
    overhead_s: float
    flags: tuple[str, ...]
    shadow_of: str | None
    holds: tuple[Hold, ...]


#: Every field of a receipt, in the order of its JSON.
WRITTEN_FIELDS = (*_Head.__struct_fields__, *_Tail.__struct_fields__)


def encode(receipt: Receipt) -> bytes:
    """One line of UTF-8 JSON with every field of the receipt, sets sorted. Never contains a line break."""
    return with_tail(encode_head(receipt), receipt)


def encode_head(receipt: Receipt) -> bytes:
    """The beginning of its JSON, which is the same for every receipt of the same decided request."""
    head = _Head(
        receipt.request_id,
        receipt.at_us,
        receipt.facts,
        receipt.caller_label,
        receipt.policy_digest,
        receipt.decision,
    )
    return _ENCODER.encode(head)[:-1]


def with_tail(head: bytes, receipt: Receipt) -> bytes:
    """The whole JSON of a receipt whose head is `head`."""
    tail = _Tail(
        receipt.outcome,
        receipt.status,
        receipt.attempts,
        receipt.duration_s,
        receipt.overhead_s,
        receipt.flags,
        receipt.shadow_of,
        receipt.holds,
    )
    return b",".join((head, _ENCODER.encode(tail)[1:]))


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
