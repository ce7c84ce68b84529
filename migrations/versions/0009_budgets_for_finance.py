"""Finance sees what of a budget is set aside: by processes that live, and by those that were not heard of."""

# ruff: noqa: S608  (what is put together here is our own names)

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"

_USD = "({} / 1000000000::numeric)::numeric(28, 9)"
_KEPT = "coalesce((select sum(granted - returned - used) from budget_lease l where {} and l.state = '{}'), 0)"
_ITS = "(l.account, l.begin_at) = (a.account, a.begin_at)"

#: The columns of before, in their order, then the new ones: so the view is replaced and its rights stay.
VIEW = f"""
create or replace view finance_budgets as
select name, begin_at, end_at, team, cost_centre, key_id, model, tag, {_USD.format("cap")} as amount_usd,
       {_USD.format("spent")} as spent_usd, {_USD.format("overrun")} as overrun_usd,
       {_USD.format(_KEPT.format(_ITS, "open"))} as held_usd, {_USD.format(_KEPT.format(_ITS, "lost"))} as lost_usd
  from budget_account a
"""


def upgrade() -> None:
    op.execute(VIEW)
