"""Migrations expand: the version before works on the database after it, so that both serve while one takes over.

What is taken away or made stricter (contract) comes a version later, when nobody needs it any more; such a migration
stands in `CONTRACTS` with the reason why nobody does.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

VERSIONS = sorted((Path(__file__).parents[2] / "migrations" / "versions").glob("*.py"))

#: Revision → why no version that runs beside it needs what it takes away.
CONTRACTS = {
    "0003": "before the first release: roll-ups get another key, no version without shadows was ever run beside it",
    "0007": "before the first release: limits are checked, which no version without them writes",
    "0004": "before the first release: usage sources are widened, and indexes made anew under their names",
}

#: What the version before may stumble over → what to do.
TAKES_AWAY = {
    r"^drop (?!index\b)": "what is dropped is still asked for by the version before: drop it a version later",
    r"\brename\b": "the old name is still asked for: add the new one beside it",
    r"^alter table .*\bdrop (column|constraint|default)\b|\balter column \w+ drop default\b": "the version before "
    "writes without it: drop it a version later",
    r"\balter column \w+ (set data )?type\b": "the version before may write what no longer fits: add a column",
    r"\bset not null\b": "the version before may leave it null: a version later",
    r"^alter table .*\badd (primary key|unique|check|foreign key|constraint)\b": "the version before may write what it "
    "refuses: a version later",
    r"^create unique index": "the version before may write what it refuses, unless the table is new",
    r"^(truncate|delete|revoke)\b": "the version before needs it",
}
NEW_COLUMN = re.compile(r"\badd column (?:if not exists )?(\w+) ([^,]*)")


def statements(path: Path) -> list[str]:
    """What the migration says to Postgres, each statement in a line; what stands inside functions is left out."""
    spec = importlib.util.spec_from_file_location(f"migration_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    migration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(migration)
    said = StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": said})
    with Operations.context(context):
        migration.upgrade()
    return split(said.getvalue())


def split(sql: str) -> list[str]:
    bare = re.sub(r"\$(\w*)\$.*?\$\1\$", "$$", sql, flags=re.DOTALL)
    bare = re.sub(r"--[^\n]*", "", bare)
    return [" ".join(each.split()) for each in bare.split(";") if each.strip()]


def faults(said: list[str]) -> Iterator[str]:
    made = {match[1] for each in said if (match := re.match(r"create table (?:if not exists )?(\w+)", each, re.I))}
    for each in said:
        touched = re.match(r"(?:alter table (?:only )?|create unique index \w+ on )(\w+)", each, re.I)
        if touched is not None and touched[1] in made:
            continue
        for pattern, advice in TAKES_AWAY.items():
            if re.search(pattern, each, re.I):
                yield f"{each[:120]}: {advice}"
        for name, kind in NEW_COLUMN.findall(each) if re.match("alter table", each, re.I) else ():
            if "not null" in kind.lower() and "default" not in kind.lower():
                yield f"{each[:120]}: the version before writes no {name}: give it a default, or let it be null"


@pytest.mark.parametrize("path", VERSIONS, ids=[path.stem for path in VERSIONS])
def test_the_version_before_works_after_every_migration(path: Path) -> None:
    found = list(faults(statements(path)))
    revision = path.name[:4]
    if revision in CONTRACTS:
        assert found, f"{revision} takes nothing away: it needs no line in CONTRACTS"
    else:
        assert not found, "\n".join(found)


def test_every_migration_was_looked_at_and_speaks() -> None:
    assert [path.name[:4] for path in VERSIONS] == [f"{number:04d}" for number in range(1, len(VERSIONS) + 1)]
    assert all(statements(path) for path in VERSIONS)
    assert CONTRACTS.keys() <= {path.name[:4] for path in VERSIONS}


@pytest.mark.parametrize(
    "said",
    [
        "drop table team",
        "DROP VIEW finance_usage",
        "drop function budget_take(jsonb)",
        "alter table team drop column name",
        "alter table team\n  rename column name to title",
        "alter table team rename to crew",
        "alter table team alter column name type varchar(10)",
        "alter table team alter column name set not null",
        "alter table team alter column name drop default",
        "alter table team add column size integer not null",
        "alter table team add column note text, add column size integer not null",
        "alter table team add constraint short check (length(name) < 9)",
        "alter table team drop constraint team_pkey, add primary key (name, size)",
        "create unique index one_each on team (cost_centre)",
        "revoke select on team from breakeven_app",
        "delete from team",
    ],
)
def test_what_takes_away_is_found(said: str) -> None:
    assert list(faults(split(f"create table other (n integer);\n{said};")))


@pytest.mark.parametrize(
    "said",
    [
        "create table team (name text not null, constraint short check (length(name) < 9))",
        "create table crew (name text); alter table crew add primary key (name); create unique index i on crew (name)",
        "alter table team add column note text",
        "alter table team add column size integer not null default 0, add column note text",
        "create index team_size on team (size); drop index team_name",
        "create or replace view finance_usage as select 1 as n",
        "create function f() returns void language plpgsql as $$ begin delete from team; drop table team; end $$",
        "create trigger kept before update or delete or truncate on team for each statement execute function f()",
        "-- drop table team;\nselect 1",
    ],
)
def test_what_adds_is_no_fault(said: str) -> None:
    assert list(faults(split(said))) == []
