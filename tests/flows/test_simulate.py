"""`app.flows.simulate`: a policy over a trace, by the gateway's own memory and the same decision."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from app.documents.compile import compile_policy
from app.documents.trace import Asking, read_trace
from app.domain.errors import BadRequest
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.replay.arrival import Arrival, hurried
from app.domain.replay.speed import EngineSpeed, Pace
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Policy
from app.domain.routing.replay import replayed
from app.domain.target import Hosting
from app.flows.simulate import USUAL_PACE, Simulated, Simulation, simulate
from app.providers.engines.families import FAMILIES
from tests.makers import NOON, a_caller, some_facts

BEGAN_US = int(NOON.timestamp()) * 1_000_000
#: An eighth of an A100 as published, so that a short trace fills it.
SPEED = EngineSpeed(step_s=0.008, step_per_sequence_s=0.0052, prefill_tokens_per_s=6_000, sequences_most=16)
OBJECTIVE_S = 2.0
SPILL = "[{name: all, use: [ours, hosted], spill: {predicted_ttft_ms: 2000}}]"
STAY = "[{name: all, use: [ours]}]"


@cache
def a_policy(rules: str = SPILL, *, limits: str = "", more: str = "", hosted: str = "") -> Policy:
    price = hosted or "usd_per_million_tokens: {prompt: 0.25, cached_prompt: 0.025, completion: 2.00}"
    text = f"""
targets:
  ours:
    hosting: self_hosted
    engine: vllm
    url: http://127.0.0.1:8001/v1
    model: m
    can: [chat]
    machine: {{type: a100, count: 1}}
    {limits}
  hosted: {{hosting: managed, provider: openai, model: gpt-5-mini, can: [chat], credential: "env:OPENAI_API_KEY"}}
rates:
  machines: {{a100: {{usd_per_hour: 4, marginal_usd_per_hour: 1}}}}
  targets: {{hosted: {{{price}}}}}
