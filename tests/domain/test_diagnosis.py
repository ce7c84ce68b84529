"""`app.domain.diagnosis`: what is found becomes what is to be done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.diagnosis import Check, Diagnosis, Grade, diagnosed
from app.domain.engine import EngineReading, EngineTrial, Health, ServedModel
from app.domain.errors import FaultKind
from app.domain.signals import Absent, EngineSignals, SignalName, nothing_read
from app.domain.target import Target
from app.providers.engines.families import FAMILIES
from tests.makers import a_target

GOOD_TRIAL = EngineTrial(usage=True, cached_tokens=True, timings=True, request_id=True, ttft_s=0.05)


def target(family: str = "vllm", **named: object) -> Target:
    values: dict[str, object] = {"context_tokens": 4096, "in_flight_most": 64, "model": "m", **named}
    return a_target(kind=family, family=FAMILIES[family], **values)


def reading(family: str = "vllm", **named: object) -> EngineReading:
    numbers = dict.fromkeys(FAMILIES[family].signals, 1.0)
    values: dict[str, object] = {
        "at_s": 0.0,
        "health": Health.READY,
        "signals": EngineSignals(
            at_s=0.0,
            numbers=numbers,
            missing={name: Absent.NOT_OFFERED for name in SignalName if name not in numbers},
        ),
        "models": (ServedModel(name="m", context_tokens=4096),),
        "version": "0.33.0",
        "looks_like": (family,),
        **named,
    }
    return EngineReading(**values)  # type: ignore[arg-type]


def without(*names: SignalName, why: Absent = Absent.NOT_EMITTED, faults: tuple[str, ...] = ()) -> EngineSignals:
    whole = reading().signals
    return EngineSignals(
        at_s=0.0,
        numbers={name: number for name, number in whole.numbers.items() if name not in names},
        missing={**whole.missing, **dict.fromkeys(names, why)},
        faults=faults,
    )


def check(diagnosis: Diagnosis, what: str) -> Check:
    found = [each for each in diagnosis.checks if each.what == what]
    assert len(found) == 1, [each.what for each in diagnosis.checks]
    return found[0]


def test_an_engine_as_it_should_be_leaves_nothing_that_must_be_done() -> None:
    diagnosis = diagnosed(target(), reading(), GOOD_TRIAL)
    assert not diagnosis.must_act
    assert {each.grade for each in diagnosis.checks} == {Grade.OK, Grade.NOTE}
    assert check(diagnosis, "engine").found == "vLLM 0.33.0"
    assert "--max-num-queued-reqs N" in check(diagnosis, "full queue").advice


def test_where_nobody_answers_nothing_else_is_told() -> None:
    away = reading(health=Health.AWAY, signals=nothing_read(why="", at_s=0), faults=("/health: no connection",))
    diagnosis = diagnosed(target(), away, None)
    assert [each.what for each in diagnosis.checks] == ["reachable"]
    assert diagnosis.must_act
    assert check(diagnosis, "reachable").found == "it does not answer: /health: no connection"
    assert check(diagnosis, "reachable").advice == "Start it, or correct `url` of home in the policy."


def test_a_credential_that_is_not_there_must_be_set() -> None:
    diagnosis = diagnosed(target(credential="env:KEY"), reading(), GOOD_TRIAL, has_credential=False)
    assert check(diagnosis, "credential").found == "env:KEY is not there"
    assert diagnosis.must_act


@pytest.mark.parametrize(
    ("written", "seen", "grade", "advice"),
    [
        ("sglang", ("vllm",), Grade.ACT, "Write `engine: vllm` for home, or correct its `url`."),
        ("sglang", ("openvino", "vllm"), Grade.ACT, "Write `engine: openvino` for home, or correct its `url`."),
        ("openai_compatible", ("vllm",), Grade.NOTE, "Write `engine: vllm` for home, so that its load is read."),
        ("nim", ("nim", "vllm"), Grade.OK, ""),
        ("vllm", (), Grade.OK, ""),
    ],
)
def test_what_answers_is_held_against_the_policys_engine(
    written: str, seen: tuple[str, ...], grade: Grade, advice: str
) -> None:
    found = check(diagnosed(target(written), reading(written, looks_like=seen), GOOD_TRIAL), "engine")
    assert (found.grade, found.advice) == (grade, advice)


def server(family: str, **named: object) -> EngineReading:
    """Something that answers in OpenAI's dialect, and tells nothing that only engines of this family tell."""
    nothing = EngineSignals(at_s=0.0, numbers={}, missing=dict.fromkeys(SignalName, Absent.UNREADABLE))
    return reading(family, signals=nothing, looks_like=(), version=None, **named)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_only_answers_like_an_engine_is_not_taken_for_one(family: str) -> None:
    diagnosis = diagnosed(target(family), server(family), GOOD_TRIAL)
    engine = check(diagnosis, "engine")
    assert engine.grade is Grade.NOTE
    assert FAMILIES[family].title in engine.found
    assert check(diagnosis, "load").grade is not Grade.OK
    assert "no prediction of a first token is corrected" in f"{engine.found} {check(diagnosis, 'load').found}"
    assert [check(diagnosis, what).grade for what in ("full queue", "abort")] == [Grade.NOTE] * 2


