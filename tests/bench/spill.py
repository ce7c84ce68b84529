"""`make bench-spill`: first tokens and the hosted share against load, by how a policy spills, on the real CPU worker.

The same requests come at the same times (Poisson, by a seed) for each way to spill and each load: nobody spills; a
fixed number may wait for the worker (counted exactly, by what the gateway has in flight there); or the first token
is predicted later than the objective. What is not the worker's goes to a hosted target of a scripted speed. The load is
a part of the capacity, which is measured anew before each. The picture is a PNG, the figures are JSON beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import aiohttp

from app.bootstrap import database_url, migrate
from app.settings import Settings
from tests.free_ports import free_port
from tests.gateway_process import GatewayProcess
from tests.upstream import LAST_PART, Answer, Pause, ScriptedUpstream, event, part, stream_head
from tests.worker_process import CpuWorker, running_worker

SLOTS: Final = 16
#: More than ever wait here: that the worker refuses is not what is measured.
WORKER_QUEUE: Final = 2_000
THRESHOLDS: Final = (0, 2, 4, 8, 16, 32)
LOADS: Final = (0.5, 0.8, 1.0, 1.2, 1.5, 2.0)
WAYS: Final = ("none", *(f"waiting-{waiting}" for waiting in THRESHOLDS), "predicted")
HOSTED_TTFT_S: Final = 0.25
HOSTED_TOKEN_S: Final = 0.01
PROMPT_WORDS: Final = (10, 80)
ANSWER_TOKENS: Final = (8, 48)
#: How much longer than the arrivals the answers may take; whoever has no first token by then counts with its wait.
PATIENCE_S: Final = 20.0
#: Of the time over which the capacity is counted: so long all places have to be taken before.
FILLING: Final = 0.5
#: The last first token of a hundred may be so much later than the objective.
TOLERATED: Final = 1.5

WORDS: Final = ("the sea", "a hill", "some wood", "old light", "small house", "rain", "stone", "night road", "green")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`at_s` after the beginning, a prompt and the most tokens of its answer."""

    at_s: float
    prompt: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """What a caller met. `ttft_s` is None where no answer began: refused, or not before patience ended."""

    hosted: bool
    ttft_s: float | None
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One way to spill at one load (a part of the capacity). Times in seconds; shares are parts of all requests."""

    strategy: str
    load: float
    requests: int
    hosted_share: float
    local_p50_s: float
    local_p99_s: float
    all_p99_s: float
    within_objective: float
    unanswered: int


def strategies(objective_ms: int) -> dict[str, str]:
    """The rules of each way to spill, by the name of the model that stands for it."""
    ways = {"none": "[{name: ours alone, use: [ours]}]"}
    for waiting in THRESHOLDS:
        ways[f"waiting-{waiting}"] = (
            f"[{{name: it waits, when: 'fleet[\"ours\"].in_flight < {SLOTS + waiting}', use: [ours]}}, "
            "{name: it spills, use: [hosted]}]"
        )
    ways["predicted"] = f"[{{name: predicted, use: [ours, hosted], spill: {{predicted_ttft_ms: {objective_ms}}}}}]"
    return ways


def policy(*, worker: CpuWorker, hosted: str, objective_ms: int) -> str:
    """One worker, one hosted target, a model for each way to spill."""
    models = "\n".join(f"  {name}: {{rules: {rules}}}" for name, rules in strategies(objective_ms).items())
    return f"""
targets:
  ours:
    hosting: self_hosted
    engine: openvino
    url: {worker.base_url}/v1
    model: {worker.model}
    can: [chat]
    machine: {{type: box, count: 1}}
  hosted:
    hosting: managed
    provider: openai
    url: {hosted}
    model: m
    can: [chat]
defaults:
  attempts: 1
  timeouts: {{connect_s: 5, first_token_s: 600, idle_s: 600, total_s: 600}}
models:
{models}
rates:
  machines: {{box: {{usd_per_hour: 1}}}}
  targets:
    ours: {{measured: {{prefill_tokens_per_s: 2000, decode_tokens_per_s: 300}}}}
    hosted: {{usd_per_million_tokens: {{prompt: 0.25, cached_prompt: 0.025, completion: 2}}}}
"""


def arrivals(*, per_s: float, seconds: float, seed: int, turn: int) -> Iterator[Request]:
    """A Poisson stream of requests; the same for the same numbers, but that each turn has a beginning of its own: what
    the turn before it left in the worker's prefix cache is of no use."""
    draw = random.Random(seed)  # a load, not a secret
    at_s = draw.expovariate(per_s)
    while at_s < seconds:
        words = draw.choices(WORDS, k=draw.randint(*PROMPT_WORDS))
        prompt = f"{turn:04d}: tell me of {' '.join(words)}"
        yield Request(at_s=at_s, prompt=prompt, tokens=draw.randint(*ANSWER_TOKENS))
        at_s += draw.expovariate(per_s)


