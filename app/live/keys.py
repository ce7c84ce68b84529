"""The keys this process knows: memory only, so that no request waits for Postgres to learn who is calling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hmac import compare_digest
from typing import Final, NamedTuple

from app.domain.caller import Caller
from app.domain.errors import Unauthenticated
from app.domain.keys import (
    CALLER_KEY_CHARS,
    CALLER_KEY_ID,
    SECRET_BYTES,
    KeyKind,
    Pepper,
    Peppers,
    key_id_of,
    read_key,
    write_key,
)
from app.ports import KeyRecord

WRONG_KEY: Final = (
    "No valid API key came with this request: send the header `Authorization: Bearer bk_…` with a key made by "
    "`breakeven key create`."
)
CODE_WRONG: Final = "invalid_api_key"
CODE_EXPIRED: Final = "key_expired"


class _Known(NamedTuple):
    """One row of the table. `caller` is None for revoked keys and for the row that unknown ids are compared with."""

    digest: bytes
    pepper: Pepper
    caller: Caller | None


class KnownKeys:
    """Key id → digest and caller, replaced as a whole in one assignment. Holds no key and no secret but the pepper."""

    def __init__(self, peppers: Peppers) -> None:
        self._peppers = peppers
        pepper = peppers.newest
        # A well-formed text for whatever has no form, and a row that nothing can match: wrong keys of every sort are
        # hashed and compared like right ones.
        self._no_text = write_key(key_id_of(bytes(5)), bytes(SECRET_BYTES)).encode()
        self._nobody = _Known(bytes(32), pepper, None)
        self._table: dict[str, _Known] = {}
        self._used_at_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._table)

    def find(self, text: str, *, at_s: float) -> Caller:
        """Whose key this is; `at_s` is Unix time. At most a few microseconds, and the same work for every wrong key.

        Raises Unauthenticated: with one and the same message for all that is not a known key in force, and with the
        code `key_expired` for the holder of a real key whose time is up.
        """
        # Its form is not looked at: no other text has the digest of a key.
        if len(text) == CALLER_KEY_CHARS and text.isascii():
            known, hashed = self._table.get(text[CALLER_KEY_ID], self._nobody), text.encode()
        else:
            known, hashed = self._nobody, self._no_text
        same = compare_digest(known.pepper.digest(hashed), known.digest)
        caller = known.caller
        if not same or caller is None:
            raise Unauthenticated(WRONG_KEY, code=CODE_WRONG)
        if caller.expires_at_s is not None and at_s >= caller.expires_at_s:
            raise Unauthenticated(
                f"The API key {caller.key_id} has expired: ask the operator of this gateway for a new one.",
                code=CODE_EXPIRED,
            )
        self._used_at_s[caller.key_id] = at_s
        return caller

    def used(self) -> dict[str, float]:
        """Key id → when it was used last, in Unix seconds, of all that were used since this was asked last."""
        used, self._used_at_s = self._used_at_s, {}
        return used

    def used_too(self, at_s: Mapping[str, float]) -> None:
        """These were used as well: what could not be written down."""
        self._used_at_s = {**at_s, **self._used_at_s}

    def replace_all(self, records: Iterable[KeyRecord]) -> tuple[str, ...]:
        """These keys and no others, from now on. Returns the ids of keys whose pepper this process does not have:
        nobody can use them here until the pepper file holds that version again."""
        table: dict[str, _Known] = {}
        without_pepper: list[str] = []
        for record in records:
            pepper = self._peppers.by_version.get(record.pepper_version)
            if pepper is None:
                without_pepper.append(record.caller.key_id)
                continue
            caller = None if record.revoked_at_s is not None else record.caller
            table[record.caller.key_id] = _Known(record.digest, pepper, caller)
        self._table = table
        return tuple(without_pepper)


class KnownOperator:
    """The one operator key of this installation, by its digest."""

    def __init__(self, *, digest: bytes, pepper: Pepper) -> None:
        self._digest = digest
        self._pepper = pepper

    def holds(self, text: str) -> bool:
        """Is this the operator's key? The same work for every text that has the form of one."""
        key = read_key(text)
        if key is None or key.kind is not KeyKind.OPERATOR:
            return False
        return compare_digest(self._pepper.digest(text.encode()), self._digest)
