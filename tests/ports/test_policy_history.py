"""`app.storage.policy_history` and its fake both are what `app.ports.PolicyHistory` says."""

from __future__ import annotations

import asyncpg
import pytest

from app.storage.engine import Database
from app.storage.policy_history import PostgresPolicyHistory
from tests.books import Reachable, said
from tests.fakes.policy_history import MemoryPolicyHistory
from tests.ports.policy_history_suite import PolicyHistoryAtHand, PolicyHistorySuite, a_pin, a_revision


class TestTheHistoryInPostgres(PolicyHistorySuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> PolicyHistoryAtHand:
        reachable = Reachable(books_url)
        return PolicyHistoryAtHand(
            history=PostgresPolicyHistory(database), take_away=reachable.take_away, bring_back=reachable.bring_back
        )


class TestTheHistoryInMemory(PolicyHistorySuite):
    @pytest.fixture
    def at_hand(self) -> PolicyHistoryAtHand:
        history = MemoryPolicyHistory()

        async def take_away() -> None:
            history.away = True

        async def bring_back() -> None:
            history.away = False

        return PolicyHistoryAtHand(history=history, take_away=take_away, bring_back=bring_back)


@pytest.mark.parametrize(
    "statement",
    [
        """update policy_revision set files = '{"models.yaml": "models: {evil: {}}"}'""",
        "update policy_revision set author = 'nobody'",
        "update policy_revision set seen_at_s = 0",
        "update policy_revision set findings = '[]'",
        "update policy_revision set digest = 'ffffffffffffffff'",
        "update policy_revision set in_force_at_s = null",
        "update policy_revision set in_force_at_s = in_force_at_s + 1",
        "delete from policy_revision",
        "truncate policy_revision cascade",
    ],
)
async def test_what_was_in_force_can_be_neither_changed_nor_removed(
    database: Database, books_url: str, statement: str
) -> None:
    history = PostgresPolicyHistory(database)
    kept = a_revision(in_force_at_s=5.0, findings=("a warning",))
    await history.remember(kept)
    with pytest.raises(asyncpg.RestrictViolationError, match="stays as it was"):
        await said(books_url, statement)
    assert await history.find(kept.digest) == kept


async def test_a_second_pin_beside_the_first_is_refused_by_the_table_itself(database: Database, books_url: str) -> None:
    history = PostgresPolicyHistory(database)
    await history.remember(a_revision())
    await history.pin(a_pin())
    for single in ("true", "false"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await said(books_url, f"insert into policy_pin select {single}, digest, 'x', 1 from policy_revision")
    assert await history.pinned() == a_pin()