def hosted_answer() -> Answer:
    """A hosted model: its first token after a while, then some more."""
    chunk = {"id": "h", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    answer: Answer = [
        stream_head(),
        Pause(seconds=HOSTED_TTFT_S),
        part(event({**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "It"}}]}), tokens=1),
        Pause(seconds=HOSTED_TOKEN_S * statistics.fmean(ANSWER_TOKENS)),
        part(event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})),
        part(
            event({**chunk, "choices": [], "usage": {"prompt_tokens": 80, "completion_tokens": 1, "total_tokens": 81}})
        ),
        part(b"data: [DONE]\n\n"),
        LAST_PART,
    ]
    return answer


async def ask(session: aiohttp.ClientSession, model: str, request: Request) -> Met:
    """Ask, wait for the first token, and read to the end."""
    body = {
        "model": model,
        "stream": True,
        "max_tokens": request.tokens,
        "messages": [{"role": "user", "content": request.prompt}],
    }
    begun = time.perf_counter()
    ttft_s: float | None = None
    hosted = False
    try:
        async with session.post("/v1/chat/completions", json=body) as answer:
            hosted = answer.headers.get("x-breakeven-target") == "hosted"
            async for line in answer.content:
                if ttft_s is None and line.startswith(b"data:") and b'"content":"' in line and b'""' not in line:
                    ttft_s = time.perf_counter() - begun
    except (aiohttp.ClientError, TimeoutError):
        ttft_s = None
    return Met(hosted=hosted, ttft_s=ttft_s, waited_s=time.perf_counter() - begun)


async def play(gateway: GatewayProcess, model: str, requests: Sequence[Request], *, seconds: float) -> list[Met]:
    """Send each at its time, whatever became of those before; what is under way when patience ends is given up."""
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": f"Bearer {gateway.key}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(gateway.url, headers=headers, connector=connector, timeout=timeout) as session:
        begun = time.perf_counter()
        given_up: list[Met] = []

        async def one(request: Request) -> Met | None:
            asked = time.perf_counter()
            try:
                return await ask(session, model, request)
            except asyncio.CancelledError:
                given_up.append(Met(hosted=False, ttft_s=None, waited_s=time.perf_counter() - asked))
                return None

        tasks: list[asyncio.Task[Met | None]] = []
        for request in requests:
            await asyncio.sleep(max(0.0, begun + request.at_s - time.perf_counter()))
            tasks.append(asyncio.create_task(one(request)))
        _, late = await asyncio.wait(tasks, timeout=max(0.0, begun + seconds + PATIENCE_S - time.perf_counter()))
        for task in late:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    return [met for met in done if isinstance(met, Met)] + given_up


async def capacity_per_s(gateway: GatewayProcess, *, seconds: float, turn: int) -> float:
    """Requests a second while all of the worker's places are taken all the time: asked again as soon as answered.

    What is answered before the first callers have been through once, or after the last has asked, is not counted: the
    places fill and empty then.
    """
    draw = arrivals(per_s=1.0, seconds=1e9, seed=0, turn=turn)
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with aiohttp.ClientSession(gateway.url, headers=headers, connector=connector) as session:
        begun = time.perf_counter()
        full, end = begun + FILLING * seconds, begun + (1 + FILLING) * seconds
        ends: list[float] = []

        async def caller() -> None:
            while time.perf_counter() < end:
                met = await ask(session, "none", next(draw))
                assert met.ttft_s is not None, "the worker refused"
                ends.append(time.perf_counter())

        await asyncio.gather(*[caller() for _ in range(2 * SLOTS)])
        return sum(full <= at < end for at in ends) / seconds


def point(strategy: str, load: float, met: Sequence[Met], *, objective_s: float) -> Point:
    """Percentiles of what was met; who never got a first token counts with all of its wait."""
    ours = sorted(one.ttft_s if one.ttft_s is not None else one.waited_s for one in met if not one.hosted)
    everyone = sorted(one.ttft_s if one.ttft_s is not None else one.waited_s for one in met)
    return Point(
        strategy=strategy,
        load=load,
        requests=len(met),
        hosted_share=sum(one.hosted for one in met) / len(met),
        local_p50_s=_percentile(ours, 0.50),
        local_p99_s=_percentile(ours, 0.99),
        all_p99_s=_percentile(everyone, 0.99),
        within_objective=sum(one.ttft_s is not None and one.ttft_s <= objective_s for one in met) / len(met),
        unanswered=sum(one.ttft_s is None for one in met),
    )


def _percentile(times: Sequence[float], part_of: float) -> float:
    return times[min(len(times) - 1, int(part_of * len(times)))] if times else 0.0


