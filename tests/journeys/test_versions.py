"""One version replaces the other while both serve: the database is migrated under load, and the books close."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import pytest

from app.domain.pricing.rate_card import RateCard
from app.storage.engine import Database
from app.storage.migrate import migrate
from app.storage.partitions import ensure_partitions
from tests.books import said
from tests.command_line import clean_environment
from tests.gateway_process import ROOT, GatewayProcess, write_policy
from tests.load import under_load
from tests.oracle import nothing_is_missing
from tests.postgres import FreshDatabases
from tests.storage.test_migrate import migrate_to
from tests.upstream import ScriptedUpstream, stream, whole

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
BUDGETS = "budgets:\n  all-of-it: {usd: 50, every: month}\n"
REVISIONS = sorted((ROOT / "migrations" / "versions").glob("*.py"))
#: The whole of it, before it is believed that somebody was refused for a reason.
TRIES = 3
NEWEST, BEFORE = REVISIONS[-1], REVISIONS[-2].name[:4]


def git(*arguments: str) -> bytes:
    """What git says; nothing where it fails or is not there."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""


def build_before(at: Path) -> Path:
    """The last version that did not have the newest migration, unpacked; skips the test where history is not there."""
    name = str(NEWEST.relative_to(ROOT))
    came_with = git("log", "-1", "--diff-filter=A", "--format=%H", "--", name).decode().strip()
    commit = f"{came_with}~1" if came_with else "HEAD"
    packed = git("archive", "--format=tar", commit, "app", "migrations")
    if not packed:
        pytest.skip(f"the version before {name} is not in this clone (no git, or a shallow history): fetch all of it")
    at.mkdir()
    with tarfile.open(fileobj=BytesIO(packed)) as files:
        files.extractall(at, filter="data")
    assert not (at / name).exists(), f"{commit} has the newest migration already"
    return at


def command(root: Path, *arguments: str, data: Path, url: str) -> str:
    """A command of that version to its end; what it wrote."""
    environment = clean_environment({"BREAKEVEN_DATA": str(data), "DATABASE_URL": url})
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def made_by_the_version_before(root: Path, data: Path, url: str) -> str:
    """The database and a key, by that version's own commands."""
    await asyncio.to_thread(command, root, "db", "migrate", data=data, url=url)
    made = await asyncio.to_thread(
        command, root, "key", "create", "test", "--team", "research", "--cost-centre", "cc-1", data=data, url=url
    )
    found = re.search(r"bk_\w+", made)
    assert found is not None, made
    return found[0]


async def replaced(earlier: GatewayProcess, later: GatewayProcess, upstream: ScriptedUpstream) -> int:
    """The earlier one serves, the database is migrated, both serve, the later one serves; how many were refused."""
    heard = len(upstream.heard)
    upstream.always(lambda heard: stream(pause_s=0.02) if heard.json.get("stream") else whole(first_s=0.02))
    try:
        await earlier.start()
        async with under_load(earlier, callers=4) as before:
            await before.answered(20)
            await migrate(earlier.database_url, now=datetime.now(UTC))
            so_far = len(before.seen)
            await before.answered(so_far + 20)
            await later.start()
            async with under_load(later, callers=4) as beside:
                so_far = len(before.seen)
                await asyncio.gather(beside.answered(20), before.answered(so_far + 20))
        async with under_load(later, callers=4) as after:
            assert await asyncio.to_thread(earlier.stop) == 0
            await after.answered(20)
        statuses = before.statuses() + beside.statuses() + after.statuses()
        assert set(statuses) <= {200, 503}, statuses
        assert await asyncio.to_thread(later.stop) == 0
        receipts = await nothing_is_missing(later, upstream.heard[heard:], price=PRICE)
        assert statuses[503] or len(receipts) == statuses.total()
        return statuses[503]
    finally:
        await asyncio.gather(*(asyncio.to_thread(each.stop) for each in (earlier, later)))


async def refuses_nobody(tmp_path: Path, replacement: Callable[[Path], Awaitable[int]]) -> None:
    """Whoever needs a lease while the machine stands still for seconds is rightly refused; a migration that is in
    somebody's way is so each time."""
    for number in range(TRIES):
        directory = tmp_path / str(number)
        (directory / "data").mkdir(parents=True)
        if not (refused := await replacement(directory)):
            return
        print(f"once more: {refused} were refused")
    raise AssertionError(f"in each of {TRIES} tries somebody was refused, the last time {refused}")


def two_versions(tmp_path: Path, url: str, upstream: ScriptedUpstream, *, root: Path, key: str) -> list[GatewayProcess]:
    """Of one installation, each on a port of its own."""
    policies = write_policy(tmp_path / "policies", targets={"home": upstream.url}, extra=BUDGETS)
    return [
        GatewayProcess(data=tmp_path / "data", policies=policies, database_url=url, root=each, key=key)
        for each in (root, ROOT)
    ]


async def revision(url: str) -> str:
    ((found,),) = await said(url, "select version_num from alembic_version")
    return str(found)


async def test_the_version_before_and_this_one_serve_side_by_side_over_a_migration(
    tmp_path: Path, fresh_database: FreshDatabases, upstream: ScriptedUpstream
) -> None:
    root = build_before(tmp_path / "before")
    where = tmp_path / "where"
    probe = f"import app, pathlib; pathlib.Path({str(where)!r}).write_text(app.__file__)"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", probe], cwd=root, check=True, env=dict(os.environ))
    assert where.read_text().startswith(str(root)), "the version before runs its own code"

    async def side_by_side(directory: Path) -> int:
        url = await fresh_database()
        key = await made_by_the_version_before(root, directory / "data", url)
        assert await revision(url) < NEWEST.name[:4]
        earlier, later = two_versions(directory, url, upstream, root=root, key=key)
        refused = await replaced(earlier, later, upstream)
        assert await revision(url) == NEWEST.name[:4]
        return refused

    await refuses_nobody(tmp_path, side_by_side)


async def test_this_version_serves_while_the_newest_migration_comes(
    tmp_path: Path, fresh_database: FreshDatabases, upstream: ScriptedUpstream
) -> None:
    """Where history is not at hand, this still shows that the migration stops nobody."""

    async def over_the_migration(directory: Path) -> int:
        url = await fresh_database()
        await migrate_to(url, BEFORE)
        async with Database(url) as database:
            await ensure_partitions(database, now=datetime.now(UTC))
        earlier, later = two_versions(directory, url, upstream, root=ROOT, key="")
        later.key = earlier.key = await earlier.make_key()
        refused = await replaced(earlier, later, upstream)
        assert await revision(url) == NEWEST.name[:4]
        return refused

    await refuses_nobody(tmp_path, over_the_migration)
