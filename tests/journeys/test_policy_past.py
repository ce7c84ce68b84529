"""An edit that somebody regrets: what it moved is named, old decisions come out the same, and one command undoes it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from app.documents.compile import digest_of
from tests.command_line import COMMAND, ROOT, clean_environment
from tests.gateway_process import GatewayProcess, write_policy
from tests.journeys.conftest import Open
from tests.journeys.test_policy_edits import ASK, digest_now, in_force, remembered, until, written
from tests.upstream import ScriptedUpstream, whole

REQUESTS = 20


async def breakeven(gateway: GatewayProcess, *words: str) -> tuple[int, Any]:
    """A command in a process of its own, with --json: its exit status and what it wrote."""
    settings = {
        "DATABASE_URL": gateway.database_url,
        "BREAKEVEN_DATA": str(gateway.data),
        "BREAKEVEN_POLICIES": str(gateway.policies),
    }
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *words,
        "--json",
        cwd=ROOT,
        env=clean_environment(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=sys.stderr,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, json.loads(out)


async def asked(gateway: GatewayProcess) -> dict[str, str]:
    """Some requests: id → the digest they were decided by."""
    decided: dict[str, str] = {}
    async with gateway.session() as session:
        for _ in range(REQUESTS):
            async with session.post("/v1/chat/completions", json=ASK) as answer:
                assert answer.status == 200
                await answer.read()
                decided[answer.headers["x-request-id"]] = answer.headers["x-breakeven-policy"]
    return decided


async def test_an_edit_is_explained_compared_and_undone(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.always(whole())
    second.always(whole())
    gateway = await open_gateway({"home": upstream.url, "away": second.url})
    old = digest_now(gateway)
    before = await asked(gateway)
    assert set(before.values()) == {old}

    write_policy(gateway.policies / ".new", targets={"away": second.url, "home": upstream.url})
    (gateway.policies / ".new" / "all.yaml").replace(written(gateway))
    new = digest_now(gateway)
    await until(gateway, in_force(new))
    after = await asked(gateway)
    assert set(after.values()) == {new}
    receipts = await gateway.receipts(2 * REQUESTS)
    assert {attempt.target for receipt in receipts for attempt in receipt.attempts} == {"home", "away"}

    for request_id, digest in (next(iter(before.items())), next(iter(after.items()))):
        status, told = await breakeven(gateway, "policy", "explain", "--request", request_id)
        assert (status, told["policy"], told["replay"]["verdict"]) == (0, digest, "same")

    await remembered(gateway, new)
    status, told = await breakeven(gateway, "policy", "diff", old[:8], "live")
    assert status == 0
    assert [change["says"] for change in told["changes"]] == ['model chat: rule "all": use [home, away] → [away, home]']
    assert told["requests"]["ways"] == [{"from": "home", "to": "away", "count": 2 * REQUESTS}]
    assert {move["id"] for move in told["requests"]["ids"]} == {*before, *after}

    status, told = await breakeven(gateway, "policy", "rollback", old[:8], "--by", "grace")
    assert (status, told["pin"]["digest"]) == (0, old)
    await until(gateway, in_force(old))
    assert set((await asked(gateway)).values()) == {old}
    _, told = await breakeven(gateway, "policy", "history")
    assert told["pin"]["by"] == "grace"
    assert {one["digest"]: one["pinned"] for one in told["revisions"]} == {old: True, new: False}
    _, told = await breakeven(gateway, "policy", "history", "--show", new)
    assert digest_of(told["files"]) == new

    _, told = await breakeven(gateway, "policy", "release")
    assert told["released"]["digest"] == old
    await until(gateway, in_force(new))
