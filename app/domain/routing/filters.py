"""May this target serve this request? One question a filter; the first "no" is the reason."""

from __future__ import annotations

from collections.abc import Callable

from app.domain.routing.facts import RequestFacts
from app.domain.target import Capability, Circuit, Hosting, Target, TargetSeen

Filter = Callable[[RequestFacts, Target, TargetSeen], str | None]


def serves_the_endpoint(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """The target's `can` names the endpoint."""
    if Capability(facts.endpoint.value) in target.can:
        return None
    return f"it does not serve the endpoint {facts.endpoint.value}"


def has_the_features(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """Everything the body asks for, the target can."""
    wanted = (
        (facts.has_tools, Capability.TOOLS),
        (facts.has_images, Capability.IMAGES),
        (facts.has_audio, Capability.AUDIO),
        (facts.json_schema, Capability.JSON_SCHEMA),
    )
    missing = [capability.value for asked, capability in wanted if asked and capability not in target.can]
    return f"it cannot serve {', '.join(missing)}" if missing else None


def context_fits(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """The estimated prompt fits into the context. The estimate counts short, so that a near fit is tried."""
    if target.context_tokens is None or facts.prompt_tokens <= target.context_tokens:
        return None
    return f"the prompt (about {facts.prompt_tokens} tokens) is over its context of {target.context_tokens}"


def circuit_lets_through(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """The circuit is not open."""
    return "its circuit is open after repeated failures" if seen.circuit is Circuit.OPEN else None


def has_room(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """Fewer requests are in flight there than its limit."""
    if target.in_flight_most is None or seen.in_flight < target.in_flight_most:
        return None
    return f"{seen.in_flight} requests are in flight and its limit is {target.in_flight_most}"


def credential_is_there(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """The credential it refers to exists."""
    return None if seen.credential_present else f"its credential {target.credential} is not set"


def price_is_known(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """A price is in force; an unknown price is never taken for zero."""
    if seen.rate_card is not None:
        return None
    cure = "measure it or give its rates" if target.hosting is Hosting.SELF_HOSTED else "give its price in the policy"
    return f"its price is not known: {cure}"


#: In this order; the names are what plans and explanations show.
FILTERS: tuple[tuple[str, Filter], ...] = (
    ("endpoint", serves_the_endpoint),
    ("features", has_the_features),
    ("context", context_fits),
    ("credential", credential_is_there),
    ("price", price_is_known),
    ("circuit", circuit_lets_through),
    ("room", has_room),
)
