"""Conditions: CEL that is understood before it runs, and never raises when it does."""

# ruff: noqa: E501 - tables read by their columns

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.documents.condition_kinds import BOOL, DOUBLE, INT, NAMES, SIGNALS, STRING, Kind
from app.documents.condition_parser import MOST_CHARACTERS, MOST_DEPTH
from app.documents.conditions import CelCondition, compile_condition, preparing, sample_names
from app.domain.budget import BudgetSeen
from app.domain.routing.facts import RequestFacts
from app.domain.routing.names import budget_names, names_for_conditions, target_names
from app.domain.target import TargetSeen
from tests.makers import NOON, a_caller, a_route, a_snapshot, some_facts

FACTS = some_facts(
    prompt_tokens=900,
    output_tokens_most=100,
    n=2,
    stream=True,
    data_class="restricted",
    deadline_s=5000.0,
    tags=("batch", "nightly-7"),
    caller=a_caller(team="legal", tags=("eu",)),
)


def names_of(facts: RequestFacts, *, at: datetime) -> Mapping[str, object]:
    """The names a condition sees, where no condition reads the fleet or a budget."""
    return names_for_conditions(facts, route=a_route(), snapshot=replace(a_snapshot(), at=at))


NAMES_NOW = names_of(FACTS, at=NOON)


def condition(text: str) -> CelCondition:
    compiled = compile_condition(text)
    assert isinstance(compiled, CelCondition), compiled
    return compiled


def fault(text: str) -> tuple[int, str]:
    compiled = compile_condition(text)
    assert not isinstance(compiled, CelCondition), f"{text} was accepted"
    return compiled[0].offset, f"{compiled[0].message} ({compiled[0].mend})"


