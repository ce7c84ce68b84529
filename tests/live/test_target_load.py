from __future__ import annotations

from math import inf

import pytest

from app.domain.capacity.service_curve import Load, ServiceCurve
from app.domain.metering.meter import Meter
from app.domain.signals import EngineSignals, SignalName
from app.domain.usage import Usage
from app.live.target_load import (
    CURVE_KNOWN_S,
    ENDS_LEAST,
    IDLE_AFTER_S,
    PREFILL_USUALLY_S,
    SIGNALS_KNOWN_S,
    TargetLoad,
)

#: What the engine of these tests really is.
ENGINE = ServiceCurve(step_s=0.01, step_per_sequence_s=0.001, prefill_s_per_token=0.001, overhead_s=0.05)


def _meter(at_s: float = 0.0) -> Meter:
    return Meter(started_s=at_s, prompt_estimate=0)


def _told(at_s: float, **numbers: float) -> EngineSignals:
    return EngineSignals(at_s=at_s, numbers={SignalName(name): told for name, told in numbers.items()}, missing={})


def _enter(load: TargetLoad, *, in_flight: int = 0, tokens: int = 100, streamed: bool = True, at_s: float = 0) -> Meter:
    meter = _meter(at_s)
    load.entered(meter, in_flight=in_flight, prompt_tokens=tokens, streamed=streamed, at_s=at_s)
    return meter


def _answer(load: TargetLoad, *, in_flight: int, tokens: int, at_s: float = 0) -> None:
    """One request that the engine of these tests answers, beside others."""
    meter = _enter(load, in_flight=in_flight, tokens=tokens, at_s=at_s)
    met = Load(in_flight=in_flight, prefill_tokens=0)
    load.left(
        meter,
        in_flight=in_flight + 1,
        ttft_s=ENGINE.ttft_s(met, prompt_tokens=tokens),
        tpot_s=ENGINE.step_with_s(in_flight + 1),
        usage=Usage(prompt=tokens, output=20),
        at_s=at_s,
    )


def _learned() -> TargetLoad:
    load = TargetLoad()
    for in_flight, tokens in ((0, 100), (3, 900), (7, 400), (1, 2000)) * 10:
        _answer(load, in_flight=in_flight, tokens=tokens)
    return load


def test_nothing_is_told_of_a_target_that_nothing_is_known_of() -> None:
    told = TargetLoad().told(in_flight=5, at_s=9)
    assert told.predicted_ttft_ms is None
    assert told.prefill_tokens_per_s is None
    assert told.waiting is None
    assert told.saturation is None
    assert told.age_s is None


def test_some_answers_make_a_prediction_that_holds_under_another_load() -> None:
    told = _learned().told(in_flight=20, at_s=1)
    assert told.predicted_ttft_ms is not None
    assert told.prefill_tokens_per_s is not None
    predicted_ms = told.predicted_ttft_ms + 1000 * 3000 / told.prefill_tokens_per_s
    assert predicted_ms == pytest.approx(1000 * ENGINE.ttft_s(Load(in_flight=20), prompt_tokens=3000), rel=0.02)


def test_prompts_count_until_their_first_token_comes() -> None:
    load = _learned()
    idle = load.told(in_flight=0, at_s=1).predicted_ttft_ms
    meter = _enter(load, tokens=5000, at_s=1)
    behind = load.told(in_flight=1, at_s=1).predicted_ttft_ms
    load.computed(meter)
    after = load.told(in_flight=1, at_s=1).predicted_ttft_ms
    assert idle is not None
    assert behind is not None
    assert after is not None
    assert behind > after + 4000
    assert after < idle + 10
    load.computed(meter)
    assert load.told(in_flight=1, at_s=1).predicted_ttft_ms == after


def test_a_prompt_that_is_not_streamed_counts_for_as_long_as_it_should_take() -> None:
    load = TargetLoad()
    _enter(load, streamed=False, at_s=1)
    assert load.changes_after_s(at_s=1) == 1 + PREFILL_USUALLY_S
    assert load.grow_older(at_s=1 + PREFILL_USUALLY_S) > 1e9


def test_a_curve_that_nothing_confirms_predicts_nothing_any_more() -> None:
    load = _learned()
    assert load.told(in_flight=0, at_s=CURVE_KNOWN_S - 1).predicted_ttft_ms is not None
    assert load.changes_after_s(at_s=CURVE_KNOWN_S - 1) == CURVE_KNOWN_S
    assert load.told(in_flight=0, at_s=CURVE_KNOWN_S).predicted_ttft_ms is None


