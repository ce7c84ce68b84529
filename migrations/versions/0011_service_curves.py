"""What was learned of how fast self-hosted targets are outlives the processes that learned it: one row a target."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"

CURVE = """
create table service_curve (
    target         text primary key,
    url            text not null,
    model          text not null,
    kind           text not null,
    engine_version text not null,
    steps_weight   double precision not null,
    steps_x        double precision not null,
    steps_y        double precision not null,
    steps_xx       double precision not null,
    steps_xy       double precision not null,
    prefill_weight double precision not null,
    prefill_x      double precision not null,
    prefill_y      double precision not null,
    prefill_xx     double precision not null,
    prefill_xy     double precision not null,
    output_tokens  double precision not null,
    ttft_ms        double precision,
    learned_at     timestamptz not null default now(),
    constraint service_curve_numbers check (
        least(steps_weight, steps_x, steps_y, steps_xx, prefill_weight, prefill_x, prefill_y, prefill_xx,
              output_tokens) >= 0
        and greatest(steps_weight, steps_x, steps_y, steps_xx, steps_xy, prefill_weight, prefill_x, prefill_y,
                     prefill_xx, prefill_xy, output_tokens, ttft_ms) < 'infinity'
    )
)
"""


def upgrade() -> None:
    op.execute(CURVE)
