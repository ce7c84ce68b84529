"""The receipts in Postgres, and the one statement that books them.

A batch is one parameter: the receipts' own JSON, joined to one array. One statement inserts what is not there yet,
and from the rows really inserted it makes the attempts, the roll-ups and the latency histogram; the same transaction
settles them with the accounts of budgets. So a batch counts wholly or not at all, and sending it again counts nothing.

Two writers never wait for each other in a circle: receipts go in by request id, each roll-up by its key, and a
roll-up begins only when all receipts of the batch are in.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nextafter
from uuid import UUID

from app.domain.ledger.receipt import Receipt
from app.domain.ledger.report import BUCKET_GROWTH, LAST_BUCKET, bucket
from app.ports import RowsRefused
from app.storage.budget_statements import SETTLE, SHARED_LOCK
from app.storage.engine import Database, again_when_broken_off
from app.storage.ledger_statements import BOOK, FIND, LATEST
from app.storage.receipt_json import decode

#: The greatest request id, so that "no `before`" and "before this one" are the same statement.
_AFTER_ALL = UUID(int=2**128 - 1)


class PostgresLedgerBook:
    """`ports.LedgerBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._edges_ms = bucket_edges_ms()

    async def book(self, receipts: Sequence[bytes]) -> int:
        """Insert what is not there yet; the number of receipts really inserted. Of two with one id the first counts.

        Raises RowsRefused and books nothing when any of them is no receipt or cannot be kept. After BooksAway the
        batch may have been booked: send it again.
        """
        if not receipts:
            return 0
        batch = _one_array(receipts)
        return await again_when_broken_off(lambda: self._book(batch))

    async def _book(self, batch: str) -> int:
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(SHARED_LOCK)
            (booked,) = await connection.fetch(BOOK, batch, self._edges_ms)
            if booked["budgets"] and booked["ids"]:
                await connection.execute(SETTLE, booked["ids"], booked["first"], booked["last"])
        return len(booked["ids"])

    async def find(self, request_id: str, *, key_id: str | None = None) -> Receipt | None:
        """The receipt, equal to the one that was settled; with `key_id` only if it belongs to that key."""
        wanted = _uuid(request_id)
        if wanted is None:
            return None
        async with self._database.connection() as connection:
            found = await connection.fetchval(FIND, wanted, key_id)
        return None if found is None else decode(found)

    async def latest(self, *, most: int, before: str | None = None) -> Sequence[Receipt]:
        """The newest receipts first, in the order of their ids; with `before` only older ones."""
        border = _AFTER_ALL if before is None else _uuid(before)
        if border is None or most <= 0:
            return ()
        async with self._database.connection() as connection:
            rows = await connection.fetch(LATEST, border, most)
        return tuple(decode(row["receipt"]) for row in rows)


def bucket_edges_ms() -> list[float]:
    """The least time of every bucket but the first, in ms. With them the server finds a time's bucket by comparing
    alone, so that `domain.ledger.report.bucket` is the only place where a logarithm decides."""
    return [_least_ms_of(place) for place in range(1, LAST_BUCKET + 1)]


def _least_ms_of(place: int) -> float:
    edge: float = BUCKET_GROWTH**place
    while bucket(ms=edge) >= place:
        edge = nextafter(edge, 0.0)
    while bucket(ms=edge) < place:
        edge = nextafter(edge, inf)
    return edge


def _one_array(receipts: Sequence[bytes]) -> str:
    if not all(receipts):  # the server would not notice that one is missing
        raise RowsRefused("an empty record is no receipt: look at it in the quarantine")
    try:
        return f"[{b','.join(receipts).decode()}]"
    except UnicodeDecodeError as fault:
        raise RowsRefused(f"a record is not UTF-8 ({fault.reason}): look at it in the quarantine") from fault


def _uuid(text: str) -> UUID | None:
    """The id, if the text is one in canonical form."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None
