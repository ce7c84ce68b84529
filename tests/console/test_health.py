from __future__ import annotations

from dataclasses import replace

from app.console.health import METRICS_TYPE, SERVES, Health, target_states
from app.domain.target import Circuit, Hosting, TargetSeen
from app.telemetry.exposition import CONTENT_TYPE
from tests.console.served import House, console
from tests.makers import CARD, a_policy, a_target


async def test_alive_is_alive_even_while_postgres_is_away() -> None:
    async with console() as it:
        it.house.away()
        answer = await it.get("/livez", key=None)
    assert (answer.status, answer.json) == (200, {"status": "alive"})


async def test_ready_says_what_it_rests_on() -> None:
    async with console(House(spool_depth=17)) as it:
        answer = await it.get("/readyz", key=None)
    assert answer.status == 200
    assert answer.json == {
        "status": "ready",
        "because": {},
        "warnings": {},
        "postgres": "up",
        "spool_depth": 17,
        "spool_quarantined": 0,
        "policy": "0123456789abcdef",
        "targets": {"home": SERVES},
    }


async def test_readiness_tells_the_truth_about_postgres() -> None:
    async with console() as it:
        it.house.away()
        away = await it.get("/readyz", key=None)
        it.house.away(False)
        back = await it.get("/readyz", key=None)
    assert away.status == 503
    assert away.json["postgres"] == "away"
    assert "spool" in away.json["because"]["postgres"]
    assert back.status == 200


async def test_a_gateway_that_cannot_keep_records_is_not_ready() -> None:
    async with console(House(spool_refusing=1)) as it:
        answer = await it.get("/readyz", key=None)
    assert answer.status == 503
    assert "free some space" in answer.json["because"]["spool"]


async def test_one_target_that_serves_is_enough_and_none_is_not() -> None:
    house = House(policy=a_policy(a_target("home"), a_target("spare")))
    house.fleet["spare"] = TargetSeen(rate_card=CARD, circuit=Circuit.OPEN)
    async with console(house) as it:
        assert (await it.get("/readyz")).status == 200
        house.fleet["home"] = replace(house.fleet["spare"])
        answer = await it.get("/readyz")
    assert answer.status == 503
    assert set(answer.json["because"]) == {"targets"}
    assert "circuit" in answer.json["targets"]["home"]


def test_each_target_says_why_it_may_not_serve() -> None:
    policy = a_policy(
        a_target("open"),
        a_target("unpriced", rate_card=None),
        a_target("unpriced-api", rate_card=None, hosting=Hosting.MANAGED),
        a_target("locked", credential="env:OPENAI_API_KEY"),
        a_target("well"),
    )
    priced = TargetSeen(rate_card=CARD)
    states = target_states(
        policy,
        {
            "open": replace(priced, circuit=Circuit.OPEN),
            "unpriced": TargetSeen(),
            "locked": replace(priced, credential_present=False),
            "well": replace(priced, circuit=Circuit.HALF_OPEN, in_flight=9),
        },
    )
    assert states["well"] == SERVES
    assert "env:OPENAI_API_KEY" in states["locked"]
    assert "measure" in states["unpriced"]
    assert "policy" in states["unpriced-api"]
    assert "circuit" in states["open"]


def test_a_house_without_targets_is_not_blamed_for_them() -> None:
    assert Health(postgres_up=True, policy_digest="").wrong() == {}


async def test_metrics_pass_as_they_are_under_prometheus_own_type() -> None:
    async with console(House(metrics=b"# TYPE y gauge\ny 2\n")) as it:
        answer = await it.get("/metrics", key=None)
    assert answer.status == 200
    assert answer.body == b"# TYPE y gauge\ny 2\n"
    assert answer.headers["content-type"] == METRICS_TYPE == CONTENT_TYPE
