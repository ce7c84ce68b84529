from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from app.domain.errors import BudgetExceeded, RateLimited
from app.domain.ledger.receipt import HEDGE_LOST, Attempt, HedgeWon, Receipt, hedged_flag, waited_flag
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.facts import Endpoint
from app.domain.routing.plan import Candidate, Plan, Refusal, RefusalReason
from app.domain.target import Hosting, TargetSeen
from app.domain.usage import Usage, UsageSource
from app.telemetry import names
from app.telemetry.metrics import Gauges, PrometheusReadings
from tests.makers import NOON, REQUEST_ID, a_receipt, an_attempt, some_facts
from tests.random_receipts import receipts

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def readings(**named: object) -> PrometheusReadings:
    return PrometheusReadings(Gauges(policy_digest=lambda: "0123456789abcdef", **named))  # type: ignore[arg-type]


def scraped(subject: PrometheusReadings) -> Samples:
    """Every sample, as Prometheus' own parser reads it."""
    found: Samples = {}
    for family in text_string_to_metric_families(subject.text().decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of this name that carry these labels."""
    return sum(
        number
        for (sample, pairs), number in samples.items()
        if sample == name and labels.items() <= dict(pairs).items()
    )


def label_values(samples: Samples, label: str) -> set[str]:
    return {dict(pairs)[label] for _, pairs in samples if label in dict(pairs)}


def test_a_complete_stream_is_counted_once_in_everything_it_says() -> None:
    subject = readings()
    subject.dispatched(target="home")
    subject.settled(a_receipt(facts=some_facts(stream=True)))
    seen = scraped(subject)
    route = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "vllm",
        "gen_ai_request_model": "chat",
        "target": "home",
        "hosting": "self_hosted",
    }
    assert value(seen, "breakeven_requests_total", outcome="complete", **route) == 1
    assert value(seen, "breakeven_attempts_total", outcome="complete", error_type="", **route) == 1
    assert value(seen, "breakeven_dispatched_total", target="home") == 1
    assert value(seen, "breakeven_charge_nanodollars_total", **route) == 396_200
    for token_type, count in (("input", 900), ("output", 100), ("cached", 128)):
        assert value(seen, "gen_ai_client_token_usage_sum", gen_ai_token_type=token_type, **route) == count
        assert value(seen, "gen_ai_client_token_usage_count", gen_ai_token_type=token_type, **route) == 1
    for name, total in (
        ("gen_ai_client_operation_duration_seconds", 2.3),
        ("gen_ai_client_operation_time_to_first_chunk_seconds", 0.25),
        ("gen_ai_server_request_duration_seconds", 2.31),
        ("gen_ai_server_time_per_output_token_seconds", 0.02),
    ):
        assert value(seen, f"{name}_count", **route) == 1
        assert abs(value(seen, f"{name}_sum", **route) - total) < 1e-9
    assert value(seen, "gen_ai_client_operation_time_per_output_chunk_seconds_count", **route) == 99
    assert value(seen, "breakeven_overhead_seconds_count") == 1


def test_the_callers_time_to_first_token_holds_the_attempts_that_failed_before() -> None:
    failed = an_attempt(
        outcome=Outcome.REFUSED,
        fault="refused_connection",
        usage=Usage(prompt=0, output=0),
        usage_source=UsageSource.NOTHING_SENT,
        ttft_s=None,
        tpot_s=None,
        charge=Nanodollars(0),
    )
    second = an_attempt(
        attempt_id=f"{REQUEST_ID}/2",
        number=2,
        target="openai",
        kind="openai",
        hosting=Hosting.MANAGED,
        started_us=failed.started_us + 1_500_000,
    )
    subject = readings()
    subject.settled(a_receipt(failed, second))
    seen = scraped(subject)
    assert value(seen, "breakeven_fallbacks_total", target="openai") == 1
    assert value(seen, "breakeven_fallbacks_total") == 1
    assert value(seen, "breakeven_attempts_total", target="home", error_type="refused_connection") == 1
    assert value(seen, "breakeven_requests_total", target="openai", hosting="managed") == 1
    assert value(seen, "breakeven_requests_total", target="home") == 0
    assert abs(value(seen, "gen_ai_server_time_to_first_token_seconds_sum", target="openai") - 1.7501) < 1e-6
    assert value(seen, "gen_ai_client_token_usage_count", target="home") == 0, "nothing was sent, so nothing was used"


def test_a_wall_clock_that_was_set_back_never_gives_an_impossible_first_token() -> None:
    for shift_us in (-3_600_000_000, 3_600_000_000):
        receipt = a_receipt()
        subject = readings()
        subject.settled(replace(receipt, at_us=receipt.at_us + shift_us))
        first = value(scraped(subject), "gen_ai_server_time_to_first_token_seconds_sum")
        assert 0.25 <= first <= receipt.duration_s


def test_usage_that_the_target_did_not_report_is_counted_as_missing() -> None:
    subject = readings()
    sources = (
        UsageSource.GATEWAY_ESTIMATE,
        UsageSource.CHECKPOINT,
        UsageSource.NOTHING_SENT,
        UsageSource.PROVIDER_FINAL,
    )
    for source in sources:
        subject.settled(a_receipt(an_attempt(usage_source=source)))
    assert value(scraped(subject), "breakeven_usage_missing_total") == 2


def test_a_refused_request_counts_and_has_no_target() -> None:
    refusal = Refusal(reason=RefusalReason.NO_TARGET, rule="home", message="nobody")
    receipt = replace(a_receipt(decision=refusal), attempts=(), outcome=Outcome.REFUSED, status=503)
    subject = readings()
    subject.settled(receipt)
    seen = scraped(subject)
    assert value(seen, "breakeven_requests_total", outcome="refused", target="", hosting="") == 1
    assert value(seen, "gen_ai_client_operation_duration_seconds_count") == 0
    assert value(seen, "breakeven_overhead_seconds_count") == 0


def test_an_answer_that_was_cut_says_nothing_of_the_callers_latency() -> None:
    subject = readings()
    subject.settled(a_receipt(an_attempt(outcome=Outcome.BROKEN, fault="cut"), outcome=Outcome.BROKEN))
    seen = scraped(subject)
    assert value(seen, "gen_ai_server_time_to_first_token_seconds_count") == 0
    assert value(seen, "gen_ai_server_request_duration_seconds_count") == 1


def test_what_a_caller_writes_never_becomes_a_label() -> None:
    canary = "canary-7f3a"
    subject = readings()
    facts = some_facts(tags=(canary,), data_class=canary)
    attempt = an_attempt(fault=canary, fault_message=canary, provider_request_id=canary, upstream_model=canary)
    subject.settled(a_receipt(attempt, facts=facts, caller_label=canary, flags=(canary,)))
    assert canary.encode() not in subject.text()
    assert label_values(scraped(subject), "error_type") == {"other"}


def test_label_sets_are_bounded_whatever_the_policies_of_a_long_life_named() -> None:
    subject = PrometheusReadings(Gauges(policy_digest=lambda: ""), most_series=20)
    for number in range(30):
        subject.settled(a_receipt(facts=some_facts(model=f"model-{number}")))
    seen = scraped(subject)
    assert len(label_values(seen, names.MODEL)) == 21
    assert value(seen, "breakeven_requests_total", gen_ai_request_model="other") == 10
    assert value(seen, "breakeven_requests_total") == 30


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_name_in_a_policy_survives_the_exposition(name: str) -> None:
    subject = readings()
    subject.settled(a_receipt(an_attempt(target=name), facts=some_facts(model=name, endpoint=Endpoint.COMPLETIONS)))
    seen = scraped(subject)
    assert value(seen, "breakeven_requests_total", gen_ai_request_model=name, target=name) == 1
    assert label_values(seen, names.OPERATION) == {"text_completion"}


@settings(max_examples=50)
@given(st.lists(receipts(), max_size=5))
def test_metrics_agree_with_the_receipts_they_read(settled: list[Receipt]) -> None:
    subject = readings()
    for receipt in settled:
        subject.settled(receipt)
    seen = scraped(subject)
    attempts = [attempt for receipt in settled for attempt in receipt.attempts]
    used = [each for each in attempts if each.usage_source is not UsageSource.NOTHING_SENT]
    copies = sum(receipt.shadow_of is not None for receipt in settled)
    assert value(seen, "breakeven_requests_total") == len(settled) - copies
    assert value(seen, "breakeven_shadow_copies_total") == copies
    assert value(seen, "breakeven_attempts_total") == len(attempts)
    assert value(seen, "breakeven_charge_nanodollars_total") == sum(receipt.charge for receipt in settled)
    assert value(seen, "breakeven_fallbacks_total") == sum(each.number > 1 for each in attempts)
    output = value(seen, "gen_ai_client_token_usage_sum", gen_ai_token_type="output")
    assert output == sum(each.usage.output for each in used)
    assert _are_running_sums(seen)


def test_a_copy_for_a_shadow_is_a_targets_work_and_nobodys_request() -> None:
    subject = readings(shadows_dropped=lambda: {"crowded": 3})
    subject.settled(replace(a_receipt(), shadow_of=REQUEST_ID))
    seen = scraped(subject)
    assert value(seen, "breakeven_shadow_copies_total", result="complete") == 1
    assert value(seen, "breakeven_shadow_copies_total", result="crowded") == 3
    assert value(seen, "breakeven_attempts_total", target="home") == 1
    assert value(seen, "breakeven_requests_total") == 0
    assert value(seen, "gen_ai_server_request_duration_seconds_count") == 0


def test_gauges_are_read_at_each_scrape() -> None:
    in_flight: dict[str, int] = {}
    depth = [0]

    def now() -> Mapping[str, int]:
        return in_flight

    subject = readings(
        in_flight=now, spool_depth=lambda: depth[0], spool_refusing=lambda: True, spool_quarantined=lambda: 3
    )
    in_flight["home"], depth[0] = 7, 42
    seen = scraped(subject)
    assert value(seen, "breakeven_requests_in_flight", target="home") == 7
    assert value(seen, "breakeven_spool_depth") == 42
    assert value(seen, "breakeven_spool_refusing") == 1
    assert value(seen, "breakeven_spool_quarantined") == 3
    assert value(seen, "breakeven_policy_info", digest="0123456789abcdef") == 1
    assert value(seen, "breakeven_log_lines_dropped_total") == 0


def test_postgres_is_neither_up_nor_down_before_anybody_asked() -> None:
    up: list[bool | None] = [None]
    subject = readings(postgres_up=lambda: up[-1])
    assert "breakeven_postgres_up" not in {name for name, _ in scraped(subject)}
    for is_up in (False, True):
        up.append(is_up)
        assert value(scraped(subject), "breakeven_postgres_up") == is_up


def test_what_was_shipped_is_counted() -> None:
    assert value(scraped(readings(shipped=lambda: 503)), "breakeven_shipped_receipts_total") == 503


def test_a_late_event_loop_shows() -> None:
    subject = readings()
    for lag_s in (0.0, 0.0004, 2.0):
        subject.loop_lagged(lag_s)
    seen = scraped(subject)
    assert value(seen, "breakeven_event_loop_lag_seconds_bucket", le="1.0") == 2
    assert value(seen, "breakeven_event_loop_lag_seconds_bucket", le="2.5") == 3


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells a process of itself in /proc")
def test_the_process_says_how_much_memory_and_time_it_took() -> None:
    seen = {name for name, _ in scraped(readings())}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"} <= seen


def test_two_readings_share_nothing_and_the_global_registry_stays_empty_of_us() -> None:
    one, other = readings(), readings()
    one.settled(a_receipt())
    assert value(scraped(other), "breakeven_requests_total") == 0
    assert not [each.name for each in REGISTRY.collect() if each.name.startswith(("breakeven", "gen_ai"))]


def test_every_family_on_the_page_of_names_is_exposed() -> None:
    subject = readings(
        postgres_up=lambda: True,
        in_flight=lambda: {"home": 1},
        resting=lambda: {"home": True},
        queued=lambda: {"home": 1},
        shadows_dropped=lambda: {"crowded": 0},
    )
    subject.dispatched(target="home")
    subject.waited(target="home", waited_s=0.5, ended="sent")
    subject.loop_lagged(0.0)
    subject.settled(a_receipt(an_attempt(number=2, usage_source=UsageSource.CHECKPOINT)))
    subject.settled(_predicted(100.0, ttft_s=0.1))
    subject.settled(hedged(an_attempt(), an_attempt(number=2, flags=(HEDGE_LOST,))))
    subject.money.budgets_used({"all": 0.5})
    subject.money.refused(BudgetExceeded("no room", budget="all", resets_at=NOON))
    subject.money.refused(RateLimited("slowly", limit="key requests"))
    text = subject.text().decode()
    families = [each for each in vars(names).values() if isinstance(each, names.Family)]
    assert len(families) > 20
    for family in families:
        assert f"\n# TYPE {family.name} {family.type}\n" in f"\n{text}"
        assert list(family.buckets) == sorted(family.buckets)
    exposed = {name for name, _ in scraped(subject)}
    for family in families:
        assert any(name.startswith(family.name) for name in exposed), family.name


def test_reading_a_receipt_costs_microseconds() -> None:
    """Measured about 4 µs; the bound is wide because machines are busy, not because the work is."""
    subject, receipt = readings(), a_receipt()
    subject.settled(receipt)
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        for _ in range(1000):
            subject.settled(receipt)
        best = min(best, (time.perf_counter() - started) / 1000)
    assert best < 100e-6


def _are_running_sums(samples: Samples) -> bool:
    """Buckets never fall from edge to edge, and the last equals the count."""
    series: dict[tuple[str, frozenset[tuple[str, str]]], list[tuple[float, float]]] = {}
    for (name, pairs), number in samples.items():
        if name.endswith("_bucket"):
            rest = frozenset(pair for pair in pairs if pair[0] != "le")
            series.setdefault((name, rest), []).append((float(dict(pairs)["le"]), number))
    for (name, rest), edges in series.items():
        counts = [number for _, number in sorted(edges)]
        if counts != sorted(counts) or counts[-1] != samples[(f"{name.removesuffix('_bucket')}_count", rest)]:
            return False
    return True


def test_edits_of_the_policy_are_counted_by_what_became_of_them() -> None:
    refused = False
    subject = readings(policy_refused=lambda: refused)
    before = scraped(subject)
    assert value(before, "breakeven_policy_refused") == 0
    assert (names.POLICY_RELOADS.name, frozenset({("result", "refused")})) in before, "an alert needs the zero"
    subject.policy_edited(accepted=True)
    subject.policy_edited(accepted=False)
    subject.policy_edited(accepted=False)
    refused = True
    seen = scraped(subject)
    assert value(seen, "breakeven_policy_reloads_total", result="accepted") == 1
    assert value(seen, "breakeven_policy_reloads_total", result="refused") == 2
    assert value(seen, "breakeven_policy_refused") == 1


def _predicted(ms: float | None, *, ttft_s: float | None, target: str = "home") -> Receipt:
    candidate = Candidate(target=target, rejected=None, place=0, seen=TargetSeen(predicted_ttft_ms=ms))
    plan = Plan(rule="r", prefer="listed", order=(target,), candidates=(candidate,))
    return a_receipt(an_attempt(target=target, ttft_s=ttft_s), decision=plan)


def test_the_error_of_a_prediction_is_real_over_predicted() -> None:
    subject = readings()
    for ms in (100.0, 200.0, 400.0):
        subject.settled(_predicted(ms, ttft_s=0.2))
    seen = scraped(subject)
    error = names.TTFT_ERROR.name
    assert value(seen, f"{error}_count", target="home") == 3
    assert value(seen, f"{error}_sum", target="home") == pytest.approx(2 + 1 + 0.5)
    assert value(seen, f"{error}_bucket", target="home", le="1.0") == 2


def test_a_prediction_that_had_a_wait_in_it_is_held_against_the_wait_too() -> None:
    subject = readings()
    receipt = _predicted(2000.0, ttft_s=0.5)
    subject.settled(replace(receipt, flags=(waited_flag(target="home", waited_s=1.5),)))
    assert value(scraped(subject), f"{names.TTFT_ERROR.name}_sum", target="home") == pytest.approx(1)


def test_what_was_waited_for_at_other_targets_is_no_error_of_a_prediction() -> None:
    subject = readings()
    receipt = _predicted(2000.0, ttft_s=0.5)
    flags = (
        waited_flag(target="home-2", waited_s=7.0, in_vain="no place came free within 7.0 s"),
        waited_flag(target="home", waited_s=1.5),
    )
    subject.settled(replace(receipt, flags=flags))
    assert value(scraped(subject), f"{names.TTFT_ERROR.name}_sum", target="home") == pytest.approx(1)


@pytest.mark.parametrize(("ms", "ttft_s"), [(None, 0.2), (0.0, 0.2), (100.0, None)])
def test_without_a_prediction_or_a_first_token_there_is_no_error(ms: float | None, ttft_s: float | None) -> None:
    subject = readings()
    subject.settled(_predicted(ms, ttft_s=ttft_s))
    assert value(scraped(subject), f"{names.TTFT_ERROR.name}_count") == 0


def test_more_targets_than_series_are_counted_together() -> None:
    subject = PrometheusReadings(Gauges(policy_digest=lambda: "0123456789abcdef"), most_series=1)
    for target in ("one", "two", "three", "one"):
        subject.settled(_predicted(100.0, ttft_s=0.1, target=target))
    seen = scraped(subject)
    assert value(seen, f"{names.TTFT_ERROR.name}_count", target="one") == 2
    assert value(seen, f"{names.TTFT_ERROR.name}_count", target="other") == 2


def hedged(first: Attempt, hedge: Attempt, **named: object) -> Receipt:
    flag = hedged_flag(first=first.target, second=hedge.target, after_s=0.7)
    return a_receipt(first, hedge, flags=(flag,), **named)


def test_hedges_are_counted_by_whose_answer_came_of_them_and_the_request_is_its_targets() -> None:
    subject = readings()
    answered = an_attempt(target="home")
    beside = an_attempt(number=2, target="away", outcome=Outcome.ABANDONED, ttft_s=None, flags=(HEDGE_LOST,))
    subject.settled(hedged(answered, beside, facts=some_facts(stream=True)))
    subject.settled(hedged(replace(beside, number=1, target="home"), replace(answered, number=2, target="away")))
    refused = replace(beside, outcome=Outcome.REFUSED, fault="server_error")
    subject.settled(hedged(answered, refused))
    subject.settled(hedged(replace(answered, outcome=Outcome.BROKEN, fault="cut"), refused, outcome=Outcome.BROKEN))
    subject.settled(a_receipt(flags=(waited_flag(target="home", waited_s=0.1),)))
    found = scraped(subject)
    counted = {
        result: value(found, "breakeven_hedges_total", gen_ai_request_model="chat", target="away", result=result)
        for result in HedgeWon
    }
    assert counted == {HedgeWon.FIRST: 2, HedgeWon.HEDGE: 1, HedgeWon.NEITHER: 1}
    assert value(found, "breakeven_hedges_total") == 4
    assert value(found, "breakeven_requests_total", target="away") == 1, "the one that the hedge answered"
    assert value(found, "breakeven_requests_total", target="home") == 4
    assert value(found, "gen_ai_server_time_to_first_token_seconds_count", target="home") == 3


def test_more_hedges_than_there_is_room_for_are_counted_together() -> None:
    subject = PrometheusReadings(Gauges(policy_digest=lambda: ""), most_series=2)
    for number in range(4):
        beside = an_attempt(number=2, target=f"away-{number}", outcome=Outcome.ABANDONED, flags=(HEDGE_LOST,))
        subject.settled(hedged(an_attempt(), beside))
    found = scraped(subject)
    assert value(found, "breakeven_hedges_total", target="other") == 2
    assert value(found, "breakeven_hedges_total") == 4