@asynccontextmanager
async def house(scratch: Path, *, objective_ms: int) -> AsyncIterator[GatewayProcess]:
    """The worker, the hosted target, the books and the gateway."""
    arguments = ("--max-num-seqs", str(SLOTS), "--max-num-queued-reqs", str(WORKER_QUEUE))
    with running_worker(*arguments) as (worker, _):
        async with ScriptedUpstream() as hosted:
            hosted.always(hosted_answer())
            policies, data = scratch / "policies", scratch / "data"
            policies.mkdir()
            data.mkdir()
            text = policy(worker=worker, hosted=hosted.url, objective_ms=objective_ms)
            (policies / "all.yaml").write_text(text)
            settings = Settings(data=data, policies=policies, port=free_port())
            with database_url(settings) as url:
                await asyncio.to_thread(migrate, url)
                gateway = GatewayProcess(data=data, policies=policies, database_url=url, port=settings.port)
                await gateway.start()
                try:
                    yield gateway
                finally:
                    gateway.stop()


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All ways to spill at all loads, told as they come. Each round plays them all: a slow while is one for all."""
    objective_s = args.objective_ms / 1000
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="breakeven-spill-") as scratch:
        async with house(Path(scratch), objective_ms=args.objective_ms) as gateway:
            turns = count()
            # The gateway learns the worker's curve meanwhile.
            await capacity_per_s(gateway, seconds=args.seconds / 2, turn=next(turns))
            capacities = []
            for load in args.loads:
                met: dict[str, list[Met]] = {way: [] for way in args.ways}
                for played in range(args.rounds):
                    # Machines are not as fast all day.
                    capacity = await capacity_per_s(gateway, seconds=args.seconds, turn=next(turns))
                    capacities.append(capacity)
                    print(f"the worker answers {capacity:.2f} requests/s with {SLOTS} at once", flush=True)
                    for way in args.ways:
                        per_s, seed, turn = load * capacity, args.seed + played, next(turns)
                        requests = list(arrivals(per_s=per_s, seconds=args.seconds, seed=seed, turn=turn))
                        met[way] += await play(gateway, way, requests, seconds=args.seconds)
                        print(line(point(way, load, met[way], objective_s=objective_s)), flush=True)
                        await idle(gateway)
                points += [point(way, load, met[way], objective_s=objective_s) for way in args.ways]
    return {
        "objective_ms": args.objective_ms,
        "capacity_requests_per_s": statistics.median(capacities),
        "capacities_requests_per_s": capacities,
        "places": SLOTS,
        "seconds": args.seconds,
        "rounds": args.rounds,
        "seed": args.seed,
        "points": [asdict(one) for one in points],
    }


async def idle(gateway: GatewayProcess) -> None:
    """Wait until the worker has nothing left to do: its next answer comes at once."""
    async with gateway.session() as session:
        begun = time.perf_counter()
        while time.perf_counter() - begun < 2 * PATIENCE_S:
            met = await ask(session, "none", Request(at_s=0, prompt="Hello.", tokens=2))
            if met.ttft_s is not None and met.ttft_s < HOSTED_TTFT_S:
                return


def line(one: Point) -> str:
    """One row of the table."""
    return (
        f"load {one.load:4.2f}  {one.strategy:<11} {one.requests:5d} requests  hosted {100 * one.hosted_share:5.1f} %  "
        f"TTFT of ours p50 {one.local_p50_s:6.2f} s  p99 {one.local_p99_s:6.2f} s  "
        f"within the objective {100 * one.within_objective:5.1f} %"
    )


def verdict(points: Sequence[Point], *, load: float, objective_s: float) -> tuple[bool, str]:
    """Whether prediction holds `TOLERATED` times the objective with no larger hosted share than any fixed threshold
    that holds it too. A point more of share than the best is not told from noise."""
    here = {one.strategy: one for one in points if one.load == load}
    predicted = here["predicted"]
    bound_s = TOLERATED * objective_s
    holding = [one for name, one in here.items() if name.startswith("waiting-") and one.local_p99_s <= bound_s]
    said = f"at {load:g} × capacity: predicted p99 {predicted.local_p99_s:.2f} s (bound {bound_s:g} s), hosted "
    said += f"{100 * predicted.hosted_share:.1f} %; "
    if not holding:
        return predicted.local_p99_s <= bound_s, said + "no threshold holds the bound"
    best = min(holding, key=lambda one: one.hosted_share)
    said += f"the best threshold that holds it, {best.strategy}: {100 * best.hosted_share:.1f} %"
    good = predicted.local_p99_s <= bound_s and predicted.hosted_share <= best.hosted_share + 0.01
    return good, said


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-spill")
    parser.add_argument("--seconds", type=float, default=30.0, help="of arrivals, for each point")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="to spill, in this order")
    parser.add_argument("--objective-ms", type=int, default=2_000, help="for the first token")
    parser.add_argument("--loads", type=float, nargs="+", default=list(LOADS), help="parts of the capacity")
    parser.add_argument("--rounds", type=int, default=1, help="so often every way is played at each load")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("spill.png"), help="the picture; the figures lie beside it")
    parser.add_argument("--from", dest="figures", type=Path, help="draw these figures again, measure nothing")
    args = parser.parse_args()
    from tests.bench.spill_plot import draw  # first of all: without it nothing is measured in vain

    if args.figures:
        told = json.loads(args.figures.read_text())
    else:
        told = asyncio.run(measure(args))
        args.out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    draw(told, args.out)
    print(f"{args.out} and {args.out.with_suffix('.json')}")
    points = [Point(**one) for one in told["points"]]
    if all(one.strategy != "predicted" for one in points):
        return 0
    load = 1.5 if any(one.load == 1.5 for one in points) else max(one.load for one in points)
    good, said = verdict(points, load=load, objective_s=told["objective_ms"] / 1000)
    print(said)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
