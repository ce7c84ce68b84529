"""Who may do what in the database: two roles that can be given to users, and what they are granted.

`breakeven_app` works with the books and can neither change nor remove what is append-only. `breakeven_finance` reads
the views `finance_…` and nothing else; they are views of their owner, so that it needs no right on a table.
"""

# ruff: noqa: S608  (what is put together here is our own names)

from __future__ import annotations

from typing import Final

from app.storage.engine import Connection

APP_ROLE: Final = "breakeven_app"
FINANCE_ROLE: Final = "breakeven_finance"

#: A role belongs to the whole server: another database of it may be making the same one just now.
_ROLES = tuple(
    f"""
do $$ begin
    if not exists (select 1 from pg_roles where rolname = '{role}') then
        create role {role} nologin;
    end if;
exception
    when duplicate_object or unique_violation then null;
    when insufficient_privilege then
        raise warning 'the role {role} is missing: let an administrator run "create role {role} nologin", '
                      'then run "breakeven db migrate" again';
end $$
"""
    for role in (APP_ROLE, FINANCE_ROLE)
)

#: What is append-only says so itself, by the trigger that refuses everything else.
_GRANTS = f"""
do $$
declare
    one record;
begin
    if not exists (select 1 from pg_roles where rolname = '{APP_ROLE}')
       or not exists (select 1 from pg_roles where rolname = '{FINANCE_ROLE}') then
        return;
    end if;
    execute format('grant usage on schema %I to {APP_ROLE}, {FINANCE_ROLE}', current_schema());
    for one in
        select c.oid::regclass as name, c.relkind, c.relname,
               exists (select 1 from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                        where t.tgrelid = c.oid and p.proname = 'refuse_change') as append_only
          from pg_class c
         where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p', 'v', 'S')
         order by c.oid
    loop
        if one.relkind = 'S' then
            execute format('grant usage on sequence %s to {APP_ROLE}', one.name);
            continue;
        end if;
        execute format('revoke all on %s from {APP_ROLE}, {FINANCE_ROLE}', one.name);
        if one.relkind = 'v' and starts_with(one.relname, 'finance_') then
            execute format('grant select on %s to {FINANCE_ROLE}', one.name);
        end if;
        if one.relkind = 'v' or one.relname = 'alembic_version' then
            execute format('grant select on %s to {APP_ROLE}', one.name);
        elsif one.append_only then
            execute format('grant select, insert on %s to {APP_ROLE}', one.name);
        else
            execute format('grant select, insert, update, delete on %s to {APP_ROLE}', one.name);
        end if;
    end loop;
exception when insufficient_privilege then
    raise warning 'rights are as they were (%): let the owner of the tables run "breakeven db migrate"', sqlerrm;
end $$
"""


async def grant_rights(connection: Connection) -> None:
    """Make the two roles, if this user may, and grant them what they need on all that is there now."""
    for statement in (*_ROLES, _GRANTS):
        await connection.execute(statement)