models:
  chat: {{rules: {rules}}}
{more}
"""
    return compile_policy({"policy.yaml": text}, families=FAMILIES).policy


@cache
def a_trace(*, requests: int = 1200, per_s: float = 2.4, seed: int = 3) -> Sequence[Arrival]:
    """Random arrivals, prompts and answers: about an eighth more than the engine can do alone."""
    draw, at_s, arrivals = random.Random(seed), 0.0, []
    for number in range(requests):
        at_s += draw.expovariate(per_s)
        arrivals.append(an_arrival(at_s, number, prompt=draw.randint(50, 1500), output=draw.randint(1, 130)))
    return tuple(arrivals)


def an_arrival(at_s: float, number: int = 0, *, prompt: int = 500, output: int = 50, **facts: object) -> Arrival:
    known = {"request_id": f"00000000-0000-7000-8000-{number:012x}", "stream": True, "prompt_tokens": prompt}
    return Arrival(at_s=at_s, facts=some_facts(**{**known, **facts}), prompt_tokens=prompt, output_tokens=output)


@dataclass(frozen=True)
class Ran:
    simulated: Simulated
    receipts: Sequence[Receipt]
    policy: Policy


def ran(
    policy: Policy,
    arrivals: Sequence[Arrival] | None = None,
    *,
    speed: EngineSpeed = SPEED,
    paces: Mapping[str, Pace] | None = None,
) -> Ran:
    receipts: list[Receipt] = []
    simulated = simulate(
        Simulation(
            policy=policy,
            arrivals=a_trace() if arrivals is None else arrivals,
            began_us=BEGAN_US,
            speeds={"ours": speed},
            paces=paces or {},
            objective_s=OBJECTIVE_S,
        ),
        heard=receipts.append,
    )
    return Ran(simulated, receipts, policy)


@cache
def spilling() -> Ran:
    return ran(a_policy())


# ── what is decided ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_decision_comes_out_the_same_bit_for_bit_from_its_receipt() -> None:
    run = spilling()
    assert {receipt.decision.candidates[0].filter for receipt in run.receipts} == {None, "spill"}
    for receipt in run.receipts:
        again = replayed(receipt.facts, receipt.decision, at_us=receipt.at_us, policy=run.policy)
        assert again == receipt.decision


def test_the_first_of_the_plan_answers() -> None:
    for receipt in spilling().receipts:
        assert isinstance(receipt.decision, Plan)
        assert [attempt.target for attempt in receipt.attempts] == [receipt.decision.order[0]]


def test_the_same_trace_comes_to_the_same_every_time() -> None:
    again = ran(a_policy())
    assert again.receipts == spilling().receipts
    assert again.simulated.tally.lines() == spilling().simulated.tally.lines()
    assert again.simulated.lasted_s == spilling().simulated.lasted_s


def test_a_gateway_is_not_told_how_fast_the_engine_is_and_finds_it_out() -> None:
    in_order = sorted(spilling().receipts, key=lambda receipt: receipt.at_us)
    first = [receipt.decision.candidates[0].expected_ttft_ms for receipt in in_order[:3]]
    assert first == [None, None, None]
    line = spilling().simulated.tally.lines()["ours"]
    assert line.predicted > 0.98 * line.requests
    assert line.error_size_s is not None
    assert line.ttft.p50_s is not None
    assert 0 < line.error_size_s < 0.6


def test_what_the_policy_names_as_engine_tells_its_load_and_what_does_not_is_not_heard() -> None:
    told = [receipt.decision.candidates[0].seen for receipt in spilling().receipts]
    assert any(seen.waiting for seen in told)
    silent = ran(without_engine(a_policy()))
    seen = [receipt.decision.candidates[0].seen for receipt in silent.receipts]
    assert {each.waiting for each in seen} == {None}
    assert {each.age_s for each in seen} == {None}


def without_engine(policy: Policy) -> Policy:
    return replace(policy, targets={**policy.targets, "ours": replace(policy.targets["ours"], family=None)})


# ── what it comes to ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_lost_and_nothing_is_double() -> None:
    run, arrivals = spilling(), a_trace()
    tally = run.simulated.tally
    assert Counter(receipt.request_id for receipt in run.receipts) == Counter(
        arrival.facts.request_id for arrival in arrivals
    )
    assert tally.requests == len(arrivals)
    by_id = {receipt.request_id: receipt for receipt in run.receipts}
    for arrival in arrivals:
        (attempt,) = by_id[arrival.facts.request_id].attempts
        assert (attempt.usage.prompt, attempt.usage.output) == (arrival.prompt_tokens, arrival.output_tokens)
        assert by_id[arrival.facts.request_id].at_us == BEGAN_US + round(arrival.at_s * 1e6)
    total, lines = tally.total(), tally.lines().values()
    assert total.charge == sum(receipt.charge for receipt in run.receipts) == sum(line.charge for line in lines)
    assert total.prompt_tokens == sum(arrival.prompt_tokens for arrival in arrivals)
    assert total.output_tokens == sum(arrival.output_tokens for arrival in arrivals)
    assert sum(line.share for line in lines) == pytest.approx(1)
    assert run.simulated.lasted_s > arrivals[-1].at_s


def test_an_engine_that_is_too_slow_is_ruined_by_its_queue_and_saved_by_spilling_on_prediction() -> None:
    alone = ran(a_policy(STAY)).simulated.tally.lines()["ours"]
    spilled = spilling().simulated.tally
    ours = spilled.lines()["ours"]
    assert alone.ttft.p99_s is not None
    assert ours.ttft.p99_s is not None
    assert alone.ttft.p99_s > 10 * OBJECTIVE_S
    assert ours.ttft.p99_s < 1.5 * OBJECTIVE_S
    assert ours.within_objective is not None
    assert ours.within_objective > 0.9
    share = spilled.of(Hosting.MANAGED).share
    assert 0.05 < share < 0.3
    assert spilled.spilled == spilled.of(Hosting.MANAGED).requests
    assert alone.too_late > 0
    assert ours.too_late == 0


def test_in_a_long_queue_what_is_predicted_comes() -> None:
    alone = ran(a_policy(STAY)).simulated.tally.lines()["ours"]
    assert alone.ttft.p50_s is not None
    assert alone.error_mean_s is not None
    assert abs(alone.error_mean_s) < 0.2 * alone.ttft.p50_s


def test_a_seller_costs_its_list_price_and_a_machine_what_it_takes_more() -> None:
    run = spilling()
    lines = run.simulated.tally.lines()
    assert lines["hosted"].marginal == lines["hosted"].charge
    assert lines["ours"].marginal == pytest.approx(lines["ours"].charge / 4, rel=1e-3)
    assert run.simulated.priced_by_speed == ("ours",)
    card = next(receipt for receipt in run.receipts if receipt.attempts[0].target == "ours").attempts[0]
    decode_per_s = 16 / (0.008 + 16 * 0.0052)
    assert float(card.price_output) == pytest.approx(4 / 3600 / decode_per_s * 1e6, rel=1e-3)


def test_an_idle_engine_and_a_seller_answer_at_their_own_speed() -> None:
    run = ran(a_policy(), [an_arrival(0.0, prompt=600, output=11)])
    (attempt,) = run.receipts[0].attempts
    assert attempt.ttft_s == pytest.approx(0.008 + 600 / 6000)
    assert attempt.tpot_s == pytest.approx(0.008 + 0.0052)
    hosted = ran(
        a_policy("[{name: all, use: [hosted]}]"),
        [an_arrival(5.0, output=11)],
        paces={"hosted": Pace(ttft_s=0.25, tpot_s=0.01)},
    )
    (attempt,) = hosted.receipts[0].attempts
    assert (attempt.ttft_s, attempt.tpot_s) == (pytest.approx(0.25), pytest.approx(0.01))
    assert hosted.simulated.speeds == {}
    assert spilling().simulated.paces == {"hosted": USUAL_PACE}


def test_an_answer_that_is_not_streamed_has_no_first_token_that_a_gateway_could_see() -> None:
    run = ran(a_policy(), [an_arrival(0.0, stream=False)])
    (attempt,) = run.receipts[0].attempts
    assert (attempt.ttft_s, attempt.usage.output) == (None, 50)
    assert run.simulated.tally.total().ttft.p50_s is None


# ── rooms of the gateway that only some policies use ─────────────────────────────────────────────────────────────────


def test_a_full_target_refuses_where_the_rule_has_no_other() -> None:
    run = ran(
        a_policy(STAY, limits="limits: {in_flight: 1}"), [an_arrival(0.0), an_arrival(0.1, 1), an_arrival(9.0, 2)]
    )
    assert run.simulated.tally.refusals == {"all": 1}
    refused = [receipt for receipt in run.receipts if receipt.outcome is Outcome.REFUSED]
    assert [receipt.request_id for receipt in refused] == [an_arrival(0.1, 1).facts.request_id]
    assert isinstance(refused[0].decision, Refusal)
    assert refused[0].decision.candidates[0].filter == "room"


def test_the_cap_of_a_rule_ends_spilling_for_the_hour() -> None:
    rules = "[{name: all, use: [ours, hosted], spill: {predicted_ttft_ms: 100, max_usd_per_hour: 0.01}}]"
    run = ran(a_policy(rules))
    charged = run.simulated.tally.lines()["hosted"].charge
    free = ran(a_policy(rules.replace(", max_usd_per_hour: 0.01", ""))).simulated.tally.lines()["hosted"].charge
    assert 10_000_000 <= charged < 30_000_000 < free
    assert any(receipt.decision.candidates[1].filter == "spill_cap" for receipt in run.receipts)


def test_a_step_of_a_budget_is_taken_when_the_simulated_requests_have_spent_it() -> None:
    budget = """
