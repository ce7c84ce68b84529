"""Rules that decide alike, proven (`app.documents.equivalence`)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.documents.conditions import CelCondition, compile_condition, sample_names
from app.documents.equivalence import match_alike
from app.domain.routing.policy import Rule


def a_rule(when: str | None, name: str = "r") -> Rule:
    condition = None if when is None else compile_condition(when)
    assert condition is None or isinstance(condition, CelCondition), condition
    return Rule(name=name, when=condition, use=("a",))


def alike(one: str, other: str) -> bool:
    return match_alike((a_rule(one),), (a_rule(other),))


ALIKE = [
    ("request.n > 1", "request.n >= 2"),
    ("request.n >= 1", "true || request.stream"),
    ("time.hour < 24", "request.stream || !request.stream"),
    ('request.endpoint == "chat"', 'request.endpoint != "completions"'),
    ('caller.team == "a" || caller.team == "b"', 'caller.team in ["b", "a"]'),
    ("request.stream && request.n > 1", "request.n > 1 && request.stream"),
    ("request.deadline_s > 3600", "request.deadline_s > 3600.0"),
    ('"x" in request.tags && "y" in request.tags', '"y" in request.tags && "x" in request.tags'),
    ('time.date < "2026-12-01"', '!(time.date >= "2026-12-01")'),
    ("request.stream ? request.n > 1 : request.n > 2", "request.n > 2 || (request.stream && request.n == 2)"),
    ("request.priority > -1", "request.priority >= 0"),
    ("1 < request.n", "request.n != 1"),
    ("request.deadline_s < 0", "request.n < 1"),
]
NOT_ALIKE = [
    ("request.n > 1", "request.n > 2"),
    ("request.deadline_s > 1.0", "request.deadline_s >= 2.0"),
    ("request.stream && request.n > 1", "request.stream || request.n > 1"),
    ('caller.team == "a"', 'caller.team != "a"'),
    ('caller.team < "a"', 'caller.team <= "a"'),
    ('"x" in request.tags', '"y" in request.tags'),
    ('time.date < "2026-12-01"', 'time.date <= "2026-12-01"'),
    # Unknown, neither of the two holds; so this is no negation.
    ('fleet["a"].waiting > 3', '!(fleet["a"].waiting <= 3) || request.stream'),
    ('fleet["a"].waiting >= 0', "true || request.stream"),
]
UNPROVEN = [
    'caller.team.startsWith("a")',
    "request.prompt_tokens + 1 > 2",
    "request.prompt_tokens > request.output_tokens_most",
    "request.tags.size() > 1",
    r'caller.team == "\x61"',
    "request.prompt_tokens > 9007199254740993",
    '["a"] == request.tags',
    '"".matches("a") || request.stream',
    " || ".join(f'caller.team == "{n}" && caller.key == "{n}" && caller.cost_centre == "{n}"' for n in range(12)),
    " || ".join(f'"{n}" in request.tags' for n in range(6)),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_what_says_the_same_in_other_words_is_proven_alike(one: str, other: str) -> None:
    assert alike(one, other)


@pytest.mark.parametrize(("one", "other"), NOT_ALIKE)
def test_what_differs_anywhere_is_not_alike(one: str, other: str) -> None:
    assert not alike(one, other)


@pytest.mark.parametrize("text", UNPROVEN)
def test_what_cannot_be_divided_into_cases_is_never_called_alike(text: str) -> None:
    assert not alike(text, text)


def test_rules_that_exclude_each_other_may_change_places() -> None:
    night, day = a_rule("time.hour < 6", "night"), a_rule("time.hour >= 6 && request.stream", "day")
    assert match_alike((night, day), (day, night))
    both = a_rule("time.hour < 7", "both")
    assert not match_alike((night, both), (both, night))
    always = a_rule(None, "always")
    assert not match_alike((night, always), (always, night))
    assert match_alike((always, night), (always, day))


ATOMS = [
    "request.stream",
    "request.n > 1",
    "request.n >= 3",
    "time.hour < 6",
    'caller.team == "a"',
    'caller.team in ["a", "b"]',
    '"x" in request.tags',
]
CONDITIONS = st.recursive(
    st.sampled_from(ATOMS),
    lambda part: st.one_of(
        st.tuples(part, part).map(lambda two: f"({two[0]}) && ({two[1]})"),
        st.tuples(part, part).map(lambda two: f"({two[0]}) || ({two[1]})"),
        part.map(lambda one: f"!({one})"),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(
    one=CONDITIONS,
    other=CONDITIONS,
    stream=st.booleans(),
    n=st.integers(1, 5),
    hour=st.integers(0, 23),
    team=st.sampled_from(["", "a", "b", "c"]),
    tags=st.lists(st.sampled_from(["x", "y"]), max_size=2),
)
def test_conditions_proven_alike_answer_alike(
    one: str, other: str, stream: bool, n: int, hour: int, team: str, tags: list[str]
) -> None:
    names = {room: dict(fields) for room, fields in sample_names()[0].items()}
    names["request"].update({"stream": stream, "n": n, "tags": tags})
    names["time"]["hour"], names["caller"]["team"] = hour, team
    first, second = a_rule(one).when, a_rule(other).when
    assert first is not None
    assert second is not None
    if first.holds(names) != second.holds(names):
        assert not alike(one, other)
    assert alike(one, f"!(!({one}))")
