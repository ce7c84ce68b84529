"""Teams: made, listed, limited."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from app.domain.errors import BadRequest
from app.domain.limits import PER_MINUTE_MOST, UNLIMITED, RateLimits
from app.flows.keys import check_word
from app.ports import Clock, KeyBook, KeyRecord, RowsRefused
from app.ports.keys import Team, TeamBook

_MICROSECONDS = 1_000_000


async def create_team(
    book: TeamBook, *, name: str, cost_centre: str, clock: Clock, limits: RateLimits = UNLIMITED
) -> Team:
    """Make a team. Raises BadRequest naming the field at fault, also for a name that is taken, and BooksAway."""
    check_word(name, "name")
    check_word(cost_centre, "cost_centre")
    team = Team(name=name, cost_centre=cost_centre, limits=limits, created_at_s=clock.unix_us() / _MICROSECONDS)
    try:
        await book.add(team)
    except RowsRefused as fault:
        raise BadRequest(f"there is a team {name!r} already: `breakeven team list` shows it", param="name") from fault
    return team


async def list_teams(book: TeamBook, keys: KeyBook) -> Sequence[Team]:
    """Every team, by name: those that were made, and those that only keys name, which have no limits of their own.
    Raises BooksAway."""
    made = await book.all()
    return sorted((*made, *_named_by_keys(await keys.all(), made=made)), key=lambda team: team.name)


def _named_by_keys(records: Iterable[KeyRecord], *, made: Iterable[Team]) -> Iterator[Team]:
    """The teams of keys that are not revoked and that nobody made, as old as their oldest key."""
    known = {team.name for team in made}
    ours: dict[str, list[KeyRecord]] = {}
    for record in records:
        if record.caller.team not in known and record.revoked_at_s is None:
            ours.setdefault(record.caller.team, []).append(record)
    for name, theirs in ours.items():
        payers = sorted({record.caller.cost_centre for record in theirs})
        begun_s = min(record.created_at_s for record in theirs)
        yield Team(name=name, cost_centre=", ".join(payers), created_at_s=begun_s, is_made=False)


async def limit_team(book: TeamBook, name: str, limits: RateLimits) -> None:
    """These limits from now on. Raises BadRequest when no such team was made, and BooksAway."""
    if not await book.limit(name, limits):
        raise BadRequest(
            f"no team {name!r} was made, and one that only keys name has no limits: make it with `breakeven team "
            "create NAME --cost-centre …`; `breakeven team list` shows those there are",
            param="name",
        )


def read_limits(*, requests_per_minute: int | None, tokens_per_minute: int | None) -> RateLimits:
    """The limits that people gave. Raises BadRequest naming the one at fault."""
    given = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    for param, limit in given.items():
        if limit is not None and not 1 <= limit <= PER_MINUTE_MOST:
            raise BadRequest(
                f"{param}: give 1 to {PER_MINUTE_MOST}, or leave it out for no limit, not {limit}", param=param
            )
    return RateLimits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)


def team_view(team: Team) -> dict[str, object]:
    """A team as people and programs read it. One that only keys name is not made, and has no limits of its own."""
    return {
        "name": team.name,
        "cost_centre": team.cost_centre,
        "requests_per_minute": team.limits.requests_per_minute,
        "tokens_per_minute": team.limits.tokens_per_minute,
        "is_made": team.is_made,
    }
