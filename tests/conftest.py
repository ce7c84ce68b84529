"""Fixtures that more than one room uses, each kept beside what it starts."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

from tests.books import books_url, database, migrated
from tests.postgres import fresh_database, postgres

__all__ = ["books_url", "database", "fresh_database", "migrated", "postgres"]


def pytest_configure() -> None:
    """How long an example takes on a busy machine decides nothing."""
    settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("house")
    _can_be_interrupted()


def _can_be_interrupted() -> None:
    """A shell's background job ignores Ctrl-C, and so would every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
