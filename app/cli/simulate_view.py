"""What `breakeven simulate` writes for programs."""

from __future__ import annotations

from datetime import UTC, datetime

from app.domain.money import Nanodollars, shown
from app.domain.replay.speed import EngineSpeed, Pace
from app.domain.replay.tally import Line, Slice, Times
from app.domain.routing.policy import Policy
from app.domain.target import Hosting
from app.flows.simulate import Simulated


def simulated_view(
    simulated: Simulated, *, policy: Policy, began_us: int, speed: float, slices: int
) -> dict[str, object]:
    """The result as a JSON-ready mapping. Times are seconds, shares parts of all requests, money as elsewhere."""
    tally = simulated.tally
    managed = tally.of(Hosting.MANAGED)
    return {
        "policy": policy.digest,
        "began": datetime.fromtimestamp(began_us / 1e6, UTC).isoformat(),
        "speed": speed,
        "lasted_s": _short(simulated.lasted_s),
        "requests": tally.requests,
        "managed": {"requests": managed.requests, "share": _short(managed.share)},
        "spilled": {"requests": tally.spilled, "share": _short(tally.spilled / max(tally.requests, 1))},
        "refused": sum(tally.refusals.values()),
        "refusals": dict(tally.refusals),
        "failures": dict(tally.failures),
        "total": _line(tally.total()),
        "targets": {
            name: {"hosting": policy.targets[name].hosting.value, **_line(line)} for name, line in tally.lines().items()
        },
        "assumed": {
            **{name: _curve(each) for name, each in simulated.speeds.items()},
            **{name: _pace(each, given=name in simulated.paces_given) for name, each in simulated.paces.items()},
        },
        "priced_by_speed": list(simulated.priced_by_speed),
        "waits_not_simulated": list(simulated.waiting_rules),
        "over_time": [_slice(each) for each in tally.slices(slices)] if slices else [],
    }


def _line(line: Line) -> dict[str, object]:
    return {
        "requests": line.requests,
        "share": _short(line.share),
        "ttft": _times(line.ttft),
        "tpot": _times(line.tpot),
        "within_objective": _short(line.within_objective),
        "first_tokens_too_late": line.too_late,
        "predicted": {
            "requests": line.predicted,
            "off_p50_s": _short(line.error_size_s),
            "off_mean_s": _short(line.error_mean_s),
        },
        "prompt_tokens": line.prompt_tokens,
        "output_tokens": line.output_tokens,
        **_money("charge", line.charge),
        **_money("marginal", line.marginal),
    }


def _money(name: str, amount: Nanodollars) -> dict[str, object]:
    return {f"{name}_usd": shown(amount), f"{name}_nanodollars": int(amount)}


def _times(times: Times) -> dict[str, float | None]:
    return {"p50_s": _short(times.p50_s), "p90_s": _short(times.p90_s), "p99_s": _short(times.p99_s)}


def _slice(part: Slice) -> dict[str, object]:
    return {
        "from_s": _short(part.at_s),
        "requests": part.requests,
        "managed": part.managed,
        "refused": part.refused,
        "self_hosted_ttft": _times(part.ttft),
    }


def _curve(speed: EngineSpeed) -> dict[str, object]:
    return {
        "step_ms": _short(1000 * speed.step_s),
        "per_sequence_ms": _short(1000 * speed.step_per_sequence_s),
        "prefill_tokens_per_s": speed.prefill_tokens_per_s,
        "sequences": speed.sequences_most,
        "kv_tokens": speed.kv_tokens,
        "step_tokens": speed.step_tokens,
    }


def _pace(pace: Pace, *, given: bool) -> dict[str, object]:
    return {"ttft_ms": _short(1000 * pace.ttft_s), "tpot_ms": _short(1000 * pace.tpot_s), "given": given}


def _short(number: float | None) -> float | None:
    """To a millionth: more digits would be nobody's."""
    return None if number is None else round(number, 6)
