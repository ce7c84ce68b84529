from __future__ import annotations

import pytest

from app.domain.errors import BadRequest
from app.domain.limits import UNLIMITED, RateLimits
from app.flows.keys import cost_centre_of
from app.flows.teams import create_team, limit_team, list_teams, read_limits, team_view
from app.ports import KeyRecord
from tests.fakes.key_book import MemoryKeyBook
from tests.fakes.team_book import MemoryTeamBook
from tests.flows.test_keys import NOW_S, SetClock
from tests.makers import a_caller


async def test_a_team_is_made_listed_and_limited() -> None:
    book = MemoryTeamBook()
    made = await create_team(book, name="research", cost_centre="cc-1", clock=SetClock())
    assert (made.created_at_s, made.limits) == (NOW_S, UNLIMITED)
    await limit_team(book, "research", RateLimits(tokens_per_minute=5))
    (team,) = await list_teams(book, MemoryKeyBook())
    assert team_view(team) == {
        "name": "research",
        "cost_centre": "cc-1",
        "requests_per_minute": None,
        "tokens_per_minute": 5,
        "is_made": True,
    }


async def test_teams_that_only_keys_name_are_listed_too_without_limits() -> None:
    teams, keys = MemoryTeamBook(), MemoryKeyBook()
    await create_team(teams, name="research", cost_centre="cc-1", clock=SetClock())
    named = [("research", "cc-9"), ("demo", "cc-2"), ("demo", "cc-3"), ("gone", "cc-4"), ("demo", "cc-2")]
    for number, (team, payer) in enumerate(named):
        caller = a_caller(key_id=f"key{number}", team=team, cost_centre=payer)
        record = KeyRecord(caller=caller, name="k", digest=b"", pepper_version=1, created_at_s=100.0 - number)
        await keys.add(record)
    await keys.revoke("key3", at_s=200.0)
    listed = await list_teams(teams, keys)
    assert [(team.name, team.cost_centre, team.is_made) for team in listed] == [
        ("demo", "cc-2, cc-3", False),
        ("research", "cc-1", True),
    ]
    assert (listed[0].limits, listed[0].created_at_s) == (UNLIMITED, 96.0)
    with pytest.raises(BadRequest, match="only keys name has no limits: make it with `breakeven team create"):
        await limit_team(teams, "demo", UNLIMITED)


async def test_a_team_that_is_there_is_not_made_again_and_one_that_is_not_has_no_limits() -> None:
    book = MemoryTeamBook()
    await create_team(book, name="research", cost_centre="cc-1", clock=SetClock())
    with pytest.raises(BadRequest, match="already"):
        await create_team(book, name="research", cost_centre="cc-2", clock=SetClock())
    with pytest.raises(BadRequest, match="team list"):
        await limit_team(book, "sales", UNLIMITED)


@pytest.mark.parametrize(("name", "cost_centre", "param"), [("", "cc", "name"), ("a", "two\nlines", "cost_centre")])
async def test_words_that_are_none_are_refused(name: str, cost_centre: str, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await create_team(MemoryTeamBook(), name=name, cost_centre=cost_centre, clock=SetClock())
    assert caught.value.param == param


@pytest.mark.parametrize("limit", [0, -5, 10**13])
def test_a_limit_out_of_bounds_names_its_field(limit: int) -> None:
    with pytest.raises(BadRequest) as caught:
        read_limits(requests_per_minute=1, tokens_per_minute=limit)
    assert caught.value.param == "tokens_per_minute"


async def test_without_teams_a_key_names_who_pays() -> None:
    assert await cost_centre_of("research", "cc-9", teams=None) == "cc-9"
    assert await cost_centre_of("research", "cc-9", teams=MemoryTeamBook()) == "cc-9"
    with pytest.raises(BadRequest, match="breakeven team create") as caught:
        await cost_centre_of("research", None, teams=MemoryTeamBook())
    assert caught.value.param == "cost_centre"


async def test_with_teams_a_key_belongs_to_one_of_them() -> None:
    book = MemoryTeamBook()
    await create_team(book, name="research", cost_centre="cc-1", clock=SetClock())
    assert await cost_centre_of("research", None, teams=book) == "cc-1"
    assert await cost_centre_of("research", "cc-9", teams=book) == "cc-9"
    with pytest.raises(BadRequest, match="breakeven team create") as caught:
        await cost_centre_of("sales", "cc-9", teams=book)
    assert caught.value.param == "team"