def test_an_engines_own_signals_show_what_it_is_though_its_marks_do_not() -> None:
    diagnosis = diagnosed(target(), reading(looks_like=()), GOOD_TRIAL)
    assert (check(diagnosis, "engine").grade, check(diagnosis, "abort").grade) == (Grade.OK, Grade.OK)


def test_an_engine_of_the_policys_own_may_look_like_the_one_that_it_is_made_after() -> None:
    own = replace(FAMILIES["vllm"], name="own-x", title="own-x")
    told = diagnosed(a_target(kind="own-x", family=own, model="m"), reading(looks_like=("vllm",)), GOOD_TRIAL)
    assert (check(told, "engine").grade, check(told, "engine").found) == (Grade.OK, "own-x 0.33.0")
    silent = reading(signals=without(*SignalName), looks_like=("vllm",))
    told = diagnosed(a_target(kind="own-x", family=own, model="m"), silent, GOOD_TRIAL)
    assert check(told, "engine").grade is Grade.ACT


def test_a_list_of_models_is_no_word_of_readiness() -> None:
    silent = check(diagnosed(target(), reading(faults=("/health answers 404",)), GOOD_TRIAL), "reachable")
    assert silent.grade is Grade.NOTE
    assert silent.found == "it lists its models, and does not say whether it is ready (/health answers 404)"
    told = check(diagnosed(target(), reading(faults=("/version answers 404",)), GOOD_TRIAL), "reachable")
    assert (told.grade, told.found) == (Grade.OK, "it answers and says that it is ready")
    no_page = check(diagnosed(target("openai_compatible"), server("openai_compatible"), GOOD_TRIAL), "reachable")
    assert (no_page.grade, no_page.found) == (Grade.OK, "it answers and lists its models")


def test_a_legacy_engine_is_called_so_with_the_way_out() -> None:
    found = check(diagnosed(target("tgi"), reading("tgi"), GOOD_TRIAL), "engine's future")
    assert (found.grade, "vLLM or SGLang" in found.advice) == (Grade.NOTE, True)


def test_a_model_that_is_not_served_is_told_with_those_that_are() -> None:
    many = tuple(ServedModel(name=f"n{number}") for number in range(7))
    found = check(diagnosed(target(), reading(models=many), GOOD_TRIAL), "model")
    assert found.grade is Grade.ACT
    assert found.found == "m is not served; n0, n1, n2, n3, n4 and 2 more is"
    assert "Write `model: n0`" in found.advice
    assert check(diagnosed(target(), reading(models=()), GOOD_TRIAL), "model").grade is Grade.NOTE


@pytest.mark.parametrize(
    ("written", "served", "grade"),
    [(4096, 4096, Grade.OK), (2048, 4096, Grade.OK), (8192, 4096, Grade.ACT), (None, 4096, Grade.NOTE)],
)
def test_the_context_in_the_policy_may_not_be_more_than_there_is(
    written: int | None, served: int, grade: Grade
) -> None:
    models = (ServedModel(name="m", context_tokens=served),)
    found = check(diagnosed(target(context_tokens=written), reading(models=models), GOOD_TRIAL), "context")
    assert found.grade is grade
    assert (f"`context_tokens: {served}`" in found.advice) == (grade is not Grade.OK)


