"""`app.documents.export_rows`: every form becomes the same flat rows, and what cannot be read is named by its line."""

from __future__ import annotations

import itertools
import json

import pytest

from app.documents.export_rows import Row, read_rows
from app.domain.errors import BadRequest

OBJECTS = [{"request_id": "a", "cost": 0.1}, {"request_id": "b", "usage": {"prompt_tokens": 5}, "tags": [1], "x": None}]
FLAT = [{"request_id": "a", "cost": "0.1"}, {"request_id": "b", "usage_prompt_tokens": "5"}]


def rows(text: str) -> list[Row]:
    return list(read_rows("export", text.splitlines(keepends=True)))


def values(text: str) -> list[dict[str, str]]:
    return [dict(row.values) for row in rows(text)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_comes_by_its_columns_whatever_stands_between_them(delimiter: str) -> None:
    lines = ["Request ID,Cost (USD)", '"a,b", 0.10 ', "", "c,1e-7"]
    text = "\n".join(lines).replace(",", delimiter).replace(f"a{delimiter}b", "a,b")
    found = rows(text)
    assert [dict(row.values) for row in found] == [
        {"request_id": "a,b", "cost_usd": "0.10"},
        {"request_id": "c", "cost_usd": "1e-7"},
    ]
    assert [(row.place, row.line) for row in found] == [("export:2", 2), ("export:4", 4)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(OBJECTS),
        json.dumps(OBJECTS, indent=1),
        "\n\n".join(map(json.dumps, OBJECTS)),
        json.dumps({"data": OBJECTS}),
    ],
    ids=["a list", "a list over many lines", "one a line", "a page"],
)
def test_json_comes_flat_in_any_of_its_forms(text: str) -> None:
    assert values(text) == FLAT


def test_numbers_are_the_text_that_was_written_and_never_a_float() -> None:
    (row,) = values('{"cost": 0.1000000000000000055511151231257827, "n": 12345678901234567890123}')
    assert row == {"cost": "0.1000000000000000055511151231257827", "n": "12345678901234567890123"}


def test_results_of_a_bucket_carry_its_times_and_say_whose_they_are() -> None:
    page = {
        "data": [
            {"object": "bucket", "start_time": 1, "end_time": 2, "results": [{"object": "x", "amount": {"value": 3}}]},
            {"starting_at": "2026-11-23T00:00:00Z", "results": [{"cache_creation": {"ephemeral_1h_input_tokens": 4}}]},
            {"start_time": 5, "results": []},
        ],
        "has_more": False,
    }
    first, second = rows(json.dumps(page))
    assert first.values == {"start_time": "1", "end_time": "2", "object": "x", "amount_value": "3"}
    assert (first.provider, first.place) == ("openai", "export:1: data[0].results[0]")
    assert second.values["cache_creation_ephemeral_1h_input_tokens"] == "4"
    assert second.provider == "anthropic"


def test_pages_one_after_the_other_are_whole_when_the_last_one_says_so() -> None:
    first, last = ({"data": [{"a": each}], "has_more": each == 1} for each in (1, 2))
    assert values(f"{json.dumps(first)}\n{json.dumps(last)}") == [{"a": "1"}, {"a": "2"}]
    assert values(json.dumps([first, last])) == [{"a": "1"}, {"a": "2"}]
    with pytest.raises(BadRequest, match="export: its last page says that there are more"):
        rows(f"{json.dumps(last)}\n{json.dumps(first)}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "export: the file is empty"),
        ("\n \n", "export: the file is empty"),
        ("a,b\n1,2\n1\n", "export:3: 1 cells under 2 columns"),
        ("a,A\n1,2\n", "export:1: the column 'a' stands there twice"),
        ('a,b\n"x,1\n', "export:2: no CSV"),
        ('{"a": 1}\n{"a": \n', "export:2: no JSON"),
        ('[{"a": 1},\n {"a" 2}]', "export:2: no JSON"),
        ('[{"a": 1}, 7]', r"export:1: \[1\]: an object was expected"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"data": [{"results": [7]}]}', r"export:1: data\[0\].results\[0\]: an object was expected"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(text: str, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        rows(text)


def test_a_file_without_end_is_stopped() -> None:
    lines = itertools.chain(["a\n"], itertools.repeat("1\n"))
    with pytest.raises(BadRequest, match="more than 3 lines: export a part of the period"):
        list(read_rows("export", lines, most=3))
    assert len(list(read_rows("export", itertools.islice(lines, 3), most=3))) == 2
