"""`app.documents.provider_export`: what sellers write becomes exact calls and days, or one line says why not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest

from app.documents.provider_export import read_export
from app.domain.errors import BadRequest
from app.domain.ledger.billing import BilledCall, BilledDay, BilledTokens, Export
from app.domain.money import Nanodollars

DAY = date(2026, 11, 23)
MIDNIGHT_S = 1_795_392_000
COSTS = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": MIDNIGHT_S,
            "end_time": MIDNIGHT_S + 86_400,
            "results": [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": 0.06, "currency": "usd"},
                    "line_item": "gpt-5-mini-2025-08-07, cached input",
                    "project_id": "proj_1",
                },
                {
                    "object": "organization.costs.result",
                    "amount": {"value": 0.0000000015, "currency": "usd"},
                    "line_item": None,
                    "project_id": None,
                },
            ],
        }
    ],
    "has_more": False,
    "next_page": None,
}
USAGE = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": MIDNIGHT_S,
            "end_time": MIDNIGHT_S + 86_400,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 1000,
                    "output_tokens": 500,
                    "input_cached_tokens": 800,
                    "input_uncached_tokens": 200,
                    "num_model_requests": 5,
                    "project_id": None,
                    "model": "gpt-5-mini-2025-08-07",
                    "service_tier": "default",
                }
            ],
        }
    ],
    "has_more": False,
}
ANTHROPIC_COSTS = {
    "data": [
        {
            "starting_at": "2026-11-23T00:00:00Z",
            "ending_at": "2026-11-24T00:00:00Z",
            "results": [
                {
                    "currency": "USD",
                    "amount": "123.78912",
                    "workspace_id": "wrkspc_1",
                    "description": "Claude Haiku Usage - Input Tokens",
                    "cost_type": "tokens",
                    "model": "claude-haiku-4-5",
                    "service_tier": "standard",
                    "token_type": "uncached_input_tokens",
                },
                {"currency": "USD", "amount": "1", "description": "Web Search Usage", "model": None},
            ],
        }
    ],
    "has_more": False,
}
ANTHROPIC_USAGE = {
    "data": [
        {
            "starting_at": "2026-11-23T00:00:00Z",
            "ending_at": "2026-11-24T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 100,
                    "cache_creation": {"ephemeral_1h_input_tokens": 10, "ephemeral_5m_input_tokens": 20},
                    "cache_read_input_tokens": 70,
                    "output_tokens": 30,
                    "server_tool_use": {"web_search_requests": 1},
                    "model": "claude-haiku-4-5",
                    "service_tier": "batch",
                }
            ],
        }
    ],
}


def read(*texts: str) -> Export:
    return read_export((f"file{number}", text.splitlines(keepends=True)) for number, text in enumerate(texts, 1))


def the_day(**named: object) -> BilledDay:
    return BilledDay(day=DAY, **named)  # type: ignore[arg-type]


def test_requests_one_by_one_come_whole() -> None:
    export = read(
        "request_id,attempt_id,time,model,input_tokens,cached_tokens,output_tokens,service_tier,cost\n"
        "req-1,ours/1,2026-11-23T14:05:00+02:00,gpt-5-mini,900,128,100,flex,0.0003962\n"
        ",,1795435200,gpt-5-mini,,,,,-0.5\n"
    )
    first, second = export.calls
    assert first == BilledCall(
        line=2,
        ids=("req-1", "ours/1"),
        at=datetime(2026, 11, 23, 12, 5, tzinfo=UTC),
        model="gpt-5-mini",
        tokens=BilledTokens(prompt=900, cached=128, output=100),
        tier="flex",
        cost=Nanodollars(396_200),
    )
    assert (second.ids, second.tokens, second.tier, second.cost) == ((), BilledTokens(), None, -500_000_000)
    assert second.at == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert (export.unit, export.provider, export.days) == (100, "", ())


def test_requests_as_an_api_returns_them_come_from_json_lines() -> None:
    line = {
        "id": "gen-1",
        "created_at": "2026-11-23T12:00:00Z",
        "model": "openai/gpt-5-mini",
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
        "total_cost": 0.0000012,
    }
    (call,) = read(json.dumps(line)).calls
    assert (call.ids, call.tokens) == (("gen-1",), BilledTokens(prompt=9, cached=4, output=2))
    assert call.cost == 1_200


def test_days_come_from_plain_columns() -> None:
    export = read("day;model;requests;input_tokens;output_tokens;cost\n2026-11-23;gpt-5-mini;5;900.0;100;12\n")
    assert export.days == (
        the_day(
            model="gpt-5-mini",
            requests=5,
            tokens=BilledTokens(prompt=900, output=100),
            cost=Nanodollars(12_000_000_000),
        ),
    )
    assert export.unit == 10_000_000


def test_openais_costs_and_usage_come_from_their_pages_and_together() -> None:
    usage = the_day(
        model="gpt-5-mini-2025-08-07",
        tier="default",
        requests=5,
        tokens=BilledTokens(prompt=1000, cached=800, output=500),
    )
    costs = (
        the_day(model="gpt-5-mini-2025-08-07", project="proj_1", cost=Nanodollars(60_000_000)),
        the_day(model=None, cost=Nanodollars(2)),
    )
    export = read(json.dumps(COSTS), json.dumps(USAGE, indent=2))
    assert export.days == (*costs, usage)
    assert (export.provider, export.unit) == ("openai", 1)
    assert (export.has_money, export.has_tokens) == (True, True)
    assert read(json.dumps(USAGE)).has_money is False
    assert read(json.dumps(COSTS)).has_tokens is False


def test_anthropics_costs_are_cents_and_its_cached_tokens_stand_beside_the_input() -> None:
    export = read(json.dumps(ANTHROPIC_COSTS), json.dumps(ANTHROPIC_USAGE))
    tokens, search, usage = export.days
    assert (tokens.model, tokens.cost, tokens.project) == ("claude-haiku-4-5", 1_237_891_200, "wrkspc_1")
    assert (search.model, search.cost) == ("Web Search Usage", 10_000_000)
    assert usage.tokens == BilledTokens(prompt=200, cached=70, cache_write=30, output=30)
    assert (usage.tier, export.provider) == ("batch", "anthropic")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour,size\nred,5\n", r"file1:2: this is no export .*columns here: colour, size.*Understood are requests"),
        ("time,model\n2026-11-23,a\n", "no export that is understood"),
        ("request_id,time,model\na,2026-11-23,b\n", "no export that is understood"),
        ("request_id,time,output_tokens\na,2026-11-23,5\n", "file1:2: requests without a cost"),
        ("request_id,time,cost\na,2026-11-23,1\nb,2026-11-23,\n", "file1:3: the request has no cost"),
        ("request_id,time,cost\na,,1\n", "file1:2: the line has no time"),
        ("day,cost\n2026-11-23,1\n23.11.2026,1\n", "file1:3: '23.11.2026' is no time"),
        ("day,cost\n2026-02-30,1\n", "is no time"),
        ("day,cost\n99999999999999999999,1\n", "is no time"),
        ("day,cost\n2026-11-23,$1\n", r"file1:2: '\$1' is no amount"),
        ('day,cost\n2026-11-23,"1,5"\n', "no commas"),
        ("day,cost\n2026-11-23,inf\n", "is no amount"),
        ("day,cost\n2026-11-23,1_000\n", "is no amount"),
        ("day,cost\n2026-11-23,1e30\n", "is no amount of money"),
        ("day,cost,currency\n2026-11-23,1,EUR\n", "file1:2: the money is in 'EUR': export it in USD"),
        ("day,output_tokens\n2026-11-23,1.5\n", "is no count"),
        ("day,output_tokens\n2026-11-23,-1\n", "is no count"),
        ("day,output_tokens\n2026-11-23,1e99\n", "is no count"),
        ("day,input_tokens,cached_tokens\n2026-11-23,5,6\n", "call that column uncached_input_tokens"),
        ("start_time,end_time,cost\n2026-11-01,2026-12-01,5\n", "longer than a UTC day"),
    ],
)
def test_what_cannot_be_true_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        read(text)


def test_files_that_do_not_belong_together_are_refused() -> None:
    requests = "request_id,time,cost\na,2026-11-23,1\n"
    days = "day,cost\n2026-11-23,1\n"
    with pytest.raises(BadRequest, match="one file names requests and another days"):
        read(requests, days)
    with pytest.raises(BadRequest, match="different sellers"):
        read(json.dumps(COSTS), json.dumps(ANTHROPIC_COSTS))
    assert len(read(requests, requests.replace("a,", "b,")).calls) == 2


def test_an_hour_of_a_day_is_of_that_day_and_a_whole_day_ends_at_midnight() -> None:
    export = read(
        "start_time,end_time,cost\n"
        "2026-11-23T23:00:00Z,2026-11-24T00:00:00Z,1\n"
        "2026-11-23T00:00:00Z,2026-11-24T00:00:00Z,1\n"
    )
    assert {line.day for line in export.days} == {DAY}
