"""Teams in memory that behave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.domain.limits import RateLimits
from app.ports import BooksAway, RowsRefused
from app.ports.keys import Team


class MemoryTeamBook:
    """`ports.keys.TeamBook`. `away = True` takes it away."""

    def __init__(self, *teams: Team) -> None:
        self._teams = {team.name: team for team in teams}
        self.away = False

    async def add(self, team: Team) -> None:
        self._answer_or_be_away()
        if team.name in self._teams:
            raise RowsRefused(f"the team {team.name} is there already")
        self._teams[team.name] = team

    async def all(self) -> Sequence[Team]:
        self._answer_or_be_away()
        return tuple(team for _, team in sorted(self._teams.items()))

    async def limit(self, name: str, limits: RateLimits) -> bool:
        self._answer_or_be_away()
        if name not in self._teams:
            return False
        self._teams[name] = replace(self._teams[name], limits=limits)
        return True

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")
