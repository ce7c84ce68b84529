"""`engines` of a policy: what is written (`app.documents.engines`), what comes of it (`app.documents.engine_tables`),
and what is wrong with it (`app.documents.lint_engines`)."""

from __future__ import annotations

from typing import get_args

import pytest

from app.documents.compile import compile_policy
from app.documents.engines import SIGNALS, CombineWord, FaultWord
from app.domain.engine import EngineFamily, Sooner
from app.domain.errors import FaultKind
from app.domain.signals import Combine, SignalName
from app.domain.target import Target
from app.flows.policy_diff import policy_changes
from app.providers.engines.families import FAMILIES
from tests.documents.good import GOOD, changed, findings_of

OWN = """
engines:
  own-gateway:
    like: vllm
    metrics: ":9102/metrics"
    health: /healthz
    version: /about#build.version
    signals:
      waiting: {of: ['my_queue{status="waiting"}', 'vllm:num_requests_waiting'], by: max}
      kv_usage: {of: [used_percent], scale: 0.01}
      preemptions: {of: []}
    errors:
      - {kind: overloaded, statuses: [530], phrases: [Come Back]}
    priority: larger
    step_tokens: 8192
"""


def compiled(text: str) -> Target:
    return compile_policy({"p.yaml": text}, families=FAMILIES).policy.targets["gpu-a"]


def family(text: str) -> EngineFamily:
    found = compiled(text).family
    assert found is not None
    return found


def own(text: str = OWN) -> str:
    return changed("engine: vllm", "engine: own-gateway") + text


def test_the_words_are_those_of_the_rules() -> None:
    assert list(SIGNALS) == [name.value for name in SignalName]
    assert list(get_args(CombineWord)) == [combine.value for combine in Combine]
    assert set(get_args(FaultWord)) <= {kind.value for kind in FaultKind}


def test_a_target_carries_the_table_of_its_engine_and_a_managed_one_none() -> None:
    policy = compile_policy({"p.yaml": GOOD}, families=FAMILIES).policy
    assert policy.targets["gpu-a"].family is FAMILIES["vllm"]
    assert policy.targets["hosted"].family is None
    assert compile_policy({"p.yaml": GOOD}).policy.targets["gpu-a"].family is None


def test_an_own_engine_begins_with_the_one_it_is_like() -> None:
    target = compiled(own())
    found = target.family
    assert found is not None
    assert (target.kind, found.name, found.title) == ("own-gateway",) * 3
    assert (found.metrics, found.health) == (":9102/metrics", "/healthz")
    assert str(found.version[0]) == "/about#build.version"
    waiting = found.signals[SignalName.WAITING]
    assert str(waiting) == '[my_queue{status="waiting"}, vllm:num_requests_waiting] by max'
    assert found.signals[SignalName.KV_USAGE].scale == 0.01
    assert SignalName.PREEMPTIONS not in found.signals
    assert found.signals[SignalName.RUNNING] == FAMILIES["vllm"].signals[SignalName.RUNNING]
    assert (found.step_tokens, FAMILIES["vllm"].step_tokens) == (8192, 2048)
    assert found.errors[0].kind is FaultKind.OVERLOADED
    assert (found.errors[0].statuses, found.errors[0].phrases) == ({530}, ("come back",))
    assert found.sooner is Sooner.LARGER


def test_a_known_engine_keeps_what_is_not_written() -> None:
    found = family(GOOD + "engines: {vllm: {metrics: /stats}}\n")
    assert found.metrics == "/stats"
    assert (found.title, found.signals, found.flags) == ("vLLM", FAMILIES["vllm"].signals, FAMILIES["vllm"].flags)


def test_an_own_engine_that_is_like_nothing_tells_nothing() -> None:
    found = family(own("engines: {own-gateway: {}}\n"))
    assert (found.metrics, found.signals) == (None, {})


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("own-gateway:\n", "gateway:\n", "name", "does not begin with own-"),
        ("like: vllm", "like: vlm", "word", 'did you mean "vllm"'),
        ("like: vllm", "likes: vllm", "unknown-key", 'did you mean "like"'),
        ("waiting: {", "waitings: {", "name", 'did you mean "waiting"'),
        ("by: max", "by: most", "word", "max, mean, min, sum"),
        ("[used_percent]", "['9percent']", "shape", "a metric is written name"),
        ("[used_percent]", "['a + b']", "shape", "one place, or two"),
        ("/about#build.version", "/about", "shape", "/page#key.key"),
        ("/about#build.version", "about_info", "shape", "entry of a JSON page"),
        ("health: /healthz", "health: healthz", "shape", "a path such as /metrics"),
        ('":9102/metrics"', "http://elsewhere/metrics", "shape", "at another port"),
        ("scale: 0.01", "scale: 0", "shape", "over 0"),
        ("statuses: [530]", "statuses: [200]", "shape", "from 400 to 599"),
        ("kind: overloaded", "kind: busy", "word", "overloaded"),
        (", statuses: [530], phrases: [Come Back]", "", "empty", "every failure would be overloaded"),
    ],
)
def test_a_fault_is_told_at_its_place_with_the_mend(old: str, new: str, code: str, said: str) -> None:
    assert OWN.count(old) == 1
    found = [each for each in findings_of(own(OWN.replace(old, new))) if each.code == code]
    assert len(found) >= 1, findings_of(own(OWN.replace(old, new)))
    assert any(said in str(each) for each in found), [str(each) for each in found]
    line = own(OWN.replace(old, new)).splitlines()
    assert all(each.line > len(GOOD.splitlines()) and each.line <= len(line) for each in found)


def test_an_engine_that_no_file_has_is_told_at_the_target() -> None:
    told = [str(each) for each in findings_of(changed("engine: vllm", "engine: own-gatway"))]
    assert any('names the engine "own-gatway", which no file has' in each for each in told)
    with_own = findings_of(changed("engine: vllm", "engine: own-gatway") + OWN)
    assert any('did you mean "own-gateway"' in str(each) for each in with_own)


def test_an_engine_that_nobody_uses_and_a_like_that_does_nothing_are_told() -> None:
    told = [(each.code, str(each.severity)) for each in findings_of(GOOD + OWN)]
    assert told == [("unused-engine", "warning")]
    assert [each.code for each in findings_of(GOOD + "engines: {vllm: {like: sglang}}\n")] == ["misplaced"]


def test_a_diff_names_what_changed_of_an_engine() -> None:
    old = compile_policy({"p.yaml": own()}, families=FAMILIES).policy
    new = compile_policy({"p.yaml": own(OWN.replace("by: max", "by: sum"))}, families=FAMILIES).policy
    (change,) = policy_changes(old, new)
    assert str(change).startswith("engine own-gateway: signals.waiting ")
    assert str(change).endswith('→ [my_queue{status="waiting"}, vllm:num_requests_waiting] by sum')
    assert policy_changes(old, old) == ()
