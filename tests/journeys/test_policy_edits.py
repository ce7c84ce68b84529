"""Edits of the policy while a real gateway serves: nothing wrong goes live, and nobody notices what goes live."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.bootstrap.run_files import metrics_of_all
from app.documents.compile import digest_of
from app.domain.metering.measurement import Outcome
from app.ports import Pin, Revision
from app.storage.engine import Database
from app.storage.policy_history import PostgresPolicyHistory
from tests.free_ports import free_port
from tests.gateway_process import ROOT, GatewayProcess, write_policy
from tests.journeys.conftest import Open
from tests.upstream import ScriptedUpstream, Until, stream, whole

ASK = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
DIGEST = re.compile(rb'^breakeven_policy_info\{digest="([0-9a-f]+)"\} 1', re.MULTILINE)
REFUSED = re.compile(rb"^breakeven_policy_refused 1$", re.MULTILINE)
#: How soon every process follows an edit.
CONVERGED_WITHIN_S = 2.0
#: A bound for waiting that only ends a test that fails anyway.
GIVE_UP_S = 30.0


@dataclass(slots=True)
class Traffic:
    """Callers that ask one after the other until they are told to stop."""

    gateway: GatewayProcess
    digests: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    stop: bool = False

    async def one(self) -> None:
        async with self.gateway.session() as session:
            while not self.stop:
                try:
                    async with session.post("/v1/chat/completions", json=ASK) as answer:
                        body = await answer.read()
                        self.digests[answer.headers["x-breakeven-policy"]] += 1
                        if answer.status != 200:
                            self.failed.append(f"{answer.status}: {body!r}")
                except aiohttp.ClientError as fault:
                    self.failed.append(repr(fault))
                await asyncio.sleep(0.01)

    async def goes_by(self, digest: str) -> None:
        """Wait until somebody was answered by this policy."""
        async with asyncio.timeout(GIVE_UP_S):
            while not self.digests[digest]:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def traffic(gateway: GatewayProcess, *, callers: int = 6) -> AsyncIterator[Traffic]:
    """Traffic for the length of a block, none of which may fail."""
    running = Traffic(gateway)
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(running.one())
        yield running
        running.stop = True
    assert running.failed == []
    assert running.digests


def written(gateway: GatewayProcess) -> Path:
    return gateway.policies / "all.yaml"


def digest_now(gateway: GatewayProcess) -> str:
    """Of the files as they are."""
    return digest_of({path.name: path.read_text() for path in gateway.policies.glob("*.yaml")})


def replaced(path: Path, text: str) -> None:
    """Rename and replace, as editors do."""
    part = path.with_name(".part")
    part.write_text(text)
    part.replace(path)


async def until(gateway: GatewayProcess, reached: Callable[[bytes], bool], *, processes: int = 1) -> float:
    """When every process's metrics say so; the seconds that it took."""
    began = time.monotonic()
    while True:
        texts = list((await metrics_of_all(gateway.settings)).values())
        if len(texts) == processes and all(reached(text) for text in texts):
            return time.monotonic() - began
        assert time.monotonic() - began < GIVE_UP_S, gateway.log.read_text()[-4000:]
        await asyncio.sleep(0.02)


def in_force(digest: str) -> Callable[[bytes], bool]:
    return lambda text: [found.decode() for found in DIGEST.findall(text)] == [digest]


def refuses(text: bytes) -> bool:
    return REFUSED.search(text) is not None


async def readiness(gateway: GatewayProcess) -> tuple[int, dict[str, str]]:
    async with gateway.session() as session, session.get("/readyz") as answer:
        return answer.status, (await answer.json())["because"]


@contextlib.asynccontextmanager
async def history_of(gateway: GatewayProcess) -> AsyncIterator[PostgresPolicyHistory]:
    async with Database(gateway.database_url) as database:
        yield PostgresPolicyHistory(database)


