"""The surface: what it answers to what it is asked, with ASGI between and without."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from app.api.cold import Readiness
from app.api.problems import RETRY_SPREAD_S
from app.api.reply import AsgiReply, Heads
from app.domain.errors import FaultKind, ModelUnknown
from app.domain.money import Nanodollars
from app.domain.routing.policy import Rule
from app.domain.target import Hosting
from app.ports import Opening
from app.providers.scripted import Script
from tests.api.surface import HELLO, ServedSurface, Surface
from tests.flows.house import a_house
from tests.makers import a_policy, a_route, a_target

SurfaceOf = type[Surface]


@pytest.fixture(params=[Surface, ServedSurface], ids=["asgi", "direct"])
def surface_of(request: pytest.FixtureRequest) -> SurfaceOf:
    """The application by itself, and under the gateway's protocol, where hot routes are asked without ASGI."""
    kind: SurfaceOf = request.param
    return kind


async def test_a_body_that_comes_in_parts_is_one_body(surface_of: SurfaceOf) -> None:
    body = json.dumps(HELLO).encode()
    status, headers, _ = await surface_of(a_house()).ask(
        "POST", "/v1/chat/completions", body[:7], body[7:20], body[20:]
    )
    assert status == 200
    assert headers["x-breakeven-charge-usd"]


async def test_a_body_that_grows_over_the_limit_is_refused_though_it_declared_no_length(surface_of: SurfaceOf) -> None:
    surface = surface_of(a_house())
    status, headers, _ = await surface.ask("POST", "/v1/chat/completions", b"x" * 600, b"x" * 600, b"")
    assert (status, headers["connection"]) == (413, "close")
    status, _, _ = await surface.ask("POST", "/v1/chat/completions", headers=[(b"content-length", b"1001")])
    assert status == 413


async def test_whoever_counts_refusals_is_told_of_every_error_and_of_no_answer(surface_of: SurfaceOf) -> None:
    surface = surface_of(a_house())
    await surface.ask("POST", "/v1/chat/completions", json.dumps(HELLO).encode())
    assert surface.refused == []
    await surface.ask("POST", "/v1/chat/completions", json.dumps({**HELLO, "model": "nobody"}).encode())
    assert [type(error) for error in surface.refused] == [ModelUnknown]


async def test_a_caller_who_leaves_gets_nothing_more_and_its_work_is_cancelled(surface_of: SurfaceOf) -> None:
    house = a_house({"home": [Script(first_s=30)]})
    surface = surface_of(house)
    status, _, _ = await surface.ask("POST", "/v1/chat/completions", json.dumps(HELLO).encode(), leaves=True)
    assert status == 0
    assert house.provider.deeds[0].hung_up
    assert not surface.bugs


async def test_whoever_finds_the_queue_full_is_told_so_and_when_to_come_again(surface_of: SurfaceOf) -> None:
    home = a_target("home", in_flight_most=1, waiting_most=0)
    rule = Rule(name="patient", when=None, use=("home",), waits=True)
    policy = replace(a_policy(home, route=a_route(rules=(rule,))), queued=("home",))
    house = a_house({"home": [Script(first_s=60)]}, policy=policy)
    surface, body = surface_of(house), json.dumps(HELLO).encode()
    first = asyncio.create_task(surface.ask("POST", "/v1/chat/completions", body))
    async with asyncio.timeout(10):
        while not house.provider.calls:
            await asyncio.sleep(0.01)
    status, headers, said = await surface.ask("POST", "/v1/chat/completions", body)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (status, json.loads(said)["error"]["code"]) == (503, "queue_full")
    assert 1 <= int(headers["retry-after"]) <= 1 + RETRY_SPREAD_S
    assert "x-should-retry" not in headers


async def test_a_bug_is_a_500_without_details_and_is_reported(surface_of: SurfaceOf) -> None:
    house = a_house({"another": [Script()]})
    house.provider._scripts.clear()  # the scripted target now fails in a way that no table knows
    surface = surface_of(house)
    status, headers, body = await surface.ask("POST", "/v1/chat/completions", json.dumps(HELLO).encode())
    assert status == 500
    assert json.loads(body)["error"]["code"] == "internal_error"
    assert headers["x-request-id"]
    assert [type(bug) for bug in surface.bugs] == [KeyError]


