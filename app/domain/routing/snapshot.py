"""A snapshot: the world a decision is made on. With the facts it replays the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.domain.routing.policy import Policy
from app.domain.target import TargetSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The policy a request was admitted with, the fleet as seen then, and the aware moment, in its timezone."""

    policy: Policy
    fleet: Mapping[str, TargetSeen]
    at: datetime
