"""What is claimed of a condition is so for every request."""

# ruff: noqa: E501 - tables read by their columns

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.documents.condition_claims import domain_of, ways_of, written
from app.documents.condition_logic import Claim, Effort, Formula, denied, impossible
from app.documents.condition_parser import parse
from app.documents.condition_spans import Span
from app.documents.conditions import CelCondition, compile_condition

Names = dict[str, dict[str, object]]


def condition(text: str) -> CelCondition:
    compiled = compile_condition(text)
    assert isinstance(compiled, CelCondition), compiled
    return compiled


def is_never(text: str) -> bool:
    return impossible((ways_of(condition(text).term, model="chat").true,), effort=Effort(50_000))


def is_always(text: str) -> bool:
    return impossible((denied(ways_of(condition(text).term, model="chat").true),), effort=Effort(50_000))


@pytest.mark.parametrize(
    "text",
    [
        'caller.team == "a" && caller.team == "b"',
        'caller.team == "a" && caller.team in ["b", "c"]',
        'request.endpoint == "embeddings"',
        'request.endpoint != "chat" && request.endpoint != "completions"',
        'request.model == "chatty"',
        "time.hour > 23 || time.hour < 0",
        "time.hour >= 22 && time.hour < 6",
        "time.weekday == 0",
        "time.weekday in [0, 8]",
        "time.minute == 0.5",
        "request.n < 1",
        "request.n > 4 && !(request.n >= 5)",
        "2 > request.n && request.n != 1",
        "request.prompt_tokens == -1",
        "size(request.tags) < 0 || request.tags.size() == -2",
        "request.stream && !request.stream",
        "request.stream == request.has_tools && request.stream && !request.has_tools",
        "(request.stream ? request.n > 2 : request.n > 3) && request.n == 2",
        "request.deadline_s > 10 && request.deadline_s < 9.5",
        'time.date > "2026-12-01" && time.date < "2026-11-01"',
        'caller.team.startsWith("a") && !(caller.team . startsWith(("a")))',
        "request.prompt_tokens + request.n > 9 && request.prompt_tokens + request.n < 9",
        'fleet["a"].circuit == "opened"',
        "fleet['a'].waiting > 3 && fleet[\"a\"].waiting < 3",
        'budget["b"].used < 0.0 || budget["b"].days_left > 31',
        "request.n in []",
        "request.n == 0x0",
    ],
)
def test_a_condition_that_is_never_true_is_known(text: str) -> None:
    assert is_never(text)
    assert not is_always(text)
    assert is_never(f"({text}) && request.has_images")
    assert is_always(f"!({text})") is ("fleet" not in text and "budget" not in text and "+" not in text)


@pytest.mark.parametrize(
    "text",
    [
        "request.stream || !request.stream",
        "time.hour >= 0 && time.hour <= 23",
        "time.weekday in [1, 2, 3, 4, 5, 6, 7]",
        'request.endpoint in ["chat", "completions"]',
        'request.model == "chat"',
        "request.n >= 1",
        'caller.team != "a" || caller.team != "b"',
        "request.n > 2 || request.n < 3",
        "request.n == 1 || request.n > 1 || fleet['a'].waiting > 2",
        'request.tags.exists(t, t == "a") || !request.tags.exists(t, t == "a")',
        "caller.team == caller.key || caller.team != caller.key",
    ],
)
def test_a_condition_that_is_always_true_is_known(text: str) -> None:
    assert is_always(text)
    assert is_never(f"!({text})")


@pytest.mark.parametrize(
    "text",
    [
        "fleet['a'].waiting >= 0",
        "fleet['a'].waiting > 3 || fleet['a'].waiting <= 3",
        "!(fleet['a'].waiting > 3) || fleet['a'].waiting > 3",
        "budget['b'].days_left >= 1",
        "request.tags[0] == 'a' || request.tags[0] != 'a'",
        "request.prompt_tokens / request.n >= 0 || request.prompt_tokens / request.n < 0",
        "request.tags.exists(t, request.tags[3] == t) || !request.tags.exists(t, request.tags[3] == t)",
        "request.deadline_s / 2.0 > 1.0 || request.deadline_s / 2.0 <= 1.0",
        "9007199254740993 > request.n",
    ],
)
def test_what_may_not_be_answerable_is_not_called_always_true(text: str) -> None:
    assert not is_always(text)
    assert not is_never(text)