async def test_a_failure_after_the_first_byte_is_an_event_and_no_done(surface_of: SurfaceOf) -> None:
    house = a_house({"home": [Script(words=("a", "b", "c"), fault=FaultKind.CUT, fault_after=2)]})
    said = json.dumps({**HELLO, "stream": True}).encode()
    status, _, body = await surface_of(house).ask("POST", "/v1/chat/completions", said)
    assert status == 200
    assert json.loads(body.rpartition(b"data: ")[2])["error"]["code"] == "cut"


async def test_a_receipt_is_found_in_memory_and_then_in_the_books(surface_of: SurfaceOf) -> None:
    house = a_house()
    surface = surface_of(house)
    _, headers, _ = await surface.ask("POST", "/v1/chat/completions", json.dumps(HELLO).encode())
    path = f"/v1/receipts/{headers['x-request-id']}"
    status, _, body = await surface.ask("GET", path)
    assert status == 200
    assert json.loads(body)["outcome"] == "complete"
    surface.ledger.away = True
    assert (await surface.ask("GET", path))[0] == 200
    unknown = "019ab000-0000-7000-8000-000000000009"
    status, _, body = await surface.ask("GET", f"/v1/receipts/{unknown}")
    assert (status, json.loads(body)["error"]["code"]) == (503, "ledger_away")


@pytest.mark.parametrize(
    ("readiness", "status", "said"),
    [
        (Readiness(refusing={}, warnings={}), 200, "ready"),
        (Readiness(refusing={}, warnings={"postgres": "away"}), 200, "degraded"),
        (Readiness(refusing={"spool": "full"}, warnings={"postgres": "away"}), 503, "refusing"),
    ],
)
async def test_readiness_tells_the_truth(surface_of: SurfaceOf, readiness: Readiness, status: int, said: str) -> None:
    got, _, body = await surface_of(a_house(), readiness=readiness).ask("GET", "/readyz")
    assert (got, json.loads(body)["status"]) == (status, said)
    assert set(json.loads(body)["because"]) == {*readiness.refusing, *readiness.warnings}


async def test_models_are_the_callers_own_and_need_its_key(surface_of: SurfaceOf) -> None:
    surface = surface_of(a_house())
    _, _, body = await surface.ask("GET", "/v1/models")
    assert [model["id"] for model in json.loads(body)["data"]] == ["chat"]
    assert (await surface.ask("GET", "/v1/models/chat"))[0] == 200
    assert (await surface.ask("GET", "/v1/models/nope"))[0] == 404
    status, headers, _ = await surface.ask("GET", "/v1/models", key="wrong")
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert len(headers["x-request-id"]) == 36


async def test_a_rules_name_cannot_break_a_header() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    opening = Opening(
        request_id="r", status=200, content_type="text/event-stream", target="t", hosting="managed",
        rule="zuhause\r\nset-cookie: x ☃", policy_digest="d", attempts=1, charge=Nanodollars(1),
    )  # fmt: skip
    reply = AsgiReply(send)
    await reply.begin(opening)
    headers = dict(sent[0]["headers"])
    assert headers[b"x-breakeven-rule"] == b"zuhause??set-cookie: x ?"
    assert headers[b"x-breakeven-charge-usd"] == b"0.000000001"
    assert reply.begun
    assert b"\r\nx-breakeven-rule: zuhause??set-cookie: x ?\r\n" in Heads().lines(opening)


def test_heads_that_are_remembered_are_told_apart_by_all_that_stands_in_them() -> None:
    opening = Opening(
        request_id="r", status=200, content_type="application/json", target="t", hosting=Hosting.MANAGED, rule="a rule",
        policy_digest="d", attempts=1, charge=Nanodollars(1),
    )  # fmt: skip
    others: list[dict[str, Any]] = [
        {"request_id": "r2"}, {"content_type": "text/plain"}, {"target": "t2"}, {"hosting": Hosting.SELF_HOSTED},
        {"rule": "another"}, {"policy_digest": "d2"}, {"attempts": 2}, {"charge": Nanodollars(2)}, {"charge": None},
    ]  # fmt: skip
    openings = [opening, *(replace(opening, **other) for other in others)]
    heads = Heads()
    said = [heads.lines(each) for each in openings]
    assert len(set(said)) == len(openings)
    assert [heads.lines(each) for each in openings] == said == [Heads().lines(each) for each in openings]
    with pytest.raises(ValueError, match="control character"):
        heads.lines(replace(opening, content_type="text/plain\r\nset-cookie: x"))
