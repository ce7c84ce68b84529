"""The policy in force, in one place, swapped in one assignment."""

from __future__ import annotations

from app.domain.routing.policy import Policy


class PolicySlot:
    """Holds the current policy. A request reads `current` once and keeps what it read."""

    __slots__ = ("current",)

    def __init__(self, policy: Policy) -> None:
        self.current = policy

    def swap(self, policy: Policy) -> Policy:
        """Put a compiled policy in force; returns the one it replaces."""
        before, self.current = self.current, policy
        return before