def test_answers_that_are_not_streamed_keep_a_curve_that_streams_taught() -> None:
    load = _learned()
    meter = _enter(load, streamed=False, at_s=CURVE_KNOWN_S - 2)
    usage = Usage(prompt=100, output=20)
    load.left(meter, in_flight=1, ttft_s=None, tpot_s=None, usage=usage, at_s=CURVE_KNOWN_S - 1)
    assert load.told(in_flight=0, at_s=CURVE_KNOWN_S).predicted_ttft_ms is not None
    assert load.told(in_flight=0, at_s=2 * CURVE_KNOWN_S - 1).predicted_ttft_ms is None


def test_an_answer_that_broke_teaches_nothing() -> None:
    load = TargetLoad()
    for _ in range(9):
        meter = _enter(load)
        load.left(meter, in_flight=1, ttft_s=None, tpot_s=None, usage=None, at_s=0)
    assert load.told(in_flight=0, at_s=0).predicted_ttft_ms is None


def test_what_the_engine_has_beside_ours_is_others() -> None:
    load = TargetLoad()
    load.polled(_told(1, running=6, waiting=2, slots=6), ours=3)
    told = load.told(in_flight=3, at_s=1)
    assert (told.others, told.waiting, told.saturation, told.age_s) == (5, 2, round(8 / 6, 3), 0.0)
    assert load.told(in_flight=1, at_s=1).saturation == 1.0


def test_fewer_at_the_engine_than_are_ours_are_no_others() -> None:
    load = TargetLoad()
    load.polled(_told(1, running=1, waiting=0), ours=3)
    assert load.told(in_flight=3, at_s=1).others == 0


def test_old_signals_count_for_nothing_and_say_how_old_they_are() -> None:
    load = TargetLoad()
    load.polled(_told(1, running=6, waiting=2, slots=6), ours=0)
    assert load.changes_after_s(at_s=1) == 2
    later = load.told(in_flight=1, at_s=1 + SIGNALS_KNOWN_S)
    assert (later.others, later.waiting, later.saturation, later.age_s) == (0, None, None, SIGNALS_KNOWN_S)


def test_a_poll_that_could_read_nothing_leaves_what_was_read_before_to_grow_old() -> None:
    load = TargetLoad()
    load.polled(_told(1, running=6, waiting=2), ours=0)
    load.polled(_told(2), ours=0)
    assert load.told(in_flight=0, at_s=2).age_s == 1.0
    assert load.told(in_flight=0, at_s=2).waiting == 2


def test_a_signal_that_the_engine_does_not_tell_is_none() -> None:
    load = TargetLoad()
    load.polled(_told(1, running=6), ours=0)
    told = load.told(in_flight=0, at_s=1)
    assert (told.others, told.waiting, told.saturation) == (6, None, None)


def test_a_full_engine_is_predicted_to_let_wait() -> None:
    load = _learned()
    free = load.told(in_flight=8, at_s=1).predicted_ttft_ms
    load.polled(_told(1, running=8, waiting=0, slots=8), ours=8)
    full = load.told(in_flight=8, at_s=1).predicted_ttft_ms
    assert free is not None
    assert full is not None
    # One place must become free: 20 tokens, of 8 a step of 18 ms.
    assert full - free == pytest.approx(1000 * 20 / 8 * 0.018, rel=0.05)


def test_who_waits_at_one_poll_alone_lets_nobody_be_predicted_to_wait() -> None:
    load = _learned()
    free = load.told(in_flight=2, at_s=1)
    load.polled(_told(1, running=1, waiting=1, generation_tokens=100, ttft_count=7), ours=2)
    now = load.told(in_flight=2, at_s=1)
    assert (now.waiting, now.saturation) == (1, None)
    assert now.predicted_ttft_ms == free.predicted_ttft_ms


def test_the_places_of_a_full_engine_are_remembered_while_it_tells_nothing() -> None:
    load = _learned()
    for step in range(4):
        load.polled(_told(1 + step / 2, running=4, waiting=3, generation_tokens=100 * step, ttft_count=7), ours=7)
    full = load.told(in_flight=7, at_s=2.5)
    assert full.saturation == round(7 / 4, 3)
    later = load.told(in_flight=7, at_s=2.5 + SIGNALS_KNOWN_S)
    assert later.predicted_ttft_ms == full.predicted_ttft_ms


