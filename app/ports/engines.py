"""How an engine is asked what it is and how it does."""

from __future__ import annotations

from typing import Protocol

from app.domain.engine import EngineReading, EngineTrial
from app.domain.signals import EngineSignals
from app.domain.target import Target


class EngineProbe(Protocol):
    """Looks at the engine behind a self-hosted target, as its family says. Never raises for what an engine does or does
    not do: that is what it reports. Any number of looks at once; each is bounded in time and bytes, and none is sent a
    second time."""

    async def signals(self, target: Target) -> EngineSignals:
        """Its load alone: the page of figures, and other pages only for what that one does not have. Cheap enough to be
        called several times a second."""
        ...

    async def look(self, target: Target) -> EngineReading:
        """Everything it says: health, version, models with their contexts, load, and what it looks like."""
        ...

    async def try_out(self, target: Target) -> EngineTrial:
        """One small streamed chat, and what came with it. Sent once more, word by word, where only a prefix cache that
        knows the prompt can show something. Costs the target some hundred tokens."""
        ...
