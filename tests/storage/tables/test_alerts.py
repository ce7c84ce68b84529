"""`app.storage.tables.alerts`: what the rows of alerts refuse."""

from __future__ import annotations

import re

import asyncpg
import pytest

from app.domain.alert import AlertKind, AlertState
from app.storage.alert_book import PostgresAlertBook
from app.storage.engine import Database
from app.storage.tables.alerts import ALERT
from tests.books import said
from tests.ports.alert_book_suite import an_alert


def _words(name: str) -> set[str]:
    (check,) = (one for one in ALERT.constraints if one.name == name)
    return set(re.findall(r"'(\w+)'", str(check.sqltext)))  # type: ignore[attr-defined]


def test_states_and_kinds_are_the_words_of_the_domain() -> None:
    assert _words("alert_state") == {state.value for state in AlertState}
    assert _words("alert_kind") == {kind.value for kind in AlertKind} - {"test"}


@pytest.mark.parametrize(
    "change", ["state = 'gone'", "kind = 'test'", "state = 'delivered'", "delivered_at = now()", "account = null"]
)
async def test_a_row_that_makes_no_sense_is_refused(database: Database, books_url: str, change: str) -> None:
    await PostgresAlertBook(database).fire([an_alert()])
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await said(books_url, f"update alert set {change}")