def test_a_target_at_which_nothing_was_for_a_while_is_idle() -> None:
    load = TargetLoad()
    assert load.told(in_flight=0, at_s=0).is_idle
    meters = [_enter(load, at_s=at_s) for at_s in (0, 5)]
    for meter, at_s in zip(meters, (20, 30), strict=True):
        assert not load.told(in_flight=1, at_s=at_s).is_idle
        load.left(meter, in_flight=1, ttft_s=None, tpot_s=None, usage=None, at_s=at_s)
    assert load.changes_after_s(at_s=30) == 30 + IDLE_AFTER_S
    assert not load.told(in_flight=0, at_s=30 + IDLE_AFTER_S - 0.1).is_idle
    assert load.told(in_flight=0, at_s=30 + IDLE_AFTER_S).is_idle


@pytest.mark.parametrize(("running", "waiting"), [(1, 0), (0, 1)])
def test_a_target_that_works_for_others_is_not_idle(running: int, waiting: int) -> None:
    load = TargetLoad()
    load.polled(_told(50, running=running, waiting=waiting), ours=0)
    assert not load.told(in_flight=0, at_s=50).is_idle
    assert load.told(in_flight=0, at_s=50 + SIGNALS_KNOWN_S).is_idle


def test_an_answer_that_turns_out_to_have_queued_teaches_nothing_of_prefill() -> None:
    load = _learned()
    before = load.fit.prefill
    meters = [_enter(load, in_flight=number) for number in range(9)]
    for step in range(4):
        load.polled(_told(1 + step / 2, running=4, waiting=5, generation_tokens=100 * step, ttft_count=0), ours=9)
    load.left(meters[8], in_flight=9, ttft_s=30.0, tpot_s=None, usage=Usage(prompt=100, output=20), at_s=2.5)
    assert load.fit.prefill == before
    load.left(meters[1], in_flight=8, ttft_s=0.4, tpot_s=None, usage=Usage(prompt=100, output=20), at_s=2.5)
    assert load.fit.prefill != before


def test_the_size_of_an_engines_steps_is_its_familys_whatever_was_learned_or_forgotten_meanwhile() -> None:
    load, learned = TargetLoad(), _learned().fit
    load.limit(None, tells_load=True, step_tokens=448)
    assert load.recall(learned, at_s=0)
    assert load.fit.step_tokens == 448
    assert load.fit.prefill == learned.prefill
    load.forget_curve()
    assert load.fit.step_tokens == 448
    _answer(load, in_flight=0, tokens=100)
    load.limit(None, tells_load=True, step_tokens=8192)
    assert (load.fit.step_tokens, load.fit.answers) == (8192, 1)


def test_the_engines_own_counters_teach_how_long_steps_take() -> None:
    seen, unseen = TargetLoad(), TargetLoad()
    for load in (seen, unseen):
        for _ in range(3):
            meter = _enter(load)
            load.left(meter, in_flight=1, ttft_s=0.1, tpot_s=None, usage=Usage(prompt=100, output=20), at_s=0)
    for second in range(1, 9):
        running = float(second)
        tokens = 100.0 * second
        seen.polled(_told(second, running=running, itl_count=tokens, itl_sum_s=0.5 * tokens, slots=99), ours=99)
        unseen.polled(_told(second, running=running, slots=99), ours=99)
    slow, fast = (load.told(in_flight=1, at_s=8).predicted_ttft_ms for load in (seen, unseen))
    assert slow is not None
    assert fast is not None
    assert slow > fast + 400


def test_counters_that_went_back_teach_nothing() -> None:
    load = _learned()
    before = load.told(in_flight=0, at_s=2).predicted_ttft_ms
    load.polled(_told(1, running=1, itl_count=1000, itl_sum_s=900), ours=1)
    load.polled(_told(2, running=1, itl_count=10, itl_sum_s=0.1), ours=1)
    assert load.told(in_flight=0, at_s=2).predicted_ttft_ms == before


def _polled(*, processes: int, ours: int, others: int, limit: int = 16) -> TargetLoad:
    load = TargetLoad(processes=processes)
    load.limit(limit, tells_load=True)
    load.polled(_told(1, running=ours + others, waiting=0), ours=ours)
    return load


