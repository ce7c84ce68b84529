"""In which order are the remaining candidates asked? Total orders only: ties break by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.facts import RequestFacts
from app.domain.routing.policy import Route
from app.domain.usage import Usage

_DRAW_BITS = 64


def expected_charge(*, facts: RequestFacts, route: Route, price: RateCard) -> Nanodollars:
    """The charge if the answer is as long as the caller's cap, or as the route's default where there is none."""
    output = min(facts.output_tokens_most or route.output_tokens_default, route.output_tokens_default)
    return charge(usage=Usage(prompt=facts.prompt_tokens, output=output * facts.n), price=price)


def cheapest_first(names: Sequence[str], *, charges: Mapping[str, Nanodollars]) -> tuple[str, ...]:
    """By expected charge, then by name."""
    return tuple(sorted(names, key=lambda name: (charges[name], name)))


def weighted_draw(names: Sequence[str], *, weights: Mapping[str, int], request_id: str) -> tuple[str, ...]:
    """Drawn one after another by weight, from the request id alone, so that a replay draws the same.

    A target of weight 0 is a last resort: it comes after all others, by name.
    """
    left = sorted(name for name in names if weights.get(name, 0) > 0)
    never = sorted(name for name in names if weights.get(name, 0) <= 0)
    order: list[str] = []
    while left:
        total = sum(weights[name] for name in left)
        at = _draw(request_id=request_id, turn=len(order)) * total >> _DRAW_BITS
        for name in left:
            at -= weights[name]
            if at < 0:
                break
        order.append(name)
        left.remove(name)
    return (*order, *never)


def _draw(*, request_id: str, turn: int) -> int:
    """A number in [0, 2⁶⁴), uniform over request ids: BLAKE2b of the id and the turn."""
    return int.from_bytes(blake2b(f"{request_id}#{turn}".encode(), digest_size=_DRAW_BITS // 8).digest())
