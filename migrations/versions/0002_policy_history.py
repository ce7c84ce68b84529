"""Every revision of the policy, for ever, and the one that is pinned."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

#: `json` and not `jsonb`: it keeps the text of files as it was, whatever letters a broken one holds.
POLICY_REVISION = """
create table policy_revision (
    number        bigint generated always as identity,
    digest        text primary key,
    files         json not null,
    author        text not null,
    seen_at_s     double precision not null,
    in_force_at_s double precision,
    findings      json not null,
    constraint policy_revision_digest check (digest ~ '^[0-9a-f]{16}$')
)
"""

NEWEST = "create index policy_revision_newest on policy_revision (seen_at_s desc, number desc)"

#: At most one row, as `single` is true and unique.
POLICY_PIN = """
create table policy_pin (
    single      boolean primary key default true,
    digest      text not null references policy_revision (digest),
    by          text not null,
    pinned_at_s double precision not null,
    constraint policy_pin_single check (single)
)
"""

KEPT = """
create function refuse_another_revision() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        if (new.number, new.digest, new.files::text, new.author, new.seen_at_s, new.findings::text)
           is not distinct from
           (old.number, old.digest, old.files::text, old.author, old.seen_at_s, old.findings::text)
           and (old.in_force_at_s is null or new.in_force_at_s <= old.in_force_at_s)
        then
            return new;
        end if;
    end if;
    raise exception '% on % is refused: a revision of the policy stays as it was', tg_op, tg_table_name
        using errcode = 'restrict_violation';
end
$$
"""

KEEP_EACH = """
create trigger policy_revision_kept before update or delete on policy_revision
    for each row execute function refuse_another_revision()
"""
KEEP_ALL = """
create trigger policy_revision_not_emptied before truncate on policy_revision
    for each statement execute function refuse_another_revision()
"""


def upgrade() -> None:
    for statement in (POLICY_REVISION, NEWEST, POLICY_PIN, KEPT, KEEP_EACH, KEEP_ALL):
        op.execute(statement)
