"""Limits by the minute as one process keeps them: slices of buckets that all processes share, spent from memory.

No clock, no I/O: `flows.limits` says what was taken in Postgres and what time it is. A slice asks for what its callers
wait for and for a second's worth ahead, less and less as the bucket runs dry; what lies idle goes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Final

from app.domain.caller import Caller
from app.domain.limits import RateKind, RateLimits, RateStanding
from app.ports.ledger import RateGranted

#: What was taken ahead and not touched for so long goes back.
IDLE_S: Final = 1.0
#: After an empty bucket was seen, what time alone refills is believed for so long; then it is asked again.
BELIEVED_S: Final = 0.25
_MINUTE_S: Final = 60.0
#: Nobody takes more ahead than this share of what nobody has taken yet.
_SHARE_AHEAD: Final = 8


class Slice:
    """What this process holds of one bucket. Below zero: it was spent before it was taken, and is taken next."""

    __slots__ = (
        "_alone_level",
        "_alone_s",
        "_full_in_s",
        "_heard_s",
        "_left",
        "_used_s",
        "held",
        "kind",
        "name",
        "owner",
        "per_minute",
        "waiting",
    )

    def __init__(self, *, name: str, owner: str, kind: RateKind, per_minute: int) -> None:
        self.name = name
        #: Whose limit it is, for people: `key abcd2345`.
        self.owner = owner
        self.kind = kind
        self.per_minute = per_minute
        self.held = 0
        #: What callers wait for until the next answer.
        self.waiting = 0
        self._left = per_minute
        self._full_in_s = 0.0
        self._heard_s: float | None = None
        self._used_s = 0.0
        self._alone_s: float | None = None
        self._alone_level = 0.0

    def spend(self, amount: int, *, at_s: float) -> None:
        """Less is held now; `amount` below zero: more."""
        self.held -= amount
        self._used_s = at_s

    def wish(self) -> int:
        """How much to take now: what is waited for and owed, and something ahead; 0 for none."""
        ahead = self._ahead()
        short = self.waiting - self.held
        return short + ahead if short > 0 or -short < (ahead + 1) // 2 else 0

    def is_low(self) -> bool:
        """True when it is time to take ahead, or when something is owed."""
        return self.held < 0 or self.held < (self._ahead() + 1) // 2

    def surplus(self, *, at_s: float) -> int:
        """What has lain idle and may go back."""
        return self.held if self.held > 0 and at_s - self._used_s >= IDLE_S else 0

    def heard(self, granted: RateGranted, *, at_s: float) -> None:
        """The bucket answered."""
        self.held += granted.amount
        self._left = granted.left
        self._full_in_s = granted.full_in_s
        self._heard_s = at_s
        self._alone_s = None

    def is_dry(self, amount: int, *, at_s: float) -> bool:
        """True when the bucket was heard of a moment ago and cannot have so much more now."""
        if self._heard_s is None or at_s - self._heard_s > BELIEVED_S:
            return False
        return self.held + self._left_now(at_s=at_s) < amount

    def draw_alone(self, *, at_s: float, processes: int) -> None:
        """Postgres is away: hold this process's share of what a minute refills, beginning with its share of what was
        left when the bucket was last heard of; of one that was never heard of, its share of a full one."""
        share = max(self.per_minute / processes, 1.0)
        if self._alone_s is None:
            self._alone_level = min(share, float(self._left // processes))
        else:
            refilled = max(at_s - self._alone_s, 0.0) * self.per_minute / processes / _MINUTE_S
            self._alone_level = min(share, self._alone_level + refilled)
        self._alone_s = at_s
        whole = min(floor(self._alone_level), max(floor(share) - self.held, 0))
        self._alone_level -= whole
        self.held += whole
        self._left = 0
        self._heard_s = None

    def standing(self, *, at_s: float) -> RateStanding:
        """What may still be asked now, as far as this process knows."""
        left = min(max(self.held + floor(self._left_now(at_s=at_s)), 0), self.per_minute)
        return RateStanding(
            kind=self.kind,
            per_minute=self.per_minute,
            left=left,
            full_in_s=(self.per_minute - left) * _MINUTE_S / self.per_minute,
        )

    def comes_in_s(self, amount: int, *, at_s: float) -> float:
        """After how many seconds there is so much, if nobody else asks."""
        missing = amount - self.held - self._left_now(at_s=at_s)
        return max(missing, 0.0) * _MINUTE_S / self.per_minute

    def _ahead(self) -> int:
        return min(self.per_minute // 60, self._left // _SHARE_AHEAD)

    def _left_now(self, *, at_s: float) -> float:
        if self._heard_s is None:
            return float(self._left)
        return min(self._left + max(at_s - self._heard_s, 0.0) * self.per_minute / _MINUTE_S, float(self.per_minute))


class SharedLimits:
    """Which keys and teams have limits, and their slices."""

    def __init__(self) -> None:
        self._of_key: Mapping[str, tuple[Slice, ...]] = {}
        self._of_team: Mapping[str, tuple[Slice, ...]] = {}
        self._slices: dict[str, Slice] = {}

    def follow(self, *, keys: Mapping[str, tuple[str, RateLimits]], teams: Mapping[str, RateLimits]) -> None:
        """These limits and no others, from now on. `keys` is key id → the key it goes back to, and its limits: keys
        that followed one another share one bucket. What is held of a limit that stays is kept."""
        kept: dict[str, Slice] = {}
        self._of_key = {
            key_id: slices
            for key_id, (lineage, limits) in keys.items()
            if (slices := self._made(kept, f"key/{lineage}", f"key {key_id}", limits))
        }
        self._of_team = {
            team: slices
            for team, limits in teams.items()
            if (slices := self._made(kept, f"team/{team}", f'team "{team}"', limits))
        }
        self._slices = kept

    def of(self, caller: Caller) -> tuple[Slice, ...]:
        """The limits that this caller's requests count for."""
        of_key = self._of_key.get(caller.key_id, ())
        return of_key + self._of_team[caller.team] if caller.team in self._of_team else of_key

    def all(self) -> Mapping[str, Slice]:
        """Every slice by its bucket's name."""
        return self._slices

    def _made(self, kept: dict[str, Slice], name: str, owner: str, limits: RateLimits) -> tuple[Slice, ...]:
        made = []
        for kind in RateKind:
            per_minute = limits.of(kind)
            if per_minute is None:
                continue
            bucket = f"{name}/{kind}"
            one = kept.get(bucket) or self._slices.get(bucket)
            if one is None:
                one = Slice(name=bucket, owner=owner, kind=kind, per_minute=per_minute)
            one.per_minute = per_minute
            kept[bucket] = one
            made.append(one)
        return tuple(made)
