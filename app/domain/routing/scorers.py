"""In which order are the remaining candidates asked? Total orders only: ties break by the session, then by name.

The score is money: what one more request really costs there, plus what waiting for the first token is worth.

Marginal charge. A managed target costs its list price. A self-hosted one is paid for anyway: a request costs the
share of its standard charge that the policy declares (`marginal_usd_per_hour` over `usd_per_hour`: energy, mostly),
and near saturation what it displaces: the cheapest managed charge times the likelihood that somebody else has to
spill because of it, taken as 0 up to 80 % of its limit and rising in a straight line to 1 at 100 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from math import inf, log

from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.facts import RequestFacts
from app.domain.routing.policy import Route
from app.domain.target import Hosting, Target, TargetSeen
from app.domain.usage import Usage

#: A target keeps its sessions while it has at most so many times its even share of the load ("Consistent hashing with
#: bounded loads", Mirrokni, Thorup, Zadimoghaddam 2016), in hundredths.
LOAD_BOUND_PERCENT = 125

_DRAW_BITS = 64
_DRAWS = 1 << _DRAW_BITS
_MILLION = 1_000_000
_CROWDED_PPM = 800_000


def expected_charge(*, facts: RequestFacts, route: Route, price: RateCard, cached_tokens: int = 0) -> Nanodollars:
    """What `expected_usage` costs there."""
    return charge(usage=expected_usage(facts=facts, route=route, cached_tokens=cached_tokens), price=price)


def expected_usage(*, facts: RequestFacts, route: Route, cached_tokens: int = 0) -> Usage:
    """The usage if the answer is as long as the caller's cap, or as the route's default where there is none, and
    `cached_tokens` of the prompt are still in the prefix cache."""
    output = facts.n * likely_output_tokens(facts=facts, route=route)
    return Usage(prompt=facts.prompt_tokens, output=output, cached=min(cached_tokens, facts.prompt_tokens))


def likely_output_tokens(*, facts: RequestFacts, route: Route) -> int:
    """How long one answer is taken to be: the route's default, or the caller's cap where that is less."""
    return min(facts.output_tokens_most or route.output_tokens_default, route.output_tokens_default)


def marginal_charge(
    *, target: Target, seen: TargetSeen, expected: Nanodollars, cheapest_managed: Nanodollars | None
) -> Nanodollars:
    """What one more request there really costs now; see the formula above."""
    if target.hosting is Hosting.MANAGED:
        return expected
    cost = expected * target.marginal_ppm
    if cheapest_managed:
        cost += cheapest_managed * _likely_to_displace_ppm(target, seen)
    return Nanodollars(cost // _MILLION)


def waiting_charges(predicted_ttft_ms: Sequence[float | None], *, per_second: Nanodollars) -> tuple[Nanodollars, ...]:
    """What waiting for the first token of each is worth, in the order given. One whose time is not known is taken for
    as slow as the slowest that is."""
    slowest_ms = max((ms for ms in predicted_ttft_ms if ms is not None), default=0.0)
    return tuple(Nanodollars(round(per_second * (slowest_ms if ms is None else ms) / 1000)) for ms in predicted_ttft_ms)


def weighted_draw(names: Iterable[str], *, weights: Mapping[str, int], drawn_by: str) -> tuple[str, ...]:
    """The order of a draw without putting back, each pick by weight, from this text alone: a replay draws the same.

    Every name draws for itself (−ln u / weight, the least first: Efraimidis and Spirakis 2006), so that a target that
    comes or goes moves only its own share, and a weight that changes moves only the difference.

    A target of weight 0 is a last resort: it comes after all others, by name.
    """
    drawn: list[tuple[float, str]] = []
    begun = _draws(f"{drawn_by}#")
    for name in names:
        weight = weights.get(name, 0)
        u = (int.from_bytes(_drawn(begun, name)) + 1) / _DRAWS
        drawn.append((-log(u) / weight if weight > 0 else inf, name))
    return tuple(name for _, name in sorted(drawn))


def is_drawn(share_ppm: int, *, drawn_by: str) -> bool:
    """True for that share of all texts, always the same ones."""
    return int.from_bytes(_draws(drawn_by).digest()) * _MILLION >> _DRAW_BITS < share_ppm


def session_ring(names: Iterable[str], *, session: str) -> tuple[str, ...]:
    """The targets in this session's own order (highest random weight): the same in every process, and it moves only
    the sessions of a target that is gone."""
    begun = _draws(f"{session}@")
    return tuple(name for _, name in sorted([(_drawn(begun, name), name) for name in names], reverse=True))


def session_home(ring: Sequence[str], *, in_flight: Mapping[str, int]) -> str:
    """The first of the ring whose load stays within the bound with this request on it. `ring` is not empty.

    There is always one: not all can be above their even share. Loads are those that this process sees.
    """
    total = sum(in_flight[name] for name in ring) + 1
    most = -(-LOAD_BOUND_PERCENT * total // (100 * len(ring)))
    return next(name for name in ring if in_flight[name] + 1 <= most)


def _likely_to_displace_ppm(target: Target, seen: TargetSeen) -> int:
    if seen.saturation is not None:
        full_ppm = round(seen.saturation * _MILLION)
    elif target.in_flight_most:
        full_ppm = (seen.in_flight + seen.others) * _MILLION // target.in_flight_most
    else:
        return 0
    return min(max(full_ppm - _CROWDED_PPM, 0) * _MILLION // (_MILLION - _CROWDED_PPM), _MILLION)


def _draws(text: str) -> blake2b:
    """Draws that begin with this text: uniform over texts."""
    return blake2b(text.encode(), digest_size=_DRAW_BITS // 8)


def _drawn(begun: blake2b, name: str) -> bytes:
    """The draw of this name, most significant byte first: as bytes it compares as the number it is."""
    draw = begun.copy()
    draw.update(name.encode())
    return draw.digest()