def test_the_same_question_has_one_spelling() -> None:
    one = "caller . tags.filter( t,(t != 'a') && !(t == 'b') )[ 0 ] == (request.stream ? \"c\" : '''d''')"
    other = 'caller.tags.filter(t, t != "a" && !(t == "b"))[0] == (request.stream ? "c" : "d")'
    assert written(parse(one)) == written(parse(other))
    assert written(parse("-request.n in [1]")) == "(-(request.n) in [1])"
    assert written(parse("request.n - 1 - 1 > 0")) != written(parse("request.n - (1 - 1) > 0"))


def test_a_part_with_too_many_claims_is_taken_as_a_whole() -> None:
    deep = "request.n > 1"
    for _ in range(12):
        deep = f"(({deep}) == (request.stream))"
    ways = ways_of(condition(deep).term, model="chat")
    assert ways.true.size + ways.false.size <= 400
    assert is_always(f"{deep} || !{deep}")
    assert domain_of(parse("caller.tags"), model="chat") is None


_FIELDS: Mapping[str, st.SearchStrategy[object]] = {
    "request.n": st.integers(1, 4),
    "request.prompt_tokens": st.integers(0, 4),
    "request.priority": st.integers(-3, 3),
    "request.deadline_s": st.sampled_from([-1.0, 0.0, 1.0, 1.5, 2.0, 3.0]),
    "request.stream": st.booleans(),
    "request.has_tools": st.booleans(),
    "request.endpoint": st.sampled_from(["chat", "completions"]),
    "request.model": st.just("chat"),
    "request.data_class": st.sampled_from(["", "a", "b"]),
    "caller.team": st.sampled_from(["", "a", "b"]),
    "time.hour": st.integers(0, 23),
    "fleet['x'].waiting": st.integers(0, 4) | st.none(),
    "fleet['x'].saturation": st.sampled_from([None, 0.0, 0.5, 1.5, 3.0]),
    "fleet['x'].circuit": st.sampled_from([None, "closed", "open", "half_open"]),
    "budget['y'].days_left": st.integers(1, 4) | st.none(),
}
_TAGS = st.lists(st.sampled_from(["a", "b", ""]), max_size=2)


@st.composite
def some_names(draw: st.DrawFn) -> Names:
    """As a request, a fleet and budgets fill them in; None stands for a signal that is not known."""
    drawn = {name: draw(values) for name, values in _FIELDS.items()}
    names: Names = {"request": {"tags": draw(_TAGS)}, "caller": {}, "time": {}, "fleet": {"x": {}}, "budget": {"y": {}}}
    for name, value in drawn.items():
        place, _, field = name.rpartition(".")
        room, _, of = place.partition("['")
        if of and value is not None:
            names[room][of[0]][field] = value  # type: ignore[index]
        elif not of:
            names[room][field] = value
    return names


