"""`breakeven team …`: the teams that keys belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from app.bootstrap import Office
from app.cli.books import in_office
from app.cli.limits import RequestsPerMinute, TokensPerMinute, limits_text, limits_view
from app.cli.output import AsJson, note, write_json, write_table
from app.flows.teams import create_team, limit_team, list_teams, read_limits, team_view
from app.ports.keys import Team

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Make, list and limit teams.")

TeamName = Annotated[str, typer.Argument(metavar="NAME", help="The team's name.")]


@app.command(help="Make a team. Keys may then be made for it, and once there is a team, for teams that are there only.")
def create(
    name: TeamName,
    cost_centre: Annotated[str, typer.Option("--cost-centre", help="Who pays for its keys.")],
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    json: AsJson = False,
) -> None:
    limits = read_limits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)

    async def make(rooms: Office) -> Team:
        return await create_team(rooms.teams, name=name, cost_centre=cost_centre, clock=rooms.clock, limits=limits)

    team = in_office(make)
    if json:
        write_json(team_view(team))
    else:
        print(f"team {team.name} is made, paid for by {team.cost_centre}: {limits_text(team.limits)}")


@app.command("list", help="Every team, by name; also those that only keys name.")
def list_all(json: AsJson = False) -> None:
    async def read(rooms: Office) -> Sequence[Team]:
        return await list_teams(rooms.teams, rooms.keys)

    teams = in_office(read)
    if json:
        write_json([team_view(team) for team in teams])
        return
    head = ("name", "cost centre", "limits")
    write_table(
        head=head, rows=[(team.name, team.cost_centre, limits_text(team.limits)) for team in teams], words=len(head)
    )
    if of_keys := [team.name for team in teams if not team.is_made]:
        note(f"named by keys alone: {', '.join(of_keys)}. `breakeven team create` makes a team, which can have limits")


@app.command(help="Set what all keys of a team together may ask for in a minute; what is left out has no limit.")
def limit(
    name: TeamName,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    json: AsJson = False,
) -> None:
    limits = read_limits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)

    async def change(rooms: Office) -> None:
        await limit_team(rooms.teams, name, limits)

    in_office(change)
    if json:
        write_json({"name": name, **limits_view(limits)})
    else:
        print(f"team {name}: {limits_text(limits)}")