@pytest.mark.parametrize(
    "text",
    [
        'request.data_class == "restricted"',
        'request.data_class == "restricted" || caller.team == "nobody"',
        "time.hour == 12 && time.minute == 0 && time.weekday == 1",
        "time.date >= '2026-11-23' && time.date < \"2026-12-01\"",
        "request.deadline_s > 3600",
        "request.deadline_s / 60.0 > 80.0",
        "request.prompt_tokens / request.n == 450",
        "request.prompt_tokens % 100 == 0",
        "request.prompt_tokens + request.output_tokens_most * request.n <= 0x450",
        '"batch" in request.tags',
        'request.tags.exists(tag, tag.startsWith("nightly-"))',
        'request.tags.exists_one(tag, tag == "batch")',
        "!request.tags.all(tag, tag < 'c')",
        "request.tags.filter(tag, tag.contains('-')).size() == 1",
        'request.tags.map(tag, tag + "!") == ["batch!", "nightly-7!"]',
        'request.tags[1].matches("^nightly-[0-9]+$")',
        r"request.tags[1].matches(r'\d')",
        'caller.tags == ["eu"] && size(caller.tags) == 1',
        'caller.team in ["legal", "finance"]',
        "request.n in [1, 2, 3]",
        "request.stream ? request.n == 2 : request.n == 1",
        "!(request.has_tools || request.has_images) && request.stream == true",
        "double(request.n) * 1.5 == 3.0 && int(2.9) == 2 && string(request.n) == '2'",
        "-request.n < 0 && - 1 < 0 && !!request.stream",
        "request\n  . n == 2  // both of them",
        "1 < request.n && 3.5 > double(request.n)",
        '"request.n" != "" && """many\nlines""" != ""',
        "request.tags.exists(a, caller.tags.exists(b, a != b))",
    ],
)
def test_a_condition_that_is_true_holds(text: str) -> None:
    asked = condition(text)
    assert asked.source == text
    assert asked.holds(NAMES_NOW)
    assert asked.troubles == 0
    assert not condition(f"!({text}\n)").holds(NAMES_NOW)


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("request.foo", 8, "no field"),
        ("request.promt_tokens > 1", 8, 'did you mean "prompt_tokens"'),
        ("data_class == 'x'", 0, "did you mean request.data_class?"),
        ("request", 0, '"request" alone is no value'),
        ("request.n", 0, "this one is a whole number"),
        ("session == 'a'", 0, 'no name "session" (the names are request, caller, time, fleet, budget)'),
        ("budgets['a'].used > 1.0", 0, 'did you mean "budget"?'),
        ("waiting > 3", 0, 'did you mean fleet["…"].waiting?'),
        ("fleet['gpu-a'].wating > 3", 15, 'did you mean "waiting"?'),
        ("request.stream && budget['a'].spent > 3", 30, 'the fields of budget["a"] are days_left, remaining_usd, used'),
        ("fleet['gpu-a'].known", 15, 'no field "known"'),
        ("fleet[caller.team].waiting > 3", 6, "takes a name in quotes"),
        ("fleet[0].waiting > 3", 6, "takes a name in quotes"),
        ("fleet['gpu\\x2da'].waiting > 3", 6, "without escapes"),
        ("fleet.waiting > 3", 0, 'write fleet["…"].waiting'),
        ("fleet.gpu.waiting > 3", 0, 'write fleet["gpu"].in_flight'),
        ("1 < 2 && fleet == 3", 9, 'write fleet["…"].in_flight'),
        ("budget['a'] > 3", 0, "budget['a'] alone is no value (its fields are remaining_usd, used, days_left)"),
        ("(fleet)['a'].waiting > 3", 1, "in one piece"),
        ("fleet['a'].circuit == 1", 19, "a text never equals a whole number"),
        ("fleet['a'].waiting.size() > 1", 19, 'a whole number has no function "size"'),
        ("caller.tags.exists(fleet, true)", 19, '"fleet" is taken'),
        ("request['n'] == 1", 0, "write request.n"),
        ("(request).n == 1", 1, "in one piece"),
        ("request.n.x == 1", 10, "a whole number has no fields"),
        ("request.n[0] == 1", 0, "only lists have an index"),
        ("request.tags['a'] == 'b'", 13, "an index is a whole number"),
        ("request.tags[-1] == 'b'", 13, "counts from 0"),
        ("request.n == '1'", 10, "remove the quotes"),
        ("request.stream == 1", 15, "stands alone"),
        ("caller.team == caller.tags", 12, "write `in`"),
        ("request.tags.exists(t, t == 1)", 25, "use string(…)"),
        ("caller.team < 1", 12, "compares two numbers or two texts"),
        ("1 < request.n < 3", 14, "join comparisons with &&"),
        ("caller.team in 'legal'", 12, "use text.contains"),
        ("1 in caller.tags", 2, "never in a list of text"),
        ("request.n + 1.5 > 2.0", 10, "two numbers of one kind"),
        ("caller.team + 1 == 'a'", 12, "cannot join"),
        ("request.deadline_s % 2.0 == 0.0", 19, "cannot join"),
        ("request.n / 0 == 1", 12, "division by zero"),
        ("request.deadline_s / 0.0 > 1.0", 21, "division by zero"),
        ("!request.n", 0, "`!` takes true or false"),
        ("-request.stream == 1", 0, "`-` takes a number"),
        ("request.n && true", 0, "`&&` takes true or false"),
        ("request.n ? true : false", 0, "`?` takes true or false"),
        ("true ? 1 : 'a'", 11, "both sides of a choice"),
        ("[1, 'a'] == []", 4, "items of a list are of one kind"),
        ("9223372036854775808 > 1", 0, "2⁶³"),
        ("has(request.n)", 0, "every field is always there"),
        ("max(1, 2) == 2", 0, 'no function "max"'),
        ("caller.team.lower() == 'a'", 12, 'a text has no function "lower"'),
        ("caller.team.startswith('a')", 12, 'did you mean "startsWith"?'),
        ("caller.team.contains(1)", 21, "contains does not take a whole number"),
        ("caller.team.contains()", 12, "takes 1 values, not 0"),
        ("caller.team.size() > 1", 12, 'a text has no function "size"'),
        ("size(caller.team) > 1", 5, "counts the items of a list"),
        ("int(caller.team) == 1", 4, "text may not hold a number"),
        ("caller.team.matches(caller.key)", 20, "pattern in quotes"),
        ("caller.team.matches('(')", 20, "unclosed group"),
        ("caller.team.matches('(?=a)')", 20, "look-around"),
        ("caller.team.matches('(a{1000}){1000}')", 20, "size limit"),
        ("caller.tags.exists(tag)", 12, "takes a name and an expression"),
        ("caller.tags.exists(time, true)", 19, '"time" is taken'),
        ("caller.tags.exists(a__b, true)", 19, '"a__b" is taken'),
        ("caller.tags.exists(t, t)", 22, "asks a question of each item"),
        ("caller.tags.map(t, t)", 0, "this one is a list of text"),
        ("'\\q' == 'q'", 0, "CEL cannot read the condition"),
        ("caller.team == 'legal", 15, "quotes opened here"),
        ("request.n > 1 or true", 14, "write ||"),
        ("not request.stream", 0, "write !"),
        ("request.n > 1 & true", 14, "write &&"),
        ("request.n == null", 13, "where a value is expected"),
        ("request.n == None", 13, "is not CEL"),
        ("request.n > 1 true", 14, "does not belong here"),
        ("{'a': 1}.a == 1", 0, "maps are not known"),
        ("b'a' == b'a'", 0, "byte strings"),
        ("1u == 1", 0, "write 1"),
        ("caller.team.contains('a',)", 25, "an argument is missing"),
        ("request. == 1", 9, "name of a field"),
        ("request.tags[0 == 'a'", 21, "closed with `]`"),
        ("request.n > 1 ? true", 20, "test ? one : other"),
        ("request.n > ", 12, "ends too early"),
        ("request.n # 1", 10, "no place in a condition"),
        ("", 0, "ends too early"),
    ],
)
def test_a_condition_at_fault_is_told_at_its_character(text: str, offset: int, words: str) -> None:
    at, said = fault(text)
    assert words in said
    assert at == offset


