"""Fixtures that more than one room uses, each kept beside what it starts."""

from __future__ import annotations

from tests.books import books_url, database, migrated
from tests.postgres import fresh_database, postgres

__all__ = ["books_url", "database", "fresh_database", "migrated", "postgres"]