async def remembered(gateway: GatewayProcess, digest: str) -> Revision:
    """The revision once the history has it."""
    async with history_of(gateway) as history, asyncio.timeout(GIVE_UP_S):
        while (found := await history.find(digest)) is None:
            await asyncio.sleep(0.05)
        return found


async def test_an_edit_under_load_costs_no_request_and_a_running_stream_keeps_its_policy(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"home": upstream.url})
    old = digest_now(gateway)
    edited = asyncio.Event()
    begin, *rest = stream(words=[f" w{n}" for n in range(60)])
    upstream.will([begin, *rest[: len(rest) // 2], Until(event=edited), *rest[len(rest) // 2 :]])
    asked = {**ASK, "stream": True}
    async with gateway.session() as session, session.post("/v1/chat/completions", json=asked) as open_across:
        await open_across.content.readany()
        upstream.always(whole())
        second.always(whole())
        async with traffic(gateway) as running:
            await running.goes_by(old)
            # The old target is gone from the new policy, with the stream still running there.
            write_policy(gateway.policies / ".new", targets={"away": second.url})
            (gateway.policies / ".new" / "all.yaml").replace(written(gateway))
            new = digest_now(gateway)
            await until(gateway, in_force(new))
            await running.goes_by(new)
        edited.set()
        body = await open_across.read()
        assert body.endswith(b"data: [DONE]\n\n")
        streamed = await gateway.receipt(open_across.headers["x-request-id"])
    assert set(running.digests) == {old, new}
    assert (streamed.policy_digest, streamed.outcome) == (old, Outcome.COMPLETE)
    receipts = await gateway.receipts(1 + running.digests.total())
    assert {receipt.outcome for receipt in receipts} == {Outcome.COMPLETE}
    by_digest = {
        digest: {a.target for r in receipts if r.policy_digest == digest for a in r.attempts} for digest in (old, new)
    }
    assert by_digest == {old: {"home"}, new: {"away"}}
    assert (await remembered(gateway, new)).in_force_at_s is not None


async def test_four_processes_follow_an_edit_a_pin_and_its_release_within_two_seconds(
    open_gateway: Open, upstream: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"home": upstream.url}, workers=4)
    upstream.always(whole())
    old = digest_now(gateway)
    await until(gateway, in_force(old), processes=4)
    async with traffic(gateway), history_of(gateway) as history:
        replaced(written(gateway), written(gateway).read_text().replace("name: all", "name: every"))
        new = digest_now(gateway)
        took_s = [await until(gateway, in_force(new), processes=4)]
        await remembered(gateway, old)
        await history.pin(Pin(digest=old, by="ada", pinned_at_s=time.time()))
        took_s.append(await until(gateway, in_force(old), processes=4))
        status, because = await readiness(gateway)
        assert status == 200
        assert "pinned by ada" in because["policy"]
        await history.release()
        took_s.append(await until(gateway, in_force(new), processes=4))
        assert (await readiness(gateway))[1].get("policy") is None
    print(f"edit, pin and release were followed after {took_s} s")
    # The best of three, so that a machine that is busy elsewhere decides nothing.
    assert min(took_s) < CONVERGED_WITHIN_S, took_s


async def test_every_way_to_write_a_file_is_followed(
    open_gateway: Open, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    gateway = await open_gateway({"home": upstream.url})
    upstream.always(whole())
    file, text = written(gateway), written(gateway).read_text()
    start = digest_now(gateway)
    async with traffic(gateway) as running:
        file.write_text(text + "# in place\n")
        await until(gateway, in_force(digest_now(gateway)))
        replaced(file, text + "# renamed and replaced\n")
        await until(gateway, in_force(digest_now(gateway)))

        longer = text + "# slowly\n" * 20
        with file.open("w") as slowly:
            for begin in range(0, len(longer), 40):
                slowly.write(longer[begin : begin + 40])
                slowly.flush()
                await asyncio.sleep(0.05)
        await until(gateway, in_force(digest_now(gateway)))

        # As the kubelet does it: names are links into `..data`, itself a link, which is swapped.
        for version in ("1", "2"):
            (gateway.policies / f"..{version}").mkdir()
            (gateway.policies / f"..{version}" / "all.yaml").write_text(text + f"# version {version}\n")
            (gateway.policies / "..data_tmp").symlink_to(f"..{version}")
            (gateway.policies / "..data_tmp").replace(gateway.policies / "..data")
            if not file.is_symlink():
                (gateway.policies / ".link").symlink_to("..data/all.yaml")
                (gateway.policies / ".link").replace(file)
            await until(gateway, in_force(digest_now(gateway)))

        linked = digest_now(gateway)
        file.unlink()
        await until(gateway, refuses)
        assert in_force(linked)((await gateway.metrics())[0])
        file.write_text(text)
        await until(gateway, in_force(start))
        assert not refuses((await gateway.metrics())[0])
    assert running.digests[start]


def broken(text: str) -> dict[str, tuple[bytes, str]]:
    """Ways to break the file: its bytes, and what readiness then says of them."""
    return {
        "truncated": (text[: text.index("use: [home]") + 8].encode(), "all.yaml:"),
        "empty": (b"", "no file has any"),
        "a tab": (text.replace("    hosting", "\thosting").encode(), "all.yaml:3:1: error: a tab"),
        "a key twice": (text.replace("  home:", "  home:\n    model: m", 1).encode(), "stands here twice"),
        "an unknown key": (text.replace("    hosting:", "    hostng:").encode(), "all.yaml:3:5: error: "),
        "a target that is none": (text.replace("use: [home]", "use: [hom]").encode(), "which no file has"),
        "no price": (text[: text.index("rates:")].encode(), '"home" is not known'),
        "a worker without a machine": (with_a_worker(text, "").encode(), "names no machine, so it has no price"),
        "a machine without a price": (
            with_a_worker(text, "machine: {type: h100, count: 1}").encode(),
            'the price of the machine "h100" is not known',
        ),
        "a wrong field in a condition": (
            text.replace("name: all,", "name: all, when: \"caller.taem == 'x'\",").encode(),
            "taem",
        ),
        "a bomb of anchors": (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "all.yaml:1:4"),
        "not UTF-8": (text.encode() + b"# caf\xe9\n", "is not UTF-8"),
        "a zero byte": (text.encode() + b"\0", "U+0000"),
        "two documents": (text.encode() + b"---\n" + text.encode(), "second document"),
        "100 MB": (b"", "over 1 MiB"),
    }


def with_a_worker(text: str, more: str) -> str:
    """The file with a self-hosted target in it, of which this is written besides."""
    known = "hosting: self_hosted, engine: vllm, url: 'http://127.0.0.1:9/v1', model: m, can: [chat]"
    return text.replace("\nmodels:", f"\n  gpu: {{{known}, {more}}}\nmodels:")


async def test_no_broken_file_goes_live_or_costs_a_request(open_gateway: Open, upstream: ScriptedUpstream) -> None:
    gateway = await open_gateway({"home": upstream.url})
    upstream.always(whole())
    file, text, good = written(gateway), written(gateway).read_text(), digest_now(gateway)
    async with traffic(gateway, callers=4) as running:
        for what, (raw, words) in broken(text).items():
            part = gateway.policies / ".part"
            part.write_bytes(raw)
            if what == "100 MB":
                with part.open("r+b") as sparse:
                    sparse.truncate(100_000_000)
            part.replace(file)
            await said_in_readiness(gateway, words, what)
            (metrics,) = await gateway.metrics()
            assert refuses(metrics), what
            assert in_force(good)(metrics), what
        replaced(file, text)
        await until(gateway, lambda text: not refuses(text))
    assert set(running.digests) == {good}
    assert (await readiness(gateway))[1] == {}
    refusals = [line for line in gateway.log_lines() if line["event"] == "policy refused"]
    assert len(refusals) == len(broken(text))
    assert all(line["findings"] and line["in_force"] == good for line in refusals)


async def said_in_readiness(gateway: GatewayProcess, words: str, what: str) -> None:
    began = time.monotonic()
    while True:
        status, because = await readiness(gateway)
        assert status == 200, what
        if words in because.get("policy", ""):
            return
        assert time.monotonic() - began < GIVE_UP_S, f"{what}: {because}"
        await asyncio.sleep(0.05)


async def test_a_bad_edit_and_a_restart_are_no_outage(open_gateway: Open, upstream: ScriptedUpstream) -> None:
    gateway = await open_gateway({"home": upstream.url}, workers=2)
    upstream.always(whole())
    text, good = written(gateway).read_text(), digest_now(gateway)
    await remembered(gateway, good)
    gateway.stop()
    replaced(written(gateway), text.replace("use: [home]", "use: [hom]"))
    await gateway.start()
    async with traffic(gateway) as running:
        await until(gateway, in_force(good), processes=2)
        status, because = await readiness(gateway)
    assert status == 200
    assert "which no file has" in because["policy"]
    assert set(running.digests) == {good}


async def test_a_first_start_with_a_broken_file_is_refused_with_its_findings(
    tmp_path: Path, books_url: str, upstream: ScriptedUpstream
) -> None:
    policies = write_policy(tmp_path / "policies", targets={"home": upstream.url})
    replaced(policies / "all.yaml", (policies / "all.yaml").read_text().replace("use: [home]", "use: [hom]"))
    (tmp_path / "data").mkdir()
    gateway = GatewayProcess(data=tmp_path / "data", policies=policies, database_url=books_url, workers=2)
    with pytest.raises(RuntimeError, match=r"ended with 1: (.|\n)*all\.yaml:\d+:\d+: error: .*which no file has"):
        await gateway.start()


@contextlib.asynccontextmanager
async def a_console(gateway: GatewayProcess) -> AsyncIterator[aiohttp.ClientSession]:
    """The console beside this gateway, in a process of its own; the session shows the operator's key."""
    port = free_port()
    environment = {
        **os.environ,
        "BREAKEVEN_DATA": str(gateway.data),
        "BREAKEVEN_POLICIES": str(gateway.policies),
        "BREAKEVEN_CONSOLE_PORT": str(port),
        "DATABASE_URL": gateway.database_url,
    }
    log = gateway.data / "console.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "console"), cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    try:
        async with asyncio.timeout(GIVE_UP_S), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get("/livez"):
                        break
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.05)
            key = re.search(r"bkop_\S+", log.read_text())
            assert key is not None
            session.headers["authorization"] = f"Bearer {key.group()}"
            yield session
    finally:
        process.terminate()
        await process.wait()


async def test_the_console_shows_what_was_refused_and_goes_on(open_gateway: Open, upstream: ScriptedUpstream) -> None:
    gateway = await open_gateway({"home": upstream.url})
    text, good = written(gateway).read_text(), digest_now(gateway)
    async with a_console(gateway) as console, asyncio.timeout(GIVE_UP_S):
        replaced(written(gateway), text.replace("use: [home]", "use: [hom]"))
        while not (ready := await answered(console, "/readyz"))["warnings"]:
            await asyncio.sleep(0.1)
        status = (await answered(console, "/api/policy"))["status"]
        assert status["digest"] == ready["policy"] == good
        assert status["refused"]["findings"][0]["file"] == "all.yaml"
        assert status["refused"]["findings"][0]["line"] > 0
        replaced(written(gateway), text + "# mended\n")
        while (status := (await answered(console, "/api/policy"))["status"])["refused"]:
            await asyncio.sleep(0.1)
        assert status["digest"] == status["files_digest"] == digest_now(gateway)
        assert status["warning"] is None


async def answered(console: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with console.get(path) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found