def test_every_fault_of_a_condition_is_told_and_none_that_follows_from_another() -> None:
    compiled = compile_condition("request.foo > 1 && callr.team == 'a' && request.n == 'x' && caller.tags.exists(t, u)")
    assert not isinstance(compiled, CelCondition)
    assert [one.offset for one in compiled] == [8, 19, 50, 82]


def test_the_names_are_those_that_the_rules_fill_in() -> None:
    types = {BOOL: bool, INT: int, DOUBLE: float, STRING: str, Kind("list", STRING): list}
    for names in (NAMES_NOW, *sample_names(), names_of(some_facts(), at=NOON)):
        assert {room: set(fields) for room, fields in NAMES.items()} == {
            room: set(fields) for room, fields in names.items() if isinstance(fields, dict)
        }
        for room, fields in NAMES.items():
            values = names[room]
            assert isinstance(values, dict)
            for field, kind in fields.items():
                assert type(values[field]) is types[kind], f"{room}.{field}"


def test_time_is_read_in_the_timezone_of_the_moment_given() -> None:
    at = datetime(2026, 11, 23, 23, 30, tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo("Europe/Berlin"))
    names = names_of(FACTS, at=at)
    assert condition("time.hour == 0 && time.weekday == 2 && time.date == '2026-11-24'").holds(names)


@pytest.mark.parametrize(
    "text",
    [
        "request.tags[5] == 'a'",
        "request.prompt_tokens / request.priority > 1",
        "request.prompt_tokens % request.priority > 1",
        "request.prompt_tokens * 9223372036854775807 > 1",
        "int(request.deadline_s * 1e300) > 1",
    ],
)
def test_what_a_request_makes_unanswerable_does_not_hold_and_is_counted(text: str) -> None:
    asked = condition(text)
    assert not asked.holds(NAMES_NOW)
    assert not asked.holds(NAMES_NOW)
    assert asked.troubles == 2
    assert asked.last_trouble
    other = condition(f"{text} || request.n == 2")
    assert other.holds(NAMES_NOW), "CEL: a true side of an `or` outweighs an error on the other"
    assert other.troubles == 0


SEEN: Mapping[str, object] = {
    **NAMES_NOW,
    "fleet": {
        "gpu-a": {"in_flight": 3, "waiting": 5, "saturation": 0.75, "predicted_ttft_ms": 900.0, "age_s": 0.5, "circuit": "closed"},
        "gpu-b": {"in_flight": 0, "circuit": "open"},
    },
    "budget": {"research": {"remaining_usd": 12.5, "used": 0.95, "days_left": 7}},
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        'fleet["gpu-a"].waiting > 3 && fleet["gpu-a"].in_flight == 3',
        "fleet['gpu-a'].saturation < 0.8 && fleet [ r'gpu-a' ] . predicted_ttft_ms == 900.0",
        'fleet["""gpu-a"""].age_s < 1.0 && fleet["gpu-b"].circuit == "open"',
        "fleet['gpu-a'].circuit in ['closed', 'half_open']",
        'budget["research"].remaining_usd < 20.0 && budget["research"].used >= 0.9 && budget["research"].days_left == 7',
        'request.tags.exists(t, fleet["gpu-a"].waiting > 3 && t == "batch")',
    ],
)
def test_a_condition_may_look_at_the_fleet_and_at_budgets(text: str) -> None:
    asked = condition(text)
    assert asked.holds(SEEN)
    assert not condition(f"!({text})").holds(SEEN)
    assert asked.troubles == 0


