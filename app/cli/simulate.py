"""`breakeven simulate`: what a policy would do with a trace, or with the last requests, before it is in force."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final

import typer

from app.cli.books import in_office
from app.cli.output import AsJson, counted, note, write_json, write_table
from app.cli.policy_explain import credential_notes, valid_policy
from app.cli.simulate_view import simulated_view
from app.documents.speeds import A_CURVE, A_PACE, read_curves, read_paces
from app.documents.trace import Asking, Trace, read_trace
from app.domain.budget import Mode
from app.domain.errors import BadRequest
from app.domain.figures import in_digits
from app.domain.money import from_dollars, shown
from app.domain.replay.arrival import hurried
from app.domain.replay.speed import EngineSpeed, Pace
from app.domain.replay.tally import Line, Slice, Times
from app.domain.routing.policy import Policy
from app.domain.target import Hosting
from app.flows.past_arrivals import past_arrivals
from app.flows.simulate import Simulated, Simulation, simulate
from app.system import SystemClock

app = typer.Typer(add_completion=False)

_PROGRESS_EVERY_S: Final = 2.0
_BAR: Final = 20
_HEAD: Final = (
    *("target", "requests", "share %", "TTFT p50 s", "p90 s", "p99 s", "in time %", "TPOT p50 ms", "predicted off s"),
    *("on average s", "prompt tokens", "output tokens", "charge USD", "marginal USD"),
)
_LEGEND: Final = (
    "TTFT: seconds to the first token; within p50, p90, p99 half, 90 % and 99 % of the requests had theirs",
    "in time: the part of the first tokens that came within --objective-ms; TPOT: milliseconds for each further token",
    "predicted off: how far the gateway's prediction of a first token was from what came, in the median",
    "on average: the same with its sign, + where it was predicted too late",
    "charge: as receipts would have it; marginal: with own machines at what one more request costs them",
    "–: too few to tell, or nothing to tell it from",
)


@app.command("simulate", help="Replay a trace under a policy: who would answer, how soon, and at which cost.")
def simulate_trace(
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Requests to replay, as CSV or JSON lines.")
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="In place of a trace: so many of the last requests.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Policy files, instead of BREAKEVEN_POLICIES.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model asked for; without it, the one each request names.")
    ] = None,
    team: Annotated[str, typer.Option(help="Who asks, where the trace does not say it.")] = "nobody",
    curve: Annotated[list[str] | None, typer.Option(metavar="TARGET=…", help=f"Of an engine: {A_CURVE}.")] = None,
    pace: Annotated[list[str] | None, typer.Option(metavar="TARGET=…", help=f"Of a seller: {A_PACE}.")] = None,
    speed: Annotated[float, typer.Option(help="0.8: the requests come at 0.8 times their rate.")] = 1.0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many requests from the beginning of the trace.")
    ] = None,
    objective_ms: Annotated[float | None, typer.Option(help="Tell how many first tokens come within this.")] = None,
    slices: Annotated[int, typer.Option(min=0, max=1000, help="Parts of the time that are told apart.")] = 12,
    json: AsJson = False,
) -> None:
    if (trace is None) == (last is None):
        raise BadRequest("give either --trace FILE or --last N, for the last requests of the ledger")
    if not 0.001 <= speed <= 1000:
        raise BadRequest("--speed is a factor such as 0.8 or 1.5: from 0.001 to 1000", param="speed")
    if objective_ms is not None and not 1 <= objective_ms <= 1e9:
        raise BadRequest("--objective-ms is a time such as 2000, in milliseconds", param="objective_ms")
    curves, paces = read_curves(curve or ()), read_paces(pace or ())
    compiled = valid_policy(policy, as_json=json)
    asking = Asking(model=model, team=team)
    if trace is not None:
        read = _read(trace, asking=asking, most=limit)
    else:
        read = in_office(lambda rooms: past_arrivals(rooms.ledger, last=last or 1, model=model))
    arrivals = list(hurried(read.arrivals[:limit], speed=speed))
    simulated = simulate(
        Simulation(
            policy=compiled,
            arrivals=arrivals,
            began_us=read.began_us,
            speeds=curves,
            paces=paces,
            objective_s=None if objective_ms is None else objective_ms / 1000,
        ),
        progress=_progress(len(arrivals)),
    )
    notes = list(_notes(simulated, policy=compiled, read=read))
    if json:
        view = simulated_view(simulated, policy=compiled, began_us=read.began_us, speed=speed, slices=slices)
        write_json({**view, "left_out": read.left_out, "notes": notes})
    else:
        _write(simulated, policy=compiled, speed=speed, slices=slices)
    for each in notes:
        note(each)


def _read(path: Path, *, asking: Asking, most: int | None) -> Trace:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        try:
            return read_trace(str(path), lines, asking=asking, most=most)
        except UnicodeDecodeError as fault:
            raise BadRequest(
                f"{path} is no UTF-8 text ({fault.reason}): save it as CSV or JSON lines in UTF-8", param="trace"
            ) from fault


def _progress(requests: int) -> Callable[[int], None]:
    """A line on stderr now and then; none where it takes a moment only."""
    clock = SystemClock()
    due_s = clock.monotonic_s() + _PROGRESS_EVERY_S

    def told(arrived: int) -> None:
        nonlocal due_s
        if (now_s := clock.monotonic_s()) >= due_s:
            due_s = now_s + _PROGRESS_EVERY_S
            note(f"{arrived:,} of {requests:,} requests")

    return told


# ── for people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _write(simulated: Simulated, *, policy: Policy, speed: float, slices: int) -> None:
    tally = simulated.tally
    total, managed = tally.total(), tally.of(Hosting.MANAGED)
    print(f"policy {policy.digest}: {counted(tally.requests, 'request')} in {_clock(simulated.lasted_s)}", end="")
    print(f", at {in_digits(speed, significant=6)} times their rate" if speed != 1 else "")
    for line in _speed_lines(simulated):
        print(line)
    print()
    write_table(
        head=_HEAD,
        words=1,
        rows=[(name, *_figures(line)) for name, line in tally.lines().items()],
        total=("total", *_figures(total)),
    )
    for line in _LEGEND:
        print(f"  {line}")
    print()
    print(
        f"to managed targets: {managed.requests:,} ({100 * managed.share:.1f} %), of which spilled by prediction: "
        f"{tally.spilled:,} ({_percent(tally.spilled, tally.requests)} %)"
    )
    for rule, count in tally.refusals.items():
        print(f'refused under "{rule}": {count:,} ({_percent(count, tally.requests)} %)')
    for why, count in tally.failures.items():
        print(f"failed: {count:,} ({_percent(count, tally.requests)} %); the last: {why}")
    for line in _machine_lines(simulated, policy):
        print(line)
    if slices:
        print()
        write_table(
            title="over time, by arrival",
            head=("from", "to managed targets", "requests", "managed %", "refused", "own TTFT p50 s", "p90 s"),
            words=2,
            rows=[_slice_row(each) for each in tally.slices(slices)],
        )


def _speed_lines(simulated: Simulated) -> Iterator[str]:
    """What was taken for true, which the gateway of the simulation was not told."""
    for name, speed in simulated.speeds.items():
        yield f"  {name}: {_speed_words(speed)}"
    for name, pace in simulated.paces.items():
        usual = "" if name in simulated.paces_given else " (taken for usual: give its --pace)"
        yield f"  {name}: {_pace_words(pace)}{usual}"


def _speed_words(speed: EngineSpeed) -> str:
    kv = "" if speed.kv_tokens is None else f", {speed.kv_tokens:,} tokens of KV cache"
    prefill = Decimal(in_digits(speed.prefill_tokens_per_s, significant=6))
    return (
        f"a step takes {_ms(speed.step_s)} ms and {_ms(speed.step_per_sequence_s)} ms for each sequence, {prefill:,f} "
        f"prompt tokens/s, {counted(speed.sequences_most, 'sequence')} at once{kv}"
    )


def _pace_words(pace: Pace) -> str:
    return f"first token after {_ms(pace.ttft_s)} ms, {_ms(pace.tpot_s)} ms for each further one"


def _ms(seconds: float) -> str:
    return in_digits(1000 * seconds, significant=6)


def _machine_lines(simulated: Simulated, policy: Policy) -> Iterator[str]:
    for name in simulated.speeds:
        if (usd_per_hour := policy.usd_per_hour(policy.targets[name])) is not None:
            usd = in_digits(float(usd_per_hour) * simulated.lasted_s / 3600)
            yield f"machine of {name}: {usd} USD at {shown(from_dollars(usd_per_hour))} USD an hour, busy or idle"


def _figures(line: Line) -> Sequence[str]:
    within, mean_s = line.within_objective, line.error_mean_s
    return (
        f"{line.requests:,}",
        f"{100 * line.share:.1f}",
        *_times(line.ttft),
        "–" if within is None else f"{100 * within:.1f}",
        "–" if line.tpot.p50_s is None else f"{1000 * line.tpot.p50_s:.1f}",
        _seconds(line.error_size_s),
        "–" if mean_s is None else f"{mean_s:+.2f}",
        f"{line.prompt_tokens:,}",
        f"{line.output_tokens:,}",
        shown(line.charge),
        shown(line.marginal),
    )


def _times(times: Times) -> tuple[str, str, str]:
    return _seconds(times.p50_s), _seconds(times.p90_s), _seconds(times.p99_s)


def _slice_row(part: Slice) -> Sequence[str]:
    share = part.managed / part.requests if part.requests else 0.0
    return (
        _clock(part.at_s),
        "█" * round(_BAR * share),
        f"{part.requests:,}",
        f"{100 * share:.1f}",
        f"{part.refused:,}",
        _seconds(part.ttft.p50_s),
        _seconds(part.ttft.p90_s),
    )


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:,.2f}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def _notes(simulated: Simulated, *, policy: Policy, read: Trace) -> Iterator[str]:
    """What was left out or assumed, a sentence each."""
    tally = simulated.tally
    if read.left_out:
        yield f"left out, as no output token is known of them: {counted(read.left_out, 'request')}"
    if read.ignored:
        yield f"columns that are not used: {', '.join(read.ignored)[:400]}"
    for name in simulated.priced_by_speed:
        yield f"{name} has no price in the policy: its tokens are priced by its curve and its machine's price per hour"
    for name in simulated.waiting_rules:
        yield (
            f"rule {name} has `wait: true`, which is not simulated: here full targets get all that come and queue in "
            "their engines, in the order of coming; a gateway would let teams take turns, and give up after queue_s"
        )
    if too_late := tally.total().too_late:
        yield (
            f"{counted(too_late, 'first token')} came later than timeouts.first_token_s, where a gateway would have "
            "given up and asked the next target: here they wait on"
        )
    if any(budget.mode is not Mode.WATCH for budget in policy.budgets.values()):
        yield "budgets begin unspent; their steps and conditions count, but nobody is refused for want of money"
    if any(rule.shadow is not None for route in policy.routes.values() for rule in route.rules):
        yield "copies for shadows are not simulated"
    yield from credential_notes(policy, models={arrival.facts.model for arrival in read.arrivals})
