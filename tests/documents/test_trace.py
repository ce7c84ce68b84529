"""`app.documents.trace`: every way a trace is written, and every way it is broken."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from app.documents.trace import Asking, Trace, read_trace
from app.domain.errors import BadRequest
from app.domain.routing.facts import Endpoint

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:50.9951690,396,109\r\n"
    "2023-11-16 18:15:51.2224670,879,55"
)
BEGAN = datetime(2023, 11, 16, 18, 15, 46, 680_590, tzinfo=UTC)
OURS = "timestamp,prompt_tokens,completion_tokens"


def read(text: str, *, most: int | None = None, **asking: str) -> Trace:
    return read_trace("t.csv", io.StringIO(text, newline=""), asking=Asking(**{"model": "chat", **asking}), most=most)


def tokens(trace: Trace) -> list[tuple[float, int, int]]:
    return [(round(each.at_s, 6), each.prompt_tokens, each.output_tokens) for each in trace.arrivals]


def test_azures_traces_are_read_as_they_are() -> None:
    trace = read(AZURE)
    assert tokens(trace) == [(0.0, 374, 44), (4.314579, 396, 109), (4.541877, 879, 55)]
    assert trace.began_us == int(BEGAN.timestamp()) * 1_000_000 + 680_590
    assert (trace.left_out, list(trace.ignored)) == (0, [])
    facts = trace.arrivals[0].facts
    assert (facts.model, facts.stream, facts.prompt_tokens, facts.endpoint) == ("chat", True, 374, Endpoint.CHAT)
    assert facts.caller.team == "nobody"
    assert len({each.facts.request_id for each in trace.arrivals}) == 3


@pytest.mark.parametrize(
    "text",
    [
        AZURE.replace("\r\n", "\n") + "\n",
        AZURE.replace(",", ";"),
        AZURE.replace(",", "\t"),
        "\n\n" + AZURE.replace("\r\n", "\r\n\r\n") + "\r\n\r\n",
        AZURE.replace("TIMESTAMP,ContextTokens,GeneratedTokens", "Timestamp,Request tokens,Response tokens"),
        AZURE.replace("TIMESTAMP,ContextTokens,GeneratedTokens", OURS),
        "\n".join(
            json.dumps({"timestamp": at, "prompt_tokens": int(prompt), "completion_tokens": int(output)})
            for at, prompt, output in (line.split(",") for line in AZURE.split("\r\n")[1:])
        ),
    ],
    ids=["line feeds", "semicolons", "tabs", "empty lines", "BurstGPT's columns", "our columns", "JSON lines"],
)
def test_the_same_requests_are_the_same_however_they_are_written(text: str) -> None:
    assert tokens(read(text)) == tokens(read(AZURE))


def test_a_byte_order_mark_is_what_files_are_opened_without() -> None:
    raw = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + AZURE.encode()), encoding="utf-8-sig", newline="")
    assert tokens(read_trace("t.csv", raw, asking=Asking(model="chat"))) == tokens(read(AZURE))


@pytest.mark.parametrize(
    ("written", "at_s"),
    [("0,1.5", 1.5), ("1700000000,1700000003.25", 3.25), ("2026-11-28T12:00:00Z,2026-11-28T14:00:01+02:00", 1.0)],
)
def test_times_are_seconds_or_moments(written: str, at_s: float) -> None:
    first, second = written.split(",")
    assert tokens(read(f"{OURS}\n{first},1,1\n{second},1,1"))[1][0] == at_s


def test_who_asked_is_taken_from_the_trace_where_it_says_it() -> None:
    text = (
        "time,model,team,key_id,cost centre,session,tags,prompt tokens,output tokens,region\n"
        "0,small,legal,k1,cc-9,talk-1,a; b,10,5,eu\n1,,,,,,,10,5,eu\n"
    )
    trace = read_trace("t.csv", io.StringIO(text), asking=Asking(team="sales"), most=1)
    facts = trace.arrivals[0].facts
    assert (facts.model, facts.session, facts.tags) == ("small", "talk-1", ("a", "b"))
    assert (facts.caller.team, facts.caller.key_id, facts.caller.cost_centre) == ("legal", "k1", "cc-9")
    assert list(trace.ignored) == ["region"]
    second = read(text, model="large", team="sales").arrivals[1].facts
    assert (second.model, second.caller.team, second.tags) == ("large", "sales", ())


def test_json_lines_may_have_their_members_in_any_order_and_tags_as_a_list() -> None:
    rows: list[dict[str, object]] = [
        {"at": 0, "prompt_tokens": 3, "completion_tokens": 4, "tags": ["x", "y"], "team": None, "n": [1]},
        {"completion_tokens": 6, "team": "legal", "prompt_tokens": 5, "at": 2.5},
    ]
    trace = read("\n".join(map(json.dumps, rows)))
    assert tokens(trace) == [(0.0, 3, 4), (2.5, 5, 6)]
    assert [each.facts.tags for each in trace.arrivals] == [("x", "y"), ()]
    assert [each.facts.caller.team for each in trace.arrivals] == ["nobody", "legal"]
    assert list(trace.ignored) == ["n"]


def test_only_the_beginning_is_read_where_that_is_asked_for() -> None:
    assert len(read(AZURE, most=2).arrivals) == 2
    assert len(read(AZURE + "\r\nnonsense", most=3).arrivals) == 3


def test_requests_without_an_output_token_are_left_out_and_counted() -> None:
    trace = read(f"{OURS}\n0,5,0\n1,5,7\n2,5,0\n")
    assert (tokens(trace), trace.left_out) == ([(1.0, 5, 7)], 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.csv: the file is empty; understood is CSV with a head"),
        ("\r\n  \n", "t.csv: the file is empty"),
        (f"{OURS}\n", "t.csv: it holds no request: there is nothing to replay"),
        (f"{OURS}\n0,5,0\n", "t.csv: none of its 1 requests has an output token"),
        ("timestamp,prompt_tokens\n0,5\n", "t.csv:1: no column has its output tokens (completion_tokens) (columns"),
        ("prompt_tokens,completion_tokens\n5,5\n", "t.csv:1: no column has the time of each request (timestamp)"),
        ("\n\n1,2,3\n", "t.csv:3: no column has the time of each request (timestamp) (columns here: 1, 2, 3)"),
        (f"{OURS},input_tokens\n0,5,5,5\n", "t.csv:1: the columns 'prompt_tokens' and 'input_tokens' mean the same"),
        (f"{OURS}\n0,5,5\n1,5\n", "t.csv:3: 2 cells under 3 columns: is the line whole?"),
        (f"{OURS}\n0,5,5,5\n", "t.csv:2: 4 cells under 3 columns"),
        (f'{OURS}\n0,5,"5\n', "t.csv:2: no CSV (unexpected end of data)"),
        (f"{OURS}\n0,-5,5\n", "t.csv:2: -5 prompt tokens cannot be"),
        (f"{OURS}\n0,0,5\n", "t.csv:2: 0 prompt tokens cannot be"),
        (f"{OURS}\n0,5,-1\n", "t.csv:2: -1 output tokens cannot be"),
        (f"{OURS}\n0,5,100000001\n", "t.csv:2: 100000001 output tokens cannot be"),
        (f"{OURS}\n0,5.5,5\n", "t.csv:2: '5.5' is no number of tokens: write digits alone"),
        (f"{OURS}\n0,,5\n", "t.csv:2: '' is no number of tokens"),
        (f"{OURS}\n0,٣,5\n", "t.csv:2: '٣' is no number of tokens"),
        (f"{OURS}\n0,{'9' * 40},5\n", "is no number of tokens"),
        (f"{OURS}\n2,5,5\n1,5,5\n", "t.csv:3: its time is before that of the request above it: sort the file by time"),
        (f"{OURS}\n-1,5,5\n", "t.csv:2: '-1' is no time in seconds since 1970"),
        (f"{OURS}\n1700000000000,5,5\n", "'1700000000000' is no time in seconds since 1970, nor since the trace began"),
        ('{"time":' + "9" * 400 + ',"prompt_tokens":5,"completion_tokens":5}', "9 is no time in seconds since 1970"),
        (f"{OURS}\nyesterday,5,5\n", "t.csv:2: 'yesterday' is no time: write 2026-11-23T14:05:00.25Z"),
        (f"{OURS}\n,5,5\n", "t.csv:2: '' is no time"),
        (f"{OURS}\nnan,5,5\n", "t.csv:2: 'nan' is no time"),
        ('{"at": 0, "prompt_tokens": 5', "t.csv:1: no JSON"),
        ('{"at": 0, "prompt_tokens": 5}', "t.csv:1: no column has its output tokens"),
        ('{"at": 0, "prompt_tokens": 5, "output_tokens": 5}\n[]', "t.csv:2: an object was expected"),
        ("[1, 2]", "t.csv:1: an object was expected"),
        ("[" * 100_000, "t.csv:1: no JSON"),
        ('{"at": true, "prompt_tokens": 5, "output_tokens": 5}', "t.csv:1: true is no time"),
        ('{"at": NaN, "prompt_tokens": 5, "output_tokens": 5}', "t.csv:1: NaN is no time"),
        ('{"at": 0, "prompt_tokens": 5.0, "output_tokens": 5}', "t.csv:1: 5.0 is no number of tokens"),
        ('{"at": 0, "prompt_tokens": true, "output_tokens": 5}', "t.csv:1: true is no number of tokens"),
        ('{"at": 0, "prompt_tokens": null, "output_tokens": 5}', "t.csv:1: null is no number of tokens"),
        ('{"at": 0, "prompt_tokens": 5, "output_tokens": 5, "team": {}}', "t.csv:1: team must be text, not {}"),
        ('{"at": 0, "prompt_tokens": 5, "output_tokens": 5, "tags": [1]}', "t.csv:1: tags must be a list of texts"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(text)
    assert said in str(refused.value)


def mistakes(text: str, *, most: int | None = None, asking: Asking | None = None) -> list[str]:
    with pytest.raises(BadRequest) as refused:
        read_trace("t.csv", io.StringIO(text, newline=""), asking=asking or Asking(model="chat"), most=most)
    return str(refused.value).splitlines()


def test_every_mistake_is_told_with_its_line_up_to_ten() -> None:
    some = f"{OURS}\n0,5,5\nnoon,5,5\n1,five,5\n2,5\n0,5,5\n3,5,5\n"
    assert [line.split(": ")[0] for line in mistakes(some)] == ["t.csv:3", "t.csv:4", "t.csv:5", "t.csv:6"]
    many = f"{OURS}\n" + "0,-5,5\n" * 1_234
    told = mistakes(many)
    assert [line.split(": ")[0] for line in told[:-1]] == [f"t.csv:{line}" for line in range(2, 12)]
    assert told[-1] == "and 1,224 more"
    assert len(mistakes(many, most=10)) == 10
    objects = [
        '{"at": 0, "prompt_tokens": 5, "output_tokens": 5}',
        "[]",
        '{"at": 1, "prompt_tokens": 5}',
        "{",
        '{"at": 1, "prompt_tokens": 5, "output_tokens": 5, "team": {}}',
    ]
    assert [line.split(": ")[0] for line in mistakes("\n".join(objects))] == [f"t.csv:{line}" for line in (2, 3, 4, 5)]


def test_what_makes_the_rest_unreadable_is_the_last_that_is_told() -> None:
    assert [line[:7] for line in mistakes(f'{OURS}\n0,x,5\n0,5,"5\n0,x,5\n')] == ["t.csv:2", "t.csv:4"]
    named = f"{OURS},model\n0,x,5,chat\n0,5,5,\n0,5,5,chat\n1,-1,5,chat\n"
    assert [line[:7] for line in mistakes(named, asking=Asking())] == ["t.csv:2", "t.csv:3", "t.csv:5"]
    unnamed = mistakes(f"{OURS}\n0,5,5\n1,x,5\n", asking=Asking())
    assert unnamed == ["t.csv:2: it names no model: say with --model which one is asked for"]


def test_a_request_that_names_no_model_needs_one() -> None:
    with pytest.raises(BadRequest, match=r"t.csv:2: it names no model: say with --model which one is asked for"):
        read_trace("t.csv", io.StringIO(f"{OURS}\n0,5,5\n"), asking=Asking())
