"""The books: receipts and attempts by month, roll-ups, keys, measured rates, and a view for finance."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

RECEIPT = """
create table receipt (
    request_id    uuid not null,
    at            timestamptz not null,
    key_id        text not null,
    team          text not null,
    cost_centre   text not null,
    model         text not null,
    endpoint      text not null,
    stream        boolean not null,
    caller_label  text,
    policy_digest text not null,
    rule          text,
    target        text not null,
    hosting       text not null,
    outcome       text not null,
    status        integer not null,
    attempts      integer not null,
    charge        bigint not null,
    duration_s    double precision not null,
    overhead_s    double precision not null,
    flags         text[] not null,
    facts         jsonb not null,
    decision      jsonb not null,
    booked_at     timestamptz not null default now(),
    primary key (request_id, at),
    constraint receipt_outcome
        check (outcome in ('complete', 'abandoned', 'broken', 'refused', 'interrupted'))
) partition by range (at)
"""

ATTEMPT = """
create table attempt (
    attempt_id          text not null,
    kind                text not null default 'settled',
    at                  timestamptz not null,
    request_id          uuid not null,
    number              integer not null,
    key_id              text not null,
    team                text not null,
    cost_centre         text not null,
    model               text not null,
    target              text not null,
    hosting             text not null,
    target_kind         text not null,
    upstream_model      text not null,
    outcome             text not null,
    fault               text,
    fault_message       text,
    status              integer,
    provider_request_id text,
    started_at          timestamptz not null,
    prompt_tokens       bigint not null,
    cached_tokens       bigint not null,
    output_tokens       bigint not null,
    reasoning_tokens    bigint not null,
    usage_source        text not null,
    content_events      bigint not null,
    ttft_s              double precision,
    tpot_s              double precision,
    duration_s          double precision not null,
    policy_digest       text not null,
    rate_card_digest    text not null,
    price_prompt        numeric not null,
    price_cached_prompt numeric not null,
    price_output        numeric not null,
    charge              bigint not null,
    flags               text[] not null,
    booked_at           timestamptz not null default now(),
    primary key (attempt_id, kind, at),
    constraint attempt_outcome
        check (outcome in ('complete', 'abandoned', 'broken', 'refused', 'interrupted')),
    constraint attempt_usage_source
        check (usage_source in
            ('provider_final', 'provider_partial', 'gateway_estimate', 'checkpoint', 'nothing_sent')),
    constraint attempt_hosting check (hosting in ('self_hosted', 'managed')),
    constraint attempt_prices
        check (least(price_prompt, price_cached_prompt, price_output) >= 0
           and greatest(price_prompt, price_cached_prompt, price_output) < 'infinity'),
    constraint attempt_tokens
        check (least(prompt_tokens, cached_tokens, output_tokens, reasoning_tokens) >= 0
           and greatest(prompt_tokens, cached_tokens, output_tokens, reasoning_tokens) <= 1000000000000),
    constraint attempt_charge check (abs(charge) <= 10000000000000000)
) partition by range (at)
"""

SUMS = """
    requests           bigint not null,
    attempts           bigint not null,
    complete           bigint not null,
    abandoned          bigint not null,
    broken             bigint not null,
    refused            bigint not null,
    interrupted        bigint not null,
    prompt_tokens      bigint not null,
    cached_tokens      bigint not null,
    output_tokens      bigint not null,
    reasoning_tokens   bigint not null,
    estimated_attempts bigint not null,
    charge             bigint not null,
    decode_tokens      bigint not null,
    decode_us          bigint not null,
"""

#: Rows of the hour that runs are updated by every batch: room on the page keeps such updates off the index.
ROLL_UPS = (
    f"""
create table usage_hour (
    hour        timestamptz not null,
    team        text not null,
    cost_centre text not null,
    model       text not null,
    target      text not null,
    hosting     text not null,
    {SUMS}
    primary key (hour, team, cost_centre, model, target, hosting)
) with (fillfactor = 70)
""",
    f"""
create table usage_day_key (
    day         date not null,
    key_id      text not null,
    team        text not null,
    cost_centre text not null,
    model       text not null,
    target      text not null,
    hosting     text not null,
    {SUMS}
    primary key (day, key_id, team, cost_centre, model, target, hosting)
) with (fillfactor = 70)
""",
    """
create table latency_hour (
    hour        timestamptz not null,
    team        text not null,
    cost_centre text not null,
    model       text not null,
    target      text not null,
    hosting     text not null,
    metric      text not null,
    bucket      integer not null,
    n           bigint not null,
    primary key (hour, team, cost_centre, model, target, hosting, metric, bucket)
) with (fillfactor = 70)
""",
)

KEYS_AND_RATES = (
    """
create table virtual_key (
    key_id         text primary key,
    name           text not null,
    digest         bytea not null,
    pepper_version integer not null,
    team           text not null,
    cost_centre    text not null,
    tags           text[] not null,
    models         text[],
    expires_at_s   double precision,
    created_at_s   double precision not null,
    revoked_at_s   double precision
)
""",
    """
create table measured_rates (
    id                   bigint generated always as identity primary key,
    target               text not null,
    prefill_tokens_per_s numeric not null,
    decode_tokens_per_s  numeric not null,
    model                text not null,
    engine_version       text not null,
    measured_at_s        bigint not null,
    concurrency          integer not null
)
""",
    "create index measured_rates_target_newest on measured_rates (target, measured_at_s desc, id desc)",
)

APPEND_ONLY = """
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% on % is refused: the ledger is append-only, book an adjustment instead', tg_op, tg_table_name
        using errcode = 'restrict_violation';
end
$$
"""


def _partitioned(table: str) -> tuple[str, ...]:
    """The net for rows of a month that has no partition, the indexes, and the refusal of everything but INSERT.

    A trigger on rows passes to every partition, one on TRUNCATE does not: each partition gets its own.
    """
    return (
        f"create table {table}_default partition of {table} default",
        f"create index {table}_at on {table} using brin (at) with (pages_per_range = 32)",
        f"create index {table}_key_id_at on {table} (key_id, at)",
        f"""
create trigger {table}_append_only before update or delete on {table} for each row execute function refuse_change()
""",
        *(
            f"create trigger {name}_no_truncate before truncate on {name} execute function refuse_change()"
            for name in (table, f"{table}_default")
        ),
    )


FINANCE_USAGE = """
create view finance_usage with (security_invoker = true) as
select hour, (hour at time zone 'UTC')::date as day_utc, team, cost_centre, model, target, hosting,
       requests, attempts, complete, abandoned, broken, refused, interrupted,
       prompt_tokens, cached_tokens, output_tokens, reasoning_tokens, estimated_attempts,
       (charge / 1000000000::numeric)::numeric(28, 9) as charge_usd
  from usage_hour
"""


def upgrade() -> None:
    for statement in (
        RECEIPT,
        ATTEMPT,
        *ROLL_UPS,
        *KEYS_AND_RATES,
        APPEND_ONLY,
        *_partitioned("receipt"),
        *_partitioned("attempt"),
        FINANCE_USAGE,
    ):
        op.execute(statement)
