"""`app.storage.migrate`: from nothing to the newest form, by as many as like, all or nothing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from app.domain.errors import SetupError
from app.ports import BooksAway
from app.storage.columns import SUMS
from app.storage.migrate import differences, migrate, migrations_directory
from tests.books import said
from tests.makers import NOON
from tests.postgres import FreshDatabases

PARTITIONS = tuple(
    f"{table}_{month}" for table in ("receipt", "attempt") for month in ("2026_11", "2026_12", "2027_01")
)

ONE_OF_MANY = """
import asyncio, sys
from app.storage.migrate import migrate
from tests.makers import NOON
print(len(asyncio.run(migrate(sys.argv[1], now=NOON))))
"""


async def test_an_empty_database_becomes_a_migrated_one_with_partitions_ahead(fresh_database: FreshDatabases) -> None:
    url = await fresh_database()
    assert await migrate(url, now=NOON) == PARTITIONS
    assert await differences(url) is None


async def test_what_was_booked_before_there_were_shadows_is_answers(fresh_database: FreshDatabases) -> None:
    url = await fresh_database()
    await migrate_to(url, "0002")
    figures = ", ".join("1" for _ in SUMS)
    await said(url, f"insert into usage_hour values ('2026-11-23T12:00Z', 't', 'c', 'm', 'home', 'managed', {figures})")
    await said(
        url, f"insert into usage_day_key values ('2026-11-23', 'k', 't', 'c', 'm', 'home', 'managed', {figures})"
    )
    await migrate(url, now=NOON)
    assert await differences(url) is None
    for table in ("usage_hour", "usage_day_key", "finance_usage"):
        (row,) = await said(url, f"select * from {table}")
        assert (row["shadow"], row["requests"]) == (False, 1)


async def migrate_to(url: str, revision: str) -> None:
    """As an older version left it."""
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()))
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


async def test_migrating_again_does_nothing(books_url: str) -> None:
    assert await migrate(books_url, now=NOON) == ()
    assert await migrate(books_url.replace("postgresql://", "postgresql+asyncpg://"), now=NOON) == ()


async def test_eight_processes_may_migrate_at_once(fresh_database: FreshDatabases) -> None:
    url = await fresh_database()
    programs = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-c",
            ONE_OF_MANY,
            url,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(8)
    ]
    answers = [await program.communicate() for program in programs]
    assert [error.decode() for _, error in answers] == [""] * 8
    assert sorted(int(made) for made, _ in answers) == [0] * 7 + [6]
    assert await differences(url) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("alter table usage_hour drop column charge", "charge"),
        ("alter table virtual_key add column nickname text", "nickname"),
        ("drop index receipt_key_id_at", "receipt_key_id_at"),
        ("alter table attempt alter column policy_digest drop not null", "policy_digest"),
        ("create table stray (n integer)", "stray"),
    ],
)
async def test_a_database_that_differs_from_the_tables_is_told_of(books_url: str, change: str, named: str) -> None:
    if "drop column" in change:
        await said(books_url, "drop view finance_usage")
    await said(books_url, change)
    found = await differences(books_url)
    assert found is not None
    assert named in found


async def test_partitions_made_while_running_are_no_difference(books_url: str) -> None:
    await migrate(books_url, now=NOON.replace(year=2030))
    assert await differences(books_url) is None


async def test_a_database_of_a_newer_version_is_left_alone(books_url: str) -> None:
    await said(books_url, "update alembic_version set version_num = '9999'")
    with pytest.raises(SetupError, match="9999"):
        await migrate(books_url, now=NOON)


async def test_a_migration_that_fails_leaves_nothing_behind(fresh_database: FreshDatabases) -> None:
    url = await fresh_database()
    await said(url, "create table virtual_key (mine integer)")
    with pytest.raises(BooksAway, match="virtual_key"):
        await migrate(url, now=NOON)
    tables = await said(
        url, "select relname from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"
    )
    assert [row["relname"] for row in tables] == ["virtual_key"]


async def test_a_database_that_cannot_be_reached_is_away() -> None:
    with pytest.raises(BooksAway, match="DATABASE_URL"):
        await migrate("postgresql://postgres@/books?host=/nonexistent", now=NOON)


def test_an_installed_package_brings_its_own_migrations(tmp_path: Path) -> None:
    package = tmp_path / "app"
    for directory in (package / "_shipped" / "migrations", tmp_path / "migrations"):
        directory.mkdir(parents=True)
        (directory / "env.py").touch()
    assert migrations_directory(package) == package / "_shipped" / "migrations"
    (package / "_shipped" / "migrations" / "env.py").unlink()
    assert migrations_directory(package) == tmp_path / "migrations"


def test_a_package_without_migrations_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="install breakeven again"):
        migrations_directory(tmp_path / "app")
