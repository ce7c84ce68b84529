"""`flows.hold`'s waiting over real wallets: agents that ask for much and use little are not refused for it."""

from __future__ import annotations

import pytest

from tests.simulator.denials import LATE, denials

HOLD = 300_000_000


@pytest.mark.parametrize(("replicas", "agents"), [(1, 8), (4, 16)])
def test_of_a_budget_of_20_holds_an_agent_less_than_one_percent_is_refused_falsely(replicas: int, agents: int) -> None:
    figures = denials(seed=1, replicas=replicas, agents=agents, hold=HOLD, cap=20 * agents * HOLD)
    print(figures)
    assert figures.asked > 1_000
    assert figures.rate < 0.01
    assert LATE <= figures.spent <= 1
