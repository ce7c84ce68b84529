"""A key book in memory that behaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.ports import BooksAway, KeyRecord, RowsRefused


class MemoryKeyBook:
    """`ports.KeyBook`. `away = True` takes it away."""

    def __init__(self) -> None:
        self._records: dict[str, KeyRecord] = {}
        self.away = False

    async def add(self, record: KeyRecord) -> None:
        self._answer_or_be_away()
        if record.caller.key_id in self._records:
            raise RowsRefused(f"the key {record.caller.key_id} is there already")
        self._records[record.caller.key_id] = record

    async def all(self) -> Sequence[KeyRecord]:
        self._answer_or_be_away()
        return tuple(sorted(self._records.values(), key=lambda record: (record.created_at_s, record.caller.key_id)))

    async def revoke(self, key_id: str, *, at_s: float) -> bool:
        self._answer_or_be_away()
        record = self._records.get(key_id)
        if record is None or record.revoked_at_s is not None:
            return False
        self._records[key_id] = replace(record, revoked_at_s=at_s)
        return True

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")
