"""Who asks: what a virtual key stands for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The identity behind a request. It comes from the virtual key alone, never from the body or a header."""

    key_id: str
    team: str
    cost_centre: str
    tags: tuple[str, ...] = ()
    #: None: every model. Otherwise the public names this key may ask for.
    models: frozenset[str] | None = None
    #: Unix seconds; None: never expires.
    expires_at_s: float | None = None

    def may_use(self, model: str) -> bool:
        """True when the key's list of models allows this public name."""
        return self.models is None or model in self.models

    def has_expired(self, *, at_s: float) -> bool:
        """True from the very second of expiry on. `at_s` is Unix time."""
        return self.expires_at_s is not None and at_s >= self.expires_at_s
