"""YAML text to nodes: what is read, what is refused, and that no text whatever does anything else."""

from __future__ import annotations

from decimal import Decimal

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.documents import source
from app.documents.page import plain
from app.documents.source import MOST_BYTES, MOST_DEPTH, MOST_NODES, read
from tests.documents.good import GOOD


def value_of(text: str) -> object:
    page, findings = read(file="a.yaml", text=text)
    assert page is not None
    assert findings == ()
    return plain(page.root)


def faults_of(text: str) -> list[tuple[int, int, str]]:
    _, findings = read(file="a.yaml", text=text)
    return [(finding.line, finding.column, finding.code) for finding in findings]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("8192", 8192),
        ("-1", -1),
        ("0", 0),
        ("0.25", Decimal("0.25")),
        ("2.00", Decimal("2.00")),
        (".5", Decimal("0.5")),
        ("1e3", Decimal("1e3")),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("text", "text"),
        ('"true"', "true"),
        ("'8192'", "8192"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-11-23", "2026-11-23"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        ("=", "="),
    ],
)
def test_a_plain_value_means_what_both_versions_of_yaml_take_it_for(written: str, value: object) -> None:
    read_back = value_of(f"a: {written}")
    assert read_back == {"a": value}
    assert isinstance(read_back, dict)
    assert type(read_back["a"]) is type(value)


def test_a_price_is_never_a_binary_fraction() -> None:
    price = value_of("a: 0.100000000000000005")
    assert price == {"a": Decimal("0.100000000000000005")}


def test_a_file_that_says_nothing_is_a_page_without_a_root() -> None:
    for text in ("", "\n\n", "# only a comment\n", "---\n"):
        page, findings = read(file="a.yaml", text=text)
        assert page is not None
        assert plain(page.root) is None
        assert findings == ()


def test_a_byte_order_mark_and_windows_line_ends_shift_no_place() -> None:
    page, findings = read(file="a.yaml", text="\ufeffa: 1\r\nb: on\r\n")
    assert page is not None
    assert [(finding.line, finding.column) for finding in findings] == [(2, 4)]


def test_letters_beyond_ascii_count_as_one_column() -> None:
    assert faults_of('a: {"naïve 😀": 1, b: on}') == [(1, 22, "doubtful-truth")]


def test_a_file_over_the_limit_is_not_read() -> None:
    assert faults_of("# " + "x" * MOST_BYTES) == [(0, 0, "too-large")]
    assert faults_of("# " + "x" * (MOST_BYTES - 2)) == []
    assert faults_of("# " + "é" * (MOST_BYTES // 2)) == [(0, 0, "too-large")]


def test_depth_is_bounded_and_bounded_depth_is_no_crash() -> None:
    deep = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert faults_of(deep) == []
    assert faults_of(f"[{deep}]") == [(1, MOST_DEPTH + 1, "too-deep")]
    assert faults_of("[" * 100_000) == [(1, MOST_DEPTH + 1, "too-deep")]
    assert faults_of("- " * 100_000) == [(1, 2 * MOST_DEPTH + 1, "too-deep")]


def test_the_number_of_values_is_bounded() -> None:
    (finding,) = faults_of("[" + "1," * (MOST_NODES + 10) + "]")
    assert finding[2] == "too-large"


def test_an_alias_bomb_is_refused_at_its_first_anchor_and_builds_nothing() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]")
    page, findings = read(file="a.yaml", text="\n".join(lines))
    assert {finding.code for finding in findings} == {"anchor", "alias"}
    assert findings[0].line == 1
    assert page is not None


def test_every_doubtful_word_is_told_once_with_the_line() -> None:
    words = ["yes", "No", "ON", "off", "y", "N"]
    faults = faults_of("\n".join(f"key{number}: {word}" for number, word in enumerate(words)))
    assert faults == [(number + 1, 7, "doubtful-truth") for number in range(len(words))]
    assert faults_of("\n".join(f'key{number}: "{word}"' for number, word in enumerate(words))) == []


def test_of_a_key_given_twice_the_first_stands() -> None:
    page, findings = read(file="a.yaml", text="a: 1\na: 2\n")
    assert page is not None
    assert plain(page.root) == {"a": 1}
    assert [finding.message for finding in findings] == ['the key "a" stands here twice, first in line 1']


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
def test_the_compiled_and_the_plain_library_tell_the_same(loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_LOADER", loader)
    page, findings = read(file="a.yaml", text=GOOD)
    assert page is not None
    assert findings == ()
    assert page.mark(("models", "chat", "rules", 1, "prefer", "weighted", "hosted")).line == 27
    assert faults_of("a: [1, 2") == [(1, 4, "yaml")]
    assert faults_of("a: b: c") == [(1, 5, "yaml")]
    assert faults_of("a: 'x") == [(1, 4, "yaml")]


#: Bits of YAML in any order reach further into the parser than arbitrary letters do.
_BITS = st.sampled_from(
    [
        *(
            "a",
            "b: ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            ": ",
            "\n",
            "  ",
            "\t",
            "'",
            '"',
            "&a ",
            "*a",
            "!t ",
            "|",
            ">",
            "#",
        ),
        *("---\n", "...\n", "? ", "%YAML 1.1\n", "<<: ", "yes", "0.5", "\\", "@", "`", "\r\n", "\r"),
        *("\u2028", "\ud800", "\x00", "é", "😀"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(), st.lists(_BITS, max_size=40).map("".join)))
@example("!<!> a")
@example("%TAG ! tag:x,2000:\n---\n!a b")
@example("? ")
@example("- - - ? - : -")
def test_whatever_the_text_there_is_a_page_or_a_finding_and_never_an_exception(text: str) -> None:
    page, findings = read(file="a.yaml", text=text)
    assert page is not None or findings
    lines = text.count("\n") + 1
    for finding in findings:
        assert finding.file == "a.yaml"
        assert 0 <= finding.line <= lines + 1
        assert finding.message
