"""The protocols of keys: who may call, in the name of which team, within which limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.caller import Caller
from app.domain.limits import UNLIMITED, RateLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A virtual key as stored: never the key itself. Times in Unix seconds."""

    caller: Caller
    name: str
    digest: bytes
    pepper_version: int
    created_at_s: float
    revoked_at_s: float | None = None
    limits: RateLimits = UNLIMITED
    #: The first of the keys that followed one another by rotation; None: this one is.
    lineage: str | None = None
    #: The key that replaces it.
    successor: str | None = None
    #: True to the minute; None: never used.
    last_used_at_s: float | None = None

    @property
    def root(self) -> str:
        """The id that limits are counted under: keys that followed one another share them."""
        return self.lineage or self.caller.key_id


class KeyBook(Protocol):
    """Virtual keys in Postgres. Raises BooksAway."""

    async def add(self, record: KeyRecord) -> None:
        """Raises RowsRefused when a key of that id is there."""
        ...

    async def all(self) -> Sequence[KeyRecord]:
        """Every key ever made, revoked and expired ones too, oldest first."""
        ...

    async def revoke(self, key_id: str, *, at_s: float) -> bool:
        """False when there is no such key, or it was revoked already."""
        ...

    async def follow(self, key_id: str, *, by: KeyRecord, until_s: float) -> bool:
        """In one step: add `by`, name it the successor of this key, and let this key expire at `until_s` unless it
        expires sooner. False, and nothing is added, when there is no such key, it is revoked, or it has a successor.
        Raises RowsRefused when a key of the successor's id is there."""
        ...

    async def limit(self, key_id: str, limits: RateLimits) -> bool:
        """These limits from now on, and those of the keys that follow it or that it followed. False: no such key."""
        ...

    async def used(self, at_s: Mapping[str, float]) -> None:
        """Key id → when it was used last, in Unix seconds; a time before the one that is known changes nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A team that keys belong to. `created_at_s` is Unix time."""

    name: str
    #: Who pays for its keys unless they say otherwise.
    cost_centre: str
    created_at_s: float
    #: Of all its keys together.
    limits: RateLimits = UNLIMITED
    #: False: only keys name it; nobody made it, so that it can have no limits.
    is_made: bool = True


class TeamBook(Protocol):
    """Teams in Postgres. Raises BooksAway."""

    async def add(self, team: Team) -> None:
        """Raises RowsRefused when a team of that name is there."""
        ...

    async def all(self) -> Sequence[Team]:
        """Every team, by name."""
        ...

    async def limit(self, name: str, limits: RateLimits) -> bool:
        """These limits from now on. False: no such team."""
        ...