_INTS = st.sampled_from(
    [name for name in _FIELDS if name.endswith((".n", "_tokens", "priority", "hour", "waiting", "_left"))]
)
_DOUBLES = st.sampled_from(["request.deadline_s", "fleet['x'].saturation"])
_NUMBERS = st.one_of(
    _INTS,
    _DOUBLES,
    st.just("size(request.tags)"),
    st.tuples(_INTS, st.sampled_from("+-*/%"), _INTS).map(lambda parts: f"({' '.join(parts)})"),
    st.tuples(_DOUBLES, st.sampled_from("+-*/"), _DOUBLES).map(lambda parts: f"({' '.join(parts)})"),
    _INTS.map(lambda name: f"(-{name})"),
)
_CONSTANTS = st.sampled_from(["0", "1", "2", "-1", "3", "1.5", "2.0", "0.0", "0x3", "9007199254740993"])
_TEXTS = st.sampled_from(
    ["request.endpoint", "request.model", "request.data_class", "caller.team", "fleet['x'].circuit", "request.tags[0]"]
)
_WORDS = st.sampled_from(["'a'", '"b"', "''", "'chat'", "'open'", "r'closed'", "'\\x61'"])
_ORDER = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_ASKED = st.one_of(
    st.sampled_from(["request.stream", "request.has_tools", "true", "false", "'a' in request.tags"]),
    st.tuples(_NUMBERS, _ORDER, _CONSTANTS | _NUMBERS).map(" ".join),
    st.tuples(_CONSTANTS, _ORDER, _NUMBERS).map(" ".join),
    st.tuples(_TEXTS, _ORDER, _WORDS | _TEXTS).map(" ".join),
    st.tuples(_WORDS, _ORDER, _TEXTS).map(" ".join),
    st.tuples(_TEXTS, st.lists(_WORDS, max_size=3)).map(lambda parts: f"{parts[0]} in [{', '.join(parts[1])}]"),
    st.tuples(_INTS, st.lists(st.sampled_from(["1", "2", "0"]), max_size=3)).map(lambda parts: f"{parts[0]} in [{', '.join(parts[1])}]"),
    st.tuples(_TEXTS, _WORDS).map(lambda parts: f"request.tags.exists(t, t == {parts[1]} && {parts[0]} != t)"),
).map(lambda text: f"({text})")  # fmt: skip
CONDITIONS = st.recursive(
    _ASKED,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||", "&&", "||", "==", "!="]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda part: f"!{part}"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} ? {parts[1]} : {parts[2]})"),
    ),
    max_leaves=5,
)  # fmt: skip


def claims_of(text: str, names: Names) -> list[Formula]:
    """What the names say, as claims: every field that the condition reads, and whether it is known."""
    claims: list[Formula] = []
    for place in condition(text).places:
        term = parse(text[place.begins : place.ends])
        domain = domain_of(term, model="chat")
        fields = names[place.room][place.of] if place.of else names[place.room]
        assert isinstance(fields, dict)
        if place.of:
            truth = Span(only=frozenset({False, True}))
            known = frozenset({place.field in fields})
            claims.append(Claim(f"is known: {written(term)}", truth, "in", known))
        if place.field in fields and domain is not None:
            claims.append(Claim(written(term), domain, "in", frozenset({fields[place.field]})))
    return claims


@settings(max_examples=600, deadline=None)
@given(CONDITIONS, some_names())
def test_what_a_condition_says_of_any_request_is_never_called_impossible(text: str, names: Names) -> None:
    compiled = compile_condition(text)
    if not isinstance(compiled, CelCondition):
        return  # A text compared with a number, a division by a zero that is written.
    ways = ways_of(compiled.term, model="chat")
    here = claims_of(text, names)
    so = ways.true if compiled.holds(names) else denied(ways.true)
    assert not impossible((*here, so), effort=Effort(50_000)), (text, names)
    assert not impossible(here, effort=Effort(50_000)), "the names themselves are possible"
    wrong = condition(f"!({text})").holds(names)
    assert not impossible((*here, ways.false if wrong else denied(ways.false)), effort=Effort(50_000))


@settings(max_examples=150, deadline=None)
@given(CONDITIONS, CONDITIONS, st.lists(some_names(), min_size=8, max_size=8))
def test_a_condition_called_constant_is_so_for_every_request(one: str, other: str, samples: list[Names]) -> None:
    text = f"{one} && !({one} && {other}) || {other} && {one}"
    compiled = compile_condition(text)
    if isinstance(compiled, CelCondition):
        answers = {compiled.holds(names) for names in samples}
        assert not (is_never(text) and True in answers)
        assert not (is_always(text) and False in answers)
