from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from app.console.policy import policy_view
from app.domain.routing.policy import Preference, Rule
from app.domain.target import Hosting, Machine, TargetSeen
from app.live.policy_slot import PolicyStatus
from tests.console.served import House, console
from tests.console.test_policy_status import a_status_with_faults
from tests.makers import CHEAP, NOON, a_policy, a_route, a_target

A_STATUS = PolicyStatus(digest="0123456789abcdef", since_s=NOON.timestamp(), files_digest="0123456789abcdef")


@dataclass(frozen=True)
class Written:
    """A condition as it was written."""

    source: str

    def holds(self, names: Mapping[str, object]) -> bool:
        return False


def a_house() -> House:
    route = a_route(
        rules=(
            Rule(name="night", when=Written("time.hour < 6"), use=("home",), written_at="models.yaml:4"),
            Rule(
                name="day", when=None, use=("home", "api"), prefer=Preference.WEIGHTED, weights={"home": 90, "api": 10}
            ),
        )
    )
    targets = (
        a_target("home", machine=Machine(type="l4", count=2), rate_card=None),
        a_target(
            "api",
            hosting=Hosting.MANAGED,
            kind="openai",
            url="https://user:canary-7f3a@api.example/v1",
            credential="env:OPENAI_API_KEY",
        ),
    )
    fleet = {"home": TargetSeen(rate_card=CHEAP, in_flight=3), "api": TargetSeen(credential_present=False)}
    return House(policy=a_policy(*targets, route=route), fleet=fleet)


async def test_the_policy_in_force_is_shown_with_the_state_and_price_of_each_target() -> None:
    async with console(a_house()) as it:
        answer = await it.get("/api/policy")
    assert answer.status == 200
    assert answer.json["digest"] == "0123456789abcdef"
    home, api = answer.json["targets"]["home"], answer.json["targets"]["api"]
    assert (home["state"], home["in_flight"]) == ("may serve", 3)
    assert home["machine"] == {"type": "l4", "count": 2}
    assert home["usd_per_million_tokens"]["output"] == "0.10", "the price in force, not the one written"
    assert "env:OPENAI_API_KEY" in api["state"]


async def test_routes_are_shown_as_they_were_written() -> None:
    async with console(a_house()) as it:
        route = (await it.get("/api/policy")).json["models"]["chat"]
    assert [rule["name"] for rule in route["rules"]] == ["night", "day"]
    assert route["rules"][0]["when"] == "time.hour < 6"
    assert route["rules"][0]["written_at"] == "models.yaml:4"
    assert route["rules"][1]["weights"] == {"home": 90, "api": 10}


def test_a_password_in_a_url_is_not_shown() -> None:
    house = a_house()
    assert "canary-7f3a" not in json.dumps(policy_view(house.policy, house.fleet, status=A_STATUS))


async def test_a_new_policy_shows_at_once() -> None:
    house = a_house()
    async with console(house) as it:
        await it.get("/api/policy")
        house.policy = a_policy(a_target("other"))
        answer = await it.get("/api/policy")
    assert list(answer.json["targets"]) == ["other"]


async def test_a_refused_edit_shows_beside_the_policy_that_stays_in_force() -> None:
    async with console(House(status=a_status_with_faults())) as it:
        policy = await it.get("/api/policy")
        ready = await it.get("/readyz", key=None)
    assert policy.json["status"]["warning"] == ready.json["warnings"]["policy"]
    assert (ready.status, ready.json["status"]) == (200, "ready"), "a bad edit is no outage"
