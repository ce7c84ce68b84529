"""A key book in memory that behaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.domain.limits import RateLimits
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

    async def follow(self, key_id: str, *, by: KeyRecord, until_s: float) -> bool:
        self._answer_or_be_away()
        old = self._records.get(key_id)
        if old is None or old.revoked_at_s is not None or old.successor is not None:
            return False
        await self.add(by)
        ends_s = until_s if old.caller.expires_at_s is None else min(old.caller.expires_at_s, until_s)
        caller = replace(old.caller, expires_at_s=ends_s)
        self._records[key_id] = replace(old, caller=caller, successor=by.caller.key_id)
        return True

    async def limit(self, key_id: str, limits: RateLimits) -> bool:
        self._answer_or_be_away()
        if key_id not in self._records:
            return False
        root = self._records[key_id].root
        for other, record in self._records.items():
            if record.root == root:
                self._records[other] = replace(record, limits=limits)
        return True

    async def used(self, at_s: Mapping[str, float]) -> None:
        self._answer_or_be_away()
        for key_id, moment_s in at_s.items():
            record = self._records.get(key_id)
            if record is not None and (record.last_used_at_s is None or record.last_used_at_s < moment_s):
                self._records[key_id] = replace(record, last_used_at_s=moment_s)

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")