def test_a_context_that_nobody_tells_is_not_checked() -> None:
    models = (ServedModel(name="m"),)
    checks = diagnosed(target(), reading(models=models), GOOD_TRIAL).checks
    assert "context" not in [each.what for each in checks]


def test_load_that_cannot_be_read_must_be_mended_with_the_familys_flag() -> None:
    blind = without(*SignalName, why=Absent.UNREADABLE, faults=("/v1/models answers 404", "/metrics answers 404"))
    found = check(diagnosed(target(), reading(signals=blind), GOOD_TRIAL), "load")
    assert found.grade is Grade.ACT
    assert found.found.startswith("0 of 21 signals; missing: running, waiting, kv_usage")
    assert found.found.endswith("(/metrics answers 404)")
    assert found.advice.startswith("Remove --disable-log-stats: ")


def test_a_signal_that_routing_can_do_without_is_a_note() -> None:
    found = check(diagnosed(target(), reading(signals=without(SignalName.REJECTIONS)), GOOD_TRIAL), "load")
    assert found.grade is Grade.NOTE
    assert found.found == "20 of 21 signals; missing: rejections (its page of figures does not have it)"


def test_broken_lines_are_told() -> None:
    signals = replace(reading().signals, broken_lines=3)
    assert check(diagnosed(target(), reading(signals=signals), GOOD_TRIAL), "figures").found.startswith("3 lines")


def test_an_engine_without_figures_is_no_fault_of_anybody() -> None:
    diagnosis = diagnosed(target("ollama"), reading("ollama"), replace(GOOD_TRIAL, cached_tokens=False))
    assert check(diagnosis, "load").grade is Grade.NOTE
    assert "never reports them" in check(diagnosis, "cached tokens").found
    assert not diagnosis.must_act


@pytest.mark.parametrize(
    ("family", "flag"), [("vllm", "--enable-prompt-tokens-details"), ("sglang", "--enable-cache-report")]
)
def test_cached_tokens_that_are_not_told_name_the_flag_that_tells_them(family: str, flag: str) -> None:
    diagnosis = diagnosed(target(family), reading(family), replace(GOOD_TRIAL, cached_tokens=False))
    found = check(diagnosis, "cached tokens")
    assert found.grade is Grade.ACT
    assert found.advice.startswith(f"Add {flag}: Without it")


def test_streams_without_usage_must_be_mended() -> None:
    diagnosis = diagnosed(target(), reading(), EngineTrial(usage=False))
    assert check(diagnosis, "usage on streams").advice.startswith("Add --enable-force-include-usage")
    assert (
        "booked by an estimate"
        in check(diagnosed(target("triton"), reading("triton"), EngineTrial(usage=False)), "usage on streams").advice
    )


def test_what_is_only_nice_to_have_is_a_note_with_its_flag() -> None:
    diagnosis = diagnosed(target(), reading(), replace(GOOD_TRIAL, timings=False, request_id=False))
    assert "--enable-per-request-metrics" in check(diagnosis, "timings").advice
    assert "--enable-request-id-headers" in check(diagnosis, "request ids").advice
    assert not diagnosis.must_act


def test_a_chat_that_failed_is_told_in_its_own_words() -> None:
    failed = EngineTrial(failure="home: answered 401; check the target's credential", fault=FaultKind.AUTH)
    found = check(diagnosed(target(), reading(), failed), "chat")
    assert (found.grade, found.found) == (Grade.ACT, failed.failure)


def test_without_a_request_it_is_said_what_was_not_looked_at() -> None:
    diagnosis = diagnosed(target(), reading(), None)
    assert "no request was sent" in check(diagnosis, "chat").found
    assert not diagnosis.must_act


def test_an_engine_whose_queue_has_no_end_wants_a_limit_in_the_policy() -> None:
    waits = check(diagnosed(target("lmdeploy", in_flight_most=None), reading("lmdeploy"), GOOD_TRIAL), "full queue")
    assert "lets them wait without a limit" in waits.found
    assert waits.advice == ("Write `limits: {in_flight: N}` for home, so that the gateway does not overfill it.")
    assert check(diagnosed(target("tgi"), reading("tgi"), GOOD_TRIAL), "full queue").grade is Grade.OK