def test_a_condition_tells_which_targets_and_budgets_it_looks_at_and_where() -> None:
    asked = condition("fleet['gpu-a'].waiting > fleet['gpu-b'].waiting || budget['b'].used > 0.5 && request.stream")
    assert asked.reads_fleet == {"gpu-a", "gpu-b"}
    assert asked.reads_budgets == {"b"}
    assert [(one.begins, one.room, one.of, one.field) for one in asked.places] == [
        (0, "fleet", "gpu-a", "waiting"),
        (25, "fleet", "gpu-b", "waiting"),
        (51, "budget", "b", "used"),
        (77, "request", "", "stream"),
    ]
    assert condition("request.n > 1").reads_fleet == frozenset()


@pytest.mark.parametrize(
    "text", ["fleet['gpu-b'].waiting > 3", "!(fleet['gpu-b'].waiting > 3)", "budget['other'].used > 0.5"]
)
def test_a_signal_that_is_not_known_does_not_hold_and_is_no_trouble(text: str) -> None:
    asked = condition(text)
    assert not asked.holds(SEEN)
    assert not asked.holds(NAMES_NOW)
    assert asked.troubles == 0
    assert condition(f"{text} || request.n == 2").holds(SEEN), "what is known is enough"
    assert condition(f"request.n == 2 ? true : {text}").holds(SEEN)
    assert not condition(f"{text} && request.n == 2").holds(SEEN)


def test_a_trouble_beside_a_known_signal_is_still_counted() -> None:
    asked = condition("fleet['gpu-a'].waiting > 3 && request.tags[7] == 'a'")
    assert not asked.holds(SEEN)
    assert asked.troubles == 1


def test_the_names_of_a_target_and_of_a_budget_are_those_that_the_rules_fill_in() -> None:
    everything = TargetSeen(waiting=1, saturation=0.5, predicted_ttft_ms=80.0, age_s=0.1)
    types = {INT: int, DOUBLE: float, STRING: str}
    for room, values in (
        ("fleet", target_names(everything)),
        ("budget", budget_names(BudgetSeen(remaining_usd=1.0, used=0.5, days_left=3))),
    ):
        assert {field: types[kind] for field, kind in SIGNALS[room].items()} == {
            field: type(value) for field, value in values.items()
        }


def test_names_made_ready_once_give_every_condition_the_answer_it_has_alone() -> None:
    texts = [
        "request.n > 1",
        "request.n > 2",
        "'batch' in request.tags",
        "fleet['gpu-b'].waiting > 1",
        "request.tags[7] == 'a'",
    ]
    together = [condition(text) for text in texts]
    prepare = preparing(together)
    assert prepare is not None
    for names in (NAMES_NOW, SEEN, *sample_names()):
        ready = prepare(names)
        assert ready == names
        assert [one.holds(ready) for one in together] == [condition(text).holds(names) for text in texts]
    assert [one.troubles for one in together] == [0, 0, 0, 0, 4]
    assert preparing([]) is None
    assert preparing([condition("true")]) is None


def test_names_that_are_not_there_do_not_raise() -> None:
    asked = condition("request.n > 1")
    assert not asked.holds({})
    assert not asked.holds({"request": {}})
    assert asked.troubles == 2


def test_a_condition_that_looks_at_nothing_is_cautioned() -> None:
    (caution,) = condition("true").cautions
    assert "looks at nothing" in caution.message
    assert condition("request.n > 1").cautions == ()
    assert "request.n > 1" in repr(condition("request.n > 1"))


@pytest.mark.parametrize("pattern", [r"r'\w+'", r"'\\d'", "'(?i)eu'", "'[a-z]{10}'", "'[a-z]{1,63}'", r"r'\pL'"])
def test_a_slow_pattern_is_cautioned_where_it_stands(pattern: str) -> None:
    (caution,) = condition(f"caller.team.matches({pattern})").cautions
    assert "slow" in caution.message
    assert caution.offset == 20


