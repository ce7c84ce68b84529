"""A target: a place that serves a model, as configured and as observed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum

from app.domain.engine import EngineFamily
from app.domain.pricing.price_list import DatedCard, card_of_the_day
from app.domain.pricing.rate_card import RateCard
from app.domain.quick import quickly_made


class Hosting(StrEnum):
    """Who owns the machine: we, or the seller of the tokens."""

    SELF_HOSTED = "self_hosted"
    MANAGED = "managed"


class Capability(StrEnum):
    """What a target can serve. Endpoints and features share one list, as ops write it under `can`."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    JSON_SCHEMA = "json_schema"
    TOOLS = "tools"
    IMAGES = "images"
    AUDIO = "audio"


class Circuit(StrEnum):
    """Closed: in service. Open: resting after failures. Half-open: one probe decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a self-hosted target runs on; its price per hour stands in the rates under the same type."""

    type: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """As ops wrote it. `name` is ours; `model` is the name the target itself knows."""

    name: str
    hosting: Hosting
    #: The engine family (self-hosted) or the provider (managed): "vllm", "openvino", "openai", …
    kind: str
    url: str
    model: str
    can: frozenset[Capability]
    context_tokens: int | None = None
    #: Most requests in flight there: of this process, or of all together where the engine tells; None: no limit.
    in_flight_most: int | None = None
    #: Most requests that may wait for it, in the engine's own queue or in this process's; None: not said.
    waiting_most: int | None = None
    #: What its seller allows this process in a minute; None: no limit.
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    #: Data classes that may go there; None: every class.
    data_classes: frozenset[str] | None = None
    #: Of a self-hosted target: what one more request really costs, in millionths of its standard charge. 0: the machine
    #: is paid for anyway.
    marginal_ppm: int = 0
    #: A reference such as `env:OPENAI_API_KEY`, never the secret itself.
    credential: str | None = None
    machine: Machine | None = None
    #: What is known of its engine, as the policy has it; None: it is managed, or nobody told.
    family: EngineFamily | None = None
    #: None: the price is not in the policy (a self-hosted target may get one from its measured rates).
    rate_card: RateCard | None = None
    #: Of a price that begins, ends or changes: its cards by their days; `rate_card` is the last of them then. Empty:
    #: `rate_card` holds for ever.
    price_list: tuple[DatedCard, ...] = ()

    def price_of(self, day: date) -> RateCard | None:
        """The policy's price on that day (UTC)."""
        return card_of_the_day(self.price_list, day) if self.price_list else self.rate_card


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSeen:
    """What one request would meet in the gateway's own queue for a full target, by its team's place there."""

    #: Requests that wait there, whoever sent them.
    waiting: int
    #: How many of them would be sent before it.
    ahead: int
    #: Milliseconds until its turn; None: not known, as nothing was seen to end there yet.
    predicted_wait_ms: float | None = None
    #: There is no place in the queue for one more of its team.
    is_full: bool = False


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSeen:
    """A target as this process observes it at one moment."""

    in_flight: int = 0
    #: Requests there that this process did not send, as the engine told last; 0 where it does not tell.
    others: int = 0
    #: Most requests that this process may keep there now, so that all together keep to the target's limit; None: the
    #: limit is this process's own.
    share: int | None = None
    circuit: Circuit = Circuit.CLOSED
    #: The kind of fault that it rests after, or was probed for; empty: its circuit is closed.
    rests_after: str = ""
    #: Its circuit is open, yet it may be asked when nobody else can serve.
    is_last_resort: bool = False
    credential_present: bool = True
    #: What it serves in the place of the policy's model, by the engine's own names; empty: nothing that is known of.
    serves_instead: str = ""
    #: The price in force: from the policy, or computed from measured rates; None: not known.
    rate_card: RateCard | None = field(default=None)
    #: Requests that wait in the engine's own queue; None: not known.
    waiting: int | None = None
    #: How full it is, 0 to 1 and above when work queues; None: not known.
    saturation: float | None = None
    #: Milliseconds to the first token of a request sent now; None: not known. Without the prefill of its own prompt
    #: where `prefill_tokens_per_s` is known, with an average one where not. With the wait in `queue`, where it has to.
    predicted_ttft_ms: float | None = None
    #: Prompt tokens computed in a second now, the decoding of others beside.
    prefill_tokens_per_s: float | None = None
    #: Seconds since the engine's own signals were read; None: never.
    age_s: float | None = None
    #: Nothing has been under way there for a while, so that whatever is predicted was learned under another load.
    is_idle: bool = False
    #: What is left of this minute's limits; None: no limit.
    requests_left: int | None = None
    tokens_left: int | None = None
    #: It is full and rules of the policy wait for it; None: it has room, or nobody waits.
    queue: QueueSeen | None = None

    def expected_ttft_ms(self, *, prompt_tokens: int) -> float | None:
        """Milliseconds to the first token of a request of which so many tokens have to be computed; None: not known."""
        if self.predicted_ttft_ms is None or not self.prefill_tokens_per_s:
            return self.predicted_ttft_ms
        return round(self.predicted_ttft_ms + 1000 * prompt_tokens / self.prefill_tokens_per_s, 1)

    def recorded(self, *, prompt_tokens: int) -> TargetSeen:
        """As a record of a decision keeps it: of the price only what such a prompt costs there."""
        card = self.rate_card
        if card is None or card.terms is None:
            return self
        return replace(self, rate_card=card.plain_at(prompt_tokens=prompt_tokens))
