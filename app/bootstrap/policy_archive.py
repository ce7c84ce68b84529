"""Where policies and past decisions are looked up, for commands and for the console."""

from __future__ import annotations

from app.flows.policy_archive import Compiler, PolicyArchive
from app.settings import Settings
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.policy_history import PostgresPolicyHistory
from app.storage.price_catalogue import PackagedCatalogue
from app.storage.shelf import PolicyShelf
from app.system import SystemClock


def policy_archive(settings: Settings, database: Database) -> PolicyArchive:
    """Over the files of these settings and the books in this database."""
    return PolicyArchive(
        history=PostgresPolicyHistory(database),
        shelf=PolicyShelf(settings.policies),
        ledger=PostgresLedgerBook(database),
        clock=SystemClock(),
        compiled=Compiler(catalogue=PackagedCatalogue()),
    )
