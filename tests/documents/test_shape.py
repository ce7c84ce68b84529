"""Wrong shapes are told at the very node, in plain words."""

from __future__ import annotations

from app.documents.policy import WrittenModel, WrittenTarget
from app.documents.shape import shaped, shaped_word
from app.documents.source import read
from app.documents.words import TargetName


def model_faults(text: str) -> list[tuple[int, int, str]]:
    page, findings = read(file="a.yaml", text=text)
    assert page is not None
    assert findings == ()
    written, faults = shaped(page, (), WrittenModel)
    assert written is None
    return [(fault.line, fault.column, fault.message) for fault in faults]


def test_every_fault_of_one_entry_is_told() -> None:
    text = "rules:\n- {name: a, use: [x], wen: 'y'}\n- {name: 7, use: [X, 8]}\nattempts: many\n"
    assert model_faults(text) == [
        (2, 23, 'unknown key "wen" in rules[0]'),
        (3, 10, "rules[1].name: it must be text, not a whole number"),
        (
            3,
            19,
            "rules[1].use[0]: a name is small letters, digits, `.`, `_` and `-`, and begins with a letter or digit",
        ),
        (3, 22, "rules[1].use[1]: it must be text, not a whole number"),
        (4, 11, "attempts: it must be a whole number, not text"),
    ]


def test_a_misspelt_key_is_not_told_as_missing_too() -> None:
    assert model_faults("rulez:\n- {name: a, use: [x]}\n") == [(1, 1, 'unknown key "rulez" in the file')]
    assert len(model_faults("rulez: 1\nattempts: 99\n")) == 2
    assert [message for _, _, message in model_faults("other: 1\n")] == [
        '"rules" is missing in the file',
        'unknown key "other" in the file',
    ]


def test_the_keys_of_a_mapping_are_checked_like_values() -> None:
    faults = model_faults("rules:\n- {name: a, use: [x], prefer: {weighted: {X: 1, weighted: -1, x: 1}}}\n")
    assert [(line, column) for line, column, _ in faults] == [(2, 43), (2, 59)]
    assert 'the name "X"' in faults[0][2]
    assert "rules[0].prefer.weighted.weighted: -1 is out of range" in faults[1][2]


def test_a_preference_of_the_wrong_kind_is_told_with_the_words_there_are() -> None:
    for written in ("7", "[cheapest]", "slowest"):
        ((line, _, message),) = model_faults(f"rules:\n- {{name: a, use: [x], prefer: {written}}}\n")
        assert line == 2
        assert message.startswith("rules[0].prefer cannot be")


def test_a_key_without_a_value_is_no_way_to_leave_it_out() -> None:
    for key in ("when", "prefer", "wait", "spill"):
        ((line, column, message),) = model_faults(f"rules:\n- name: a\n  use: [x]\n  {key}:\n")
        assert (line, column) == (4, len(key) + 4)
        assert message == f"rules[0].{key}: it is empty; write a value, or remove the key"


def test_keys_that_look_like_our_own_marks_are_unknown_keys_like_any_other() -> None:
    for key in ("<word>", "<mapping>", "<", "[key]", "prefer"):
        faults = model_faults(
            f"rules:\n- {{name: a, use: [x], prefer: {{weighted: {{x: 1}}, '{key}': 1}}}}\n'{key}': 1\n"
        )
        assert [(line, column) for line, column, _ in faults] == [(2, 50), (3, 1)]
        assert all(f'unknown key "{key}"' in message for _, _, message in faults)


def test_a_long_name_is_cut_in_the_telling() -> None:
    ((_, _, message),) = model_faults(f"rules:\n- {{name: a, use: [x]}}\n{'k' * 300}: 1\n")
    assert len(message) < 100


def test_a_written_secret_is_not_repeated() -> None:
    page, _ = read(file="a.yaml", text="{hosting: managed, model: m, can: [chat], credential: [sk-secret]}")
    assert page is not None
    _, faults = shaped(page, (), WrittenTarget)
    assert len(faults) == 1
    assert "sk-secret" not in str(faults[0])


def test_a_name_is_told_where_its_key_stands() -> None:
    page, _ = read(file="a.yaml", text="targets:\n  -bad: 1\n")
    assert page is not None
    (fault,) = shaped_word(page, ("targets", "-bad"), "-bad", TargetName)
    assert (fault.line, fault.column, fault.code) == (2, 3, "name")
    assert shaped_word(page, ("targets", "-bad"), "good", TargetName) == ()
