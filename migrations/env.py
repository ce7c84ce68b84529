"""What Alembic runs: `app.storage.migrate` hands in the connection, `app.storage.tables` says what should be there."""

from __future__ import annotations

import re

from alembic import context

from app.storage.tables import METADATA

#: Made while the gateway runs, month by month; the migrations know only their parents.
PARTITION = re.compile(r"(receipt|attempt)_(\d{4}_\d{2}|default)")


def is_ours(name: str | None, kind: str, parents: object) -> bool:
    return not (kind == "table" and name is not None and PARTITION.fullmatch(name))


context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, include_name=is_ours)
with context.begin_transaction():
    context.run_migrations()