@pytest.mark.parametrize(
    ("ours", "others", "share"),
    [
        (0, 0, 4),  # an even part of a free target
        (4, 0, 7),  # and of what is free beside ours
        (4, 12, 4),  # a full one: what ends may be replaced
        (16, 0, 16),
        (16, 12, 4),  # too much is there: whoever has more than an even part gives it back
        (8, 12, 4),
        (8, 9, 7),
        (0, 16, 4),  # whoever has nothing gets an even part of the limit
    ],
)
def test_processes_share_a_limit_by_what_the_engine_tells(ours: int, others: int, share: int) -> None:
    assert _polled(processes=4, ours=ours, others=others).told(in_flight=ours, at_s=1).share == share


def test_one_process_alone_has_the_whole_limit_whatever_strangers_do_there() -> None:
    assert _polled(processes=1, ours=3, others=0).told(in_flight=3, at_s=1).share == 16
    assert _polled(processes=1, ours=3, others=5).told(in_flight=3, at_s=1).share == 16


def test_with_old_signals_each_process_keeps_to_an_even_part() -> None:
    load = _polled(processes=4, ours=9, others=0)
    assert load.told(in_flight=9, at_s=1 + SIGNALS_KNOWN_S).share == 4


def test_before_the_first_poll_each_process_keeps_to_an_even_part_too() -> None:
    load = TargetLoad(processes=4)
    load.limit(16, tells_load=True)
    assert load.told(in_flight=0, at_s=1).share == 4


def test_the_limit_of_an_engine_that_tells_no_load_is_each_process_own() -> None:
    load = TargetLoad(processes=4)
    load.limit(16, tells_load=False)
    assert load.told(in_flight=0, at_s=1).share is None


@pytest.mark.parametrize("processes", [2, 4, 7])
def test_shares_of_hungry_processes_settle_at_the_limit_from_any_beginning(processes: int) -> None:
    limit = 64
    for begin in range(0, limit + 1, 8):
        have = [begin, *[0] * (processes - 1)]
        most = 0
        for turn in range(200):
            which = turn % processes
            total = sum(have)
            load = _polled(processes=processes, ours=have[which], others=total - have[which], limit=limit)
            have[which] = load.told(in_flight=have[which], at_s=1).share or 0
            most = max(most, sum(have))
        assert most <= limit * (2 - 1 / processes)
        assert limit - processes <= sum(have) <= limit


def test_prompts_that_nobody_sees_computed_are_let_go_of_in_any_order_and_leave_nothing() -> None:
    load = TargetLoad()
    meters = [_enter(load, tokens=100, streamed=False, at_s=(7 * each) % 50 / 10) for each in range(50)]
    for meter in meters[::3]:
        load.left(meter, in_flight=1, ttft_s=None, tpot_s=None, usage=None, at_s=5)
    left = sorted((7 * each) % 50 / 10 + PREFILL_USUALLY_S for each in range(50) if each % 3)
    for due_s in left:
        assert load.changes_after_s(at_s=due_s - 0.01) == due_s
        load.grow_older(at_s=due_s)
    assert load.changes_after_s(at_s=100) == inf
    assert not load._ends


def test_of_prompts_that_are_computed_before_their_time_little_is_kept() -> None:
    load = _learned()
    first = _enter(load, tokens=10**7, streamed=False)
    for _ in range(1000):
        meter = _enter(load, tokens=10**6, streamed=False)
        load.left(meter, in_flight=2, ttft_s=None, tpot_s=None, usage=None, at_s=0)
        load.changes_after_s(at_s=0)
    assert len(load._ends) <= 2 + ENDS_LEAST + 2
    load.computed(first)


@pytest.mark.parametrize("counter", ["generation_tokens", "ttft_count", "itl_count", "tpot_count"])
def test_an_engine_whose_counters_grow_gives_somebody_tokens(counter: str) -> None:
    load = TargetLoad()
    assert load.polled(_told(1, running=2, **{counter: 10}), ours=1) == -inf
    assert load.polled(_told(2, running=2, **{counter: 10}), ours=1) == -inf
    assert load.polled(_told(3, running=2, **{counter: 11}), ours=1) == 2
    assert load.polled(_told(4), ours=1) == -inf
    assert load.polled(_told(5, running=2, **{counter: 3}), ours=1) == -inf
