"""What a schema cannot see of engines: entries that say nothing, names that lead nowhere, names that nobody uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from app.documents.gather import Gathered
from app.documents.nearest import mend_for
from app.documents.policy import Engine
from app.domain.findings import Finding, Severity


def lint_engines(gathered: Gathered) -> Iterator[Finding]:
    """Faults of engines, each on its own."""
    for name, placed in gathered.engines.items():
        engine = placed.written
        if engine is None:
            continue
        if engine.like is not None and name in get_args(Engine):
            message = f"{name} is known: what is written here is put over its own table"
            mend = "remove `like`, or name the engine own-…"
            yield placed.finding("misplaced", message, below=("like",), at_key=True, mend=mend)
        for index, error in enumerate(engine.errors):
            if not (error.statuses or error.codes or error.phrases):
                message = f"every failure would be {error.kind}"
                mend = "write `statuses`, `codes` or `phrases`"
                yield placed.finding("empty", message, below=("errors", index), mend=mend)


def lint_engine_links(gathered: Gathered) -> Iterator[Finding]:
    """Faults between targets and engines. Only asked when every file could be read."""
    used = {placed.written.engine for placed in gathered.targets.values() if placed.written}
    for placed in gathered.targets.values():
        engine = placed.written.engine if placed.written else None
        if engine is not None and engine not in get_args(Engine) and engine not in gathered.engines:
            own = [name for name in gathered.engines if name not in get_args(Engine)]
            message = f'the target "{placed.name}" names the engine "{engine}", which no file has'
            mend = mend_for(engine, own, what="own engines") if own else f"write it under `engines: {{{engine}: …}}`"
            yield placed.finding("unknown-engine", message, below=("engine",), mend=mend)
    if all(placed.written for placed in gathered.targets.values()):
        for name, entry in gathered.engines.items():
            if name not in used:
                message = f'no target uses the engine "{name}"'
                mend = "name it in a target's `engine`, or remove it"
                yield entry.finding("unused-engine", message, mend=mend, severity=Severity.WARNING)
