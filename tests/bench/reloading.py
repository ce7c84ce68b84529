"""`python -m tests.bench.reloading`: how long an edit takes to go in force, and how long the event loop is away then.

A gateway process runs a policy of 200 rules and 200 scenarios, which is edited again and again. From outside: the time
from the rename to the first answer under the new digest, the longest wait of a caller who asks `/livez` without a
break (less the longest without an edit: what the machine itself is away), and the time of `policy check` of the shipped
set from a cold command line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from app.bootstrap import database_url, migrate
from app.settings import Settings
from tests.bench.deciding import CONDITIONS
from tests.free_ports import free_port
from tests.gateway_process import ROOT, GatewayProcess
from tests.upstream import ScriptedUpstream

RULES = 200
WORKERS = 4


def written(url: str, *, edit: int) -> str:
    """The policy as it is after so many edits."""
    lines = ["targets:"]
    lines += [f"  home: {{hosting: managed, provider: openai, url: {url}, model: m, can: [chat]}}"]
    lines += ["models:", "  chat:", "    rules:"]
    for number in range(RULES - 1):
        condition = CONDITIONS[number % len(CONDITIONS)]
        lines += [f"      - name: rule {number}", "        when: >-"]
        lines += [f"          request.n > {number + 2} && ({condition})", "        use: [home]"]
    lines += [f"      - {{name: edit {edit}, use: [home]}}", "scenarios:"]
    for number in range(RULES):
        lines += [
            f"  - name: scenario {number}",
            f"    given: {{model: chat, request: {{prompt_tokens: {number + 1}}}}}",
        ]
        lines += [f"    expect: {{rule: edit {edit}, first: home}}"]
    lines += ["rates:", "  targets:"]
    lines += ["    home: {usd_per_million_tokens: {prompt: 1, cached_prompt: 0.1, completion: 10}}", ""]
    return "\n".join(lines)


class Pings:
    """Asks one gateway for a cheap page without a break; `longest_s` since it was last reset."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def run(self, url: str) -> None:
        async with aiohttp.ClientSession(url) as session:
            while True:
                asked = time.perf_counter()
                async with session.get("/livez") as answer:
                    await answer.read()
                self.longest_s = max(self.longest_s, time.perf_counter() - asked)
                await asyncio.sleep(0.001)


async def _rule(session: aiohttp.ClientSession) -> str:
    said = {"model": "chat", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 4, "stream": True}
    async with session.post("/v1/chat/completions", json=said) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
        return answer.headers["x-breakeven-rule"]


async def _in_force(gateway: GatewayProcess, rule: str, *, in_a_row: int) -> float:
    """Until so many answers in a row, each over a connection of its own, come from that rule; when the first of them
    came, by the clock of `time.perf_counter`."""
    seen, since_s = 0, 0.0
    while seen < in_a_row:
        async with gateway.session() as session:
            if await _rule(session) != rule:
                seen = 0
            else:
                since_s = since_s if seen else time.perf_counter()
                seen += 1
        await asyncio.sleep(0.002)
    return since_s


def _edit(policies: Path, text: str) -> None:
    """As editors do: a new file takes the old one's place."""
    fresh = policies / ".all.yaml.new"
    fresh.write_text(text)
    fresh.rename(policies / "all.yaml")


async def _measure(scratch: Path, *, edits: int, workers: int) -> None:
    policies, data = scratch / "policies", scratch / "data"
    policies.mkdir()
    data.mkdir()
    settings = Settings(data=data, policies=policies, port=free_port())
    async with ScriptedUpstream() as upstream:
        _edit(policies, written(upstream.url, edit=0))
        with database_url(settings) as url:
            await asyncio.to_thread(migrate, url)
            gateway = GatewayProcess(
                data=data, policies=policies, database_url=url, port=settings.port, workers=workers
            )
            await gateway.start()
            try:
                await _edited(gateway, upstream.url, edits=edits, workers=workers)
            finally:
                gateway.stop()


async def _edited(gateway: GatewayProcess, upstream: str, *, edits: int, workers: int) -> None:
    pings = Pings()
    pinging = asyncio.create_task(pings.run(gateway.url))
    await asyncio.sleep(0.5)
    took_s, away_s = [], []
    for edit in range(1, edits + 1):
        pings.longest_s = 0.0
        await asyncio.sleep(1.5)
        still_s, pings.longest_s = pings.longest_s, 0.0
        begun = time.perf_counter()
        _edit(gateway.policies, written(upstream, edit=edit))
        # Each of the crew has to have answered: 12 in a row for each leave one out in fewer than 1 of 1,000 edits.
        since_s = await _in_force(gateway, f"edit {edit}", in_a_row=1 if workers == 1 else 12 * workers)
        took_s.append(since_s - begun)
        away_s.append(max(0.0, pings.longest_s - still_s))
    pinging.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pinging
    print(
        f"processes {workers}, {RULES} rules, {RULES} scenarios, {edits} edits: in force after "
        f"p50 {statistics.median(took_s):.2f} s, most {max(took_s):.2f} s; the loop is away "
        f"p50 {1000 * statistics.median(away_s):.1f} ms, most {1000 * max(away_s):.1f} ms longer than without an edit"
    )


def _cold_check() -> None:
    took_s = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "app", "policy", "check", "policies"], cwd=ROOT, check=True, capture_output=True
        )
        took_s.append(time.perf_counter() - begun)
    print(f"policy check of the shipped set, cold: {statistics.median(took_s):.2f} s (the bar: 1 s)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reloading")
    parser.add_argument("--edits", type=int, default=9)
    args = parser.parse_args()
    _cold_check()
    for workers in (1, WORKERS):
        with tempfile.TemporaryDirectory(prefix="breakeven-reload-") as scratch:
            asyncio.run(_measure(Path(scratch), edits=args.edits, workers=workers))
    print("the bars: 1 s in one process, 20 ms away, 2 s for a crew")


if __name__ == "__main__":
    main()
