"""May this target serve this request? One question a filter; the first "no" is the reason."""

from __future__ import annotations

from collections.abc import Callable

from app.domain.figures import in_digits
from app.domain.routing.facts import Endpoint, RequestFacts
from app.domain.target import Capability, Circuit, Hosting, Target, TargetSeen

Filter = Callable[[RequestFacts, Target, TargetSeen], str | None]

#: What is wrong with an account, by the fault that it rests after.
_ACCOUNTS = {
    "money_gone": "its account has no money left",
    "auth": "its credential was not accepted",
}
_CAPABILITY = {endpoint: Capability(endpoint.value) for endpoint in Endpoint}


def serves_the_endpoint(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """The target's `can` names the endpoint."""
    if _CAPABILITY[facts.endpoint] in target.can:
        return None
    return f"it does not serve the endpoint {facts.endpoint.value}"


def has_the_features(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """Everything the body asks for, the target can."""
    if not (facts.has_tools or facts.has_images or facts.has_audio or facts.json_schema):
        return None
    wanted = (
        (facts.has_tools, Capability.TOOLS),
        (facts.has_images, Capability.IMAGES),
        (facts.has_audio, Capability.AUDIO),
        (facts.json_schema, Capability.JSON_SCHEMA),
    )
    missing = [capability.value for asked, capability in wanted if asked and capability not in target.can]
    return f"it cannot serve {', '.join(missing)}" if missing else None


def context_fits(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """The estimated prompt fits into the context. Where the estimate was too short, the target says so itself."""
    if target.context_tokens is None or facts.prompt_tokens <= target.context_tokens:
        return None
    return f"the prompt (about {facts.prompt_tokens} tokens) is over its context of {target.context_tokens}"


def may_see_the_data(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """The request's data class is among those that may go there; where classes are listed, none is not one of them."""
    if target.data_classes is None or facts.data_class in target.data_classes:
        return None
    said = f'of the data class "{facts.data_class}"' if facts.data_class else "without a data class"
    return f"a request {said} may not go there; it takes {', '.join(sorted(target.data_classes))}"


def credential_is_there(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """The credential it refers to exists."""
    return None if seen.credential_present else f"its credential {target.credential} is not set"


def serves_the_model(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """The engine there is not known to serve something else."""
    if not seen.serves_instead:
        return None
    return (
        f"it serves {seen.serves_instead}, not {target.model}: start that model there, or name this one in the policy"
    )


def price_is_known(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """A price is in force; an unknown price is never taken for zero."""
    if seen.rate_card is not None:
        return None
    cure = "measure it or give its rates" if target.hosting is Hosting.SELF_HOSTED else "give its price in the policy"
    return f"its price is not known: {cure}"


def circuit_lets_through(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """Neither it nor its account rests after failures."""
    return rests(seen)


def rests(seen: TargetSeen) -> str | None:
    """Why nothing is sent there for a while, in a sentence; None: it is in service, or may be probed."""
    if seen.circuit is not Circuit.OPEN:
        return None
    if seen.rests_after in _ACCOUNTS:
        return f"{_ACCOUNTS[seen.rests_after]}, and its circuit is open"
    cause = f" ({seen.rests_after})" if seen.rests_after else ""
    return f"its circuit is open after repeated failures{cause}"


def within_its_rate_limits(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """This minute has a request left there, and the prompt's tokens."""
    if seen.requests_left is not None and seen.requests_left < 1:
        return f"its {target.requests_per_minute} requests of this minute are used up"
    if seen.tokens_left is not None and seen.tokens_left < facts.prompt_tokens:
        return f"{seen.tokens_left} of its {target.tokens_per_minute} tokens of this minute are left"
    return None


def has_room(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """Fewer requests are in flight there than its limit, or than this process's share of it."""
    limit = target.in_flight_most
    if limit is None or seen.in_flight < (limit if seen.share is None else seen.share):
        return None
    if seen.share is None or seen.share >= limit:
        return f"{seen.in_flight} requests are in flight and its limit is {limit}"
    beside = f"{seen.in_flight} requests are in flight beside {seen.others} of others"
    return f"{beside}; its limit is {limit}, of which {seen.share} are this process's share"


def has_a_place_in_its_queue(facts: RequestFacts, target: Target, seen: TargetSeen) -> str | None:
    """Where the request would have to wait, fewer wait there than its limit: in the gateway's own queue, by its team's
    part of it, in the engine's, as it was last read, or beyond the target's places, as this process counts them."""
    if seen.queue is not None and seen.queue.is_full:
        return f"{seen.queue.waiting} requests wait for it, and its queue has no place for another of this team"
    if target.waiting_most is None:
        return None
    places = target.in_flight_most
    in_flight = seen.in_flight + seen.others
    waiting = max(seen.waiting or 0, 0 if places is None else in_flight - places)
    would_wait = waiting > 0 or (places is not None and in_flight >= places)
    if not would_wait or waiting < target.waiting_most:
        return None
    return f"{waiting} requests wait there and its limit is {target.waiting_most}"


def _requests(count: int) -> str:
    return "1 request is" if count == 1 else f"{count} requests are"


def has_its_turn_in_time(seen: TargetSeen, *, within_s: float) -> str | None:
    """For rules that wait: the turn in the gateway's queue is predicted within the time that the route gives."""
    if seen.queue is None or seen.queue.predicted_wait_ms is None or seen.queue.predicted_wait_ms <= 1000 * within_s:
        return None
    return (
        f"{_requests(seen.queue.ahead)} ahead in its queue and a place is predicted after "
        f"{seen.queue.predicted_wait_ms / 1000:.1f} s; a request may wait {in_digits(within_s, significant=6)} s"
    )


#: In this order; the names are what plans and explanations show.
FILTERS: tuple[tuple[str, Filter], ...] = (
    ("endpoint", serves_the_endpoint),
    ("features", has_the_features),
    ("context", context_fits),
    ("data_class", may_see_the_data),
    ("credential", credential_is_there),
    ("model", serves_the_model),
    ("price", price_is_known),
    ("circuit", circuit_lets_through),
    ("rate", within_its_rate_limits),
    ("room", has_room),
    ("queue", has_a_place_in_its_queue),
)
#: For rules that wait: a full target is one to wait for, while its queue has a place.
FILTERS_THAT_WAIT = tuple(each for each in FILTERS if each[1] is not has_room)