budgets:
  all: {of: {team: research}, usd: 0.001, every: day, mode: watch, past: {0.5: {only: [ours]}}}
"""
    hosted_first = "[{name: all, use: [hosted, ours]}]"
    arrivals = [an_arrival(float(n), n, output=100) for n in range(10)]
    run = ran(a_policy(hosted_first, more=budget), arrivals)
    targets = [receipt.attempts[0].target for receipt in sorted(run.receipts, key=lambda each: each.at_us)]
    assert targets[0] == "hosted"
    assert targets[-1] == "ours"
    others = [replace(each, facts=replace(each.facts, caller=a_caller(team="sales"))) for each in arrivals]
    assert set(ran(a_policy(hosted_first, more=budget), others).simulated.tally.lines()) == {"hosted"}


def test_prices_change_with_the_day_of_the_trace() -> None:
    price = "usd_per_million_tokens: {prompt: 1, cached_prompt: 1, completion: 1}"
    dearer = "usd_per_million_tokens: {prompt: 2, cached_prompt: 2, completion: 2}"
    policy = a_policy(
        "[{name: all, use: [hosted]}]", hosted=f"{price}, changes: [{{valid_from: 2026-11-24, {dearer}}}]"
    )
    run = ran(policy, [an_arrival(0.0, 0), an_arrival(13 * 3600.0, 1)])
    assert [receipt.charge for receipt in run.receipts] == [Nanodollars(550_000), Nanodollars(1_100_000)]


def test_what_an_engine_cannot_hold_is_asked_of_the_next_and_fails_where_there_is_none() -> None:
    small = replace(SPEED, kv_tokens=400)
    run = ran(a_policy(), [an_arrival(0.0)], speed=small)
    assert [attempt.target for attempt in run.receipts[0].attempts] == ["ours", "hosted"]
    assert run.receipts[0].outcome is Outcome.COMPLETE
    failed = ran(a_policy(STAY), [an_arrival(0.0)], speed=small)
    assert failed.receipts[0].outcome is Outcome.REFUSED
    assert sum(failed.simulated.tally.failures.values()) == 1
    assert failed.simulated.tally.requests == 1
    assert failed.simulated.tally.total().charge == 0


def test_progress_is_told_now_and_then() -> None:
    told: list[int] = []
    simulate(
        Simulation(policy=a_policy(), arrivals=a_trace()[:450], began_us=BEGAN_US, speeds={"ours": SPEED}, paces={}),
        progress=told.append,
    )
    assert told == [200, 400]


# ── what cannot be replayed ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arrivals": [an_arrival(0.0, model="nope")]}, 'no model "nope"; it has chat: give --model'),
        ({"speeds": {}}, 'nothing is known of how fast "ours" is: give its curve, as in --curve ours=8,'),
        (
            {"speeds": {"ours": SPEED, "oars": SPEED}},
            '--curve names "oars", which is no self-hosted target .* are ours',
        ),
        ({"speeds": {"ours": SPEED, "hosted": SPEED}}, '--curve names "hosted", which is no self-hosted'),
        ({"paces": {"ours": USUAL_PACE}}, '--pace names "ours", which is no managed target .* are hosted'),
    ],
)
def test_what_is_not_there_is_a_sentence(change: Mapping[str, object], said: str) -> None:
    given: dict[str, object] = {
        "policy": a_policy(),
        "arrivals": [an_arrival(0.0)],
        "began_us": BEGAN_US,
        "speeds": {"ours": SPEED},
        "paces": {},
        **change,
    }
    with pytest.raises(BadRequest, match=said):
        simulate(Simulation(**given))  # type: ignore[arg-type]


# ── the published trace ──────────────────────────────────────────────────────────────────────────────────────────────

TRACES = os.environ.get("BREAKEVEN_TRACES", "")


@pytest.mark.skipif(not TRACES, reason="BREAKEVEN_TRACES names no directory with azure-llm-2023-conv.csv")
def test_on_the_published_trace_few_are_spilled_and_few_wait_long() -> None:
    """At 0.8 of its speed, with the published curve: 15 % hosted at most, local p99 3 s at most."""
    path = Path(TRACES) / "azure-llm-2023-conv.csv"
    with path.open(encoding="utf-8-sig", newline="") as lines:
        trace = read_trace(path.name, lines, asking=Asking(model="chat"))
    published = EngineSpeed(step_s=0.008, step_per_sequence_s=0.00065, prefill_tokens_per_s=12_000, sequences_most=64)
    tally = ran(a_policy(), list(hurried(trace.arrivals, speed=0.8)), speed=published).simulated.tally
    ours = tally.lines()["ours"]
    assert tally.requests == 19_366
    assert tally.of(Hosting.MANAGED).share <= 0.15
    assert ours.ttft.p99_s is not None
    assert ours.ttft.p99_s <= 3.0