@pytest.mark.parametrize("pattern", ["'^eu-[0-9]+$'", "'eu|us'", "'[a-z]{3}'", "'^(west|whatever).*d$'"])
def test_a_plain_pattern_is_not_cautioned(pattern: str) -> None:
    assert condition(f"caller.team.matches({pattern})").cautions == ()


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "(" * 900 + "true" + ")" * 900,
        "request" + ".a" * 900,
        "!" * 1_900 + "true",
        "+".join(["1"] * 900) + " > 1",
        "[" * 900 + "]" * 900,
        "true ? " * 200 + "true" + " : true" * 200,
        "a(" * 600,
        "x" * (MOST_CHARACTERS + 1),
        "-" * 1_000 + "1 > 0",
        "true == " * 200 + "true",
    ],
)
def test_what_would_take_the_process_down_never_reaches_the_library(text: str) -> None:
    _, said = fault(text)
    assert "deeper than" in said or "at most" in said


def test_a_long_row_of_alternatives_is_not_deep() -> None:
    teams = " || ".join(f'caller.team == "t{number}"' for number in range(70))
    assert condition(f'{teams} || caller.team == "legal"').holds(NAMES_NOW)
    assert condition("(" * (MOST_DEPTH - 1) + "true" + ")" * (MOST_DEPTH - 1)).holds(NAMES_NOW)


def test_the_library_comes_without_its_command_line_and_may_be_imported_after() -> None:
    script = (
        "import sys; from app.documents.conditions import compile_condition\n"
        "assert not {'typer', 'rich', 'prompt_toolkit'} & set(sys.modules)\n"
        "import cel; assert cel.compile('1 < 2').execute() is True\n"
        "print(compile_condition('request.n > 1').source)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "request.n > 1"


_WORDS = st.sampled_from(
    [*"()[]{}.,?:!-+*/%<>'\"", "&&", "||", "==", "!=", "<=", ">=", "in", "request", "caller", "time", "n", "tags", "team", "hour",
     "fleet", "budget", "fleet['a'].waiting", "used", "['a']",
     "stream", "exists", "all", "map", "size", "matches", "t", "true", "false", "1", "2.5", "'a'", '"b"', " ", "\n", "//", "0x", "1e", "r'"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80), st.lists(_WORDS, max_size=30).map(" ".join), st.lists(_WORDS, max_size=30).map("".join)
    )
)
def test_whatever_the_text_there_is_a_condition_or_a_fault_and_never_an_exception(text: str) -> None:
    compiled = compile_condition(text)
    if isinstance(compiled, CelCondition):
        compiled.holds(NAMES_NOW)
        assert compiled.troubles == 0 or not compiled.last_trouble.startswith(("TypeError", "RuntimeError", "KeyError"))
    else:
        assert compiled
        assert all(0 <= one.offset <= len(text) for one in compiled)


_NUMBERS = st.sampled_from(
    ["1", "7", "request.n", "request.prompt_tokens", "time.hour", "size(request.tags)", "request.priority"]
)
_TEXTS = st.sampled_from(["'a'", "caller.team", "request.data_class", "string(request.n)", "request.model"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||", "==", "!="]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda part: f"!{part}"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} ? {parts[1]} : {parts[2]})"),
        inner.map(lambda part: f"request.tags.exists(t, t == 'batch' && {part})"),
    )


_QUESTIONS = st.recursive(
    st.one_of(
        st.tuples(_NUMBERS, st.sampled_from(["<", "<=", "==", ">", "!="]), _NUMBERS).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(_TEXTS, st.sampled_from(["==", "<", "!="]), _TEXTS).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(_TEXTS, st.sampled_from(["request.tags", "caller.tags"])).map(lambda parts: f"({' in '.join(parts)})"),
        st.sampled_from(["request.stream", "true", "request.has_tools"]),
    ),
    _grown,
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_QUESTIONS, st.booleans(), st.integers(0, 5), st.lists(st.sampled_from(["batch", "a", ""]), max_size=3))
def test_a_condition_without_a_fault_is_always_answered(text: str, stream: bool, n: int, tags: list[str]) -> None:
    compiled = compile_condition(text)
    if not isinstance(compiled, CelCondition):
        # Nested macros of the generator reuse one name.
        assert {one.message for one in compiled} <= {'"t" is taken; choose another name'}
        return
    names = names_of(some_facts(stream=stream, n=n, tags=tuple(tags)), at=NOON)
    answer = compiled.holds(names)
    assert compiled.troubles == 0
    assert condition(f"!({text})").holds(names) is not answer
