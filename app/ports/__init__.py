"""The protocols through which the stories speak to the world. One page; every fake and every real thing fits these."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from app.domain.budget import Budget
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.report import CostLine, CostQuery, Sums
from app.domain.limits import RateStanding
from app.domain.money import Nanodollars
from app.domain.pricing.self_host import MeasuredRates
from app.domain.quick import quickly_made
from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Timeouts
from app.domain.target import Target
from app.domain.telling import Telling
from app.domain.usage import Usage
from app.ports.keys import KeyBook as KeyBook
from app.ports.keys import KeyRecord as KeyRecord


class Clock(Protocol):
    """The only source of time. `monotonic_s` never goes back; `unix_us` is the wall clock in microseconds."""

    def monotonic_s(self) -> float: ...

    def unix_us(self) -> int: ...


class Ids(Protocol):
    """Makes UUIDv7, in canonical text, whose time is the given moment."""

    def request_id(self, *, at_us: int) -> str: ...


# ── the caller ───────────────────────────────────────────────────────────────────────────────────────────────────────


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the caller is told of the route, before the body begins."""

    request_id: str
    status: int
    content_type: str
    target: str
    hosting: str
    rule: str
    policy_digest: str
    attempts: int
    #: Known before the body for answers that were whole first; another stream's charge stands on its receipt.
    charge: Nanodollars | None = None
    rates: tuple[RateStanding, ...] = ()
    #: The request that came with the same idempotency key before, and was interrupted with its process.
    interrupted: str | None = None


class Reply(Protocol):
    """The line back to the caller, whatever the transport. Writing to a caller who left does nothing."""

    @property
    def left(self) -> bool:
        """True once the caller has hung up."""
        ...

    @property
    def begun(self) -> bool:
        """True once a status has been sent: errors can no longer choose one."""
        ...

    def on_leave(self, hung_up: Callable[[], None]) -> None:
        """Call `hung_up` once, when the caller leaves; at once if it has left already."""
        ...

    async def whole(self, opening: Opening, body: bytes) -> None: ...

    async def begin(self, opening: Opening) -> None:
        """Start a stream. From here on no status can be chosen."""
        ...

    async def write(self, raw: bytes) -> None:
        """Pass bytes on; waits while the caller reads slowly, so that back-pressure reaches the target."""
        ...

    async def end(self, raw: bytes = b"") -> None: ...


# ── targets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamCall:
    """One attempt as a provider needs it. `fields` are the caller's body: each value is a buffer that holds the
    untouched JSON of that field, so that what we do not know passes byte for byte."""

    attempt_id: str
    target: Target
    endpoint: Endpoint
    fields: Mapping[str, bytes]
    stream: bool
    #: The caller asked for `stream_options.include_usage` itself; otherwise usage is asked for and hidden again.
    usage_wanted: bool
    timeouts: Timeouts
    #: Sent instead of a cap that the caller's fields name; None: none is.
    output_tokens_cap: int | None = None
    #: Filled by an `open` that is cancelled with what had come by then: see `UpstreamAnswer.unread`.
    unread: list[Piece] = field(default_factory=list, compare=False)
    #: What the caller of this stream has been told: only what is new to it comes in pieces, and what is not what it
    #: was told is a failure. None: everything comes.
    telling: Telling | None = None
    #: The beginning of the answer: what follows is asked for. Only of targets that `can_continue`.
    prefix: str = ""


@dataclass(slots=True)
class Piece:
    """Whole SSE events, as they go to the caller, and what they say. `raw` may be empty (a hidden usage event)."""

    raw: bytes
    content_events: int = 0
    content_bytes: int = 0
    usage: Usage | None = None
    finished: bool = False
    #: True when `raw` ends the stream (`[DONE]`): it is held back until the receipt is durable.
    last: bool = False


class UpstreamAnswer(Protocol):
    """An answer that a target has begun: status 200, headers read; for a stream its first content event too.

    Closed exactly once by whoever opened it; `close` cancels the work upstream when the answer is not at its end.
    """

    @property
    def status(self) -> int: ...

    @property
    def content_type(self) -> str: ...

    @property
    def provider_request_id(self) -> str | None: ...

    def pieces(self) -> AsyncIterator[Piece]:
        """A stream's events in order, from the first. Ends after a piece with `last`, or when a stream that has
        finished closes without `[DONE]`. Raises TargetFailure (CUT, IDLE_TIMEOUT, INVALID_ANSWER) otherwise."""
        ...

    async def body(self) -> tuple[bytes, Usage | None]:
        """The whole body of an answer that is not streamed, and its usage. Raises TargetFailure."""
        ...

    def unread(self) -> Sequence[Piece]:
        """What has come and was not asked for, for whoever leaves before the end: it was made, and will be billed.

        Of a stream the pieces that are whole; of any other answer one piece, whose `raw` is what came of the body, and
        `content_bytes` what of it is text.
        Waits for nothing."""
        ...

    async def close(self) -> None: ...


class Provider(Protocol):
    """Speaks to one kind of target."""

    async def open(self, call: UpstreamCall) -> UpstreamAnswer:
        """Send the attempt and wait until the answer has begun. Raises TargetFailure; leaves nothing open then.

        Cancelling it closes the connection, and so cancels the work upstream."""
        ...


class Credentials(Protocol):
    """Resolves references such as `env:OPENAI_API_KEY`."""

    def is_present(self, reference: str) -> bool: ...

    def secret(self, reference: str) -> str | None: ...


# ── the journal and the books ────────────────────────────────────────────────────────────────────────────────────────


class Journal(Protocol):
    """The local spool. Everything written survives `kill -9` of this process."""

    def intend(self, receipt: Receipt) -> None:
        """Before a dispatch: the receipt as it would be booked if this process died now. Raises LedgerUnavailable.

        A later record of the same request replaces it."""
        ...

    def checkpoint(self, *, request_id: str, output_tokens: int, charge: Nanodollars) -> None:
        """Now and then during a stream, best effort: the running attempt's figures so far."""
        ...

    async def settle(self, receipt: Receipt) -> None:
        """Append the final receipt and return once it is durable. Raises LedgerUnavailable if it could not be kept."""
        ...

    def settle_later(self, receipt: Receipt) -> None:
        """Append the final receipt without waiting for the disk; for a caller who is gone."""
        ...

    @property
    def depth(self) -> int:
        """Final receipts not yet known to be in Postgres."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """A batch of final receipts, each its JSON, and the mark that forgets them once they are booked."""

    receipts: tuple[bytes, ...]
    mark: object


class Outbox(Protocol):
    """The journal as the shipper sees it."""

    async def next_shipment(self, *, most: int) -> Shipment | None:
        """The oldest final receipts not yet shipped, at most `most`; None when there are none."""
        ...

    def shipped(self, shipment: Shipment) -> None:
        """Known to be in Postgres; sending it again would still change nothing."""
        ...

    def quarantine(self, receipt: bytes, *, reason: str) -> None:
        """A row that the server refuses for itself: kept aside, counted, reported, never dropped."""
        ...

    async def wait_for_more(self) -> None:
        """Returns when there may be something to ship."""
        ...


class BooksAway(Exception):
    """Postgres cannot be reached or did not answer in time; the same call may succeed later, and may have already."""


class RowsRefused(Exception):
    """Postgres refuses the content of a batch; smaller batches find the row."""


class LedgerBook(Protocol):
    """The receipts in Postgres. Raises BooksAway from every call while Postgres is away."""

    async def book(self, receipts: Sequence[bytes]) -> int:
        """Insert what is not there yet, with roll-ups, in one statement; the number of receipts really inserted.

        Sending the same receipts again changes nothing. Raises RowsRefused, and has booked nothing then."""
        ...

    async def find(self, request_id: str, *, key_id: str | None = None) -> Receipt | None:
        """The receipt, equal to the one that was settled; with `key_id` only if it belongs to that key and is no copy
        for a shadow. None too for a text that is no request id."""
        ...

    async def latest(self, *, most: int, before: str | None = None) -> Sequence[Receipt]:
        """The newest receipts first, in the order of their ids; with `before` only those older than that request id
        (a text that is no request id has none before it)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the books say of one period, read at one moment: `compiled` proves that the three agree.

    `lines` are one a group, and one more for the copies of its requests that went to shadows, if any; `by_hosting` is
    one a hosting, and all copies under `SHADOW`; both from the roll-ups. `ledger_charge` is the same sum from the
    attempts themselves. What was refused before a dispatch stands under the hosting and target "".
    """

    lines: tuple[CostLine, ...]
    by_hosting: Mapping[str, Sums]
    ledger_charge: Nanodollars


class ReportBook(Protocol):
    """Sums over the books. Raises BooksAway."""

    async def read(self, query: CostQuery) -> Books:
        """Everything a cost report needs, from one snapshot. Raises ValueError for a query that
        `domain.ledger.report.checked` refuses. Grouped by key there are no latency histograms."""
        ...


class SpendBook(Protocol):
    """What budgets have been spent of. Raises BooksAway."""

    async def spent(self, budget: Budget, *, begin: datetime, end: datetime) -> Nanodollars:
        """All charges booked for what the budget is of, from `begin` until before `end`, both aware, exact to the
        microsecond; copies for shadows count. Its amount and period are not looked at."""
        ...


class RatesBook(Protocol):
    """Measured speeds of self-hosted targets, newest first. Raises BooksAway."""

    async def remember(self, rates: MeasuredRates) -> None: ...

    async def newest(self) -> Sequence[MeasuredRates]:
        """The newest measurement of each target; of two made in the same second, the one remembered last."""
        ...


# ── what people write, what people read ──────────────────────────────────────────────────────────────────────────────


class Shelf(Protocol):
    """The `policies/` directory. Every call may wait for a disk, and belongs into a thread of its own."""

    def look(self) -> object:
        """Compares equal to the look before unless something may have changed. Reads no file; never raises."""
        ...

    def read(self) -> Mapping[str, str]:
        """File name → text of every `*.yaml`, sorted by name; bytes that are not UTF-8 pass as lone surrogates, for
        the compiler to name. Raises PolicyInvalid with a finding for each file that cannot be read."""
        ...

    def author(self) -> str:
        """Who wrote what lies there now, for people. Never raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A set of policy files that was in force, or was offered to be. `digest` names it."""

    digest: str
    files: Mapping[str, str]
    #: Who wrote it: from version control, or the operator who sent it.
    author: str
    #: Unix seconds when it was first seen.
    seen_at_s: float
    #: Its findings as text; one that was never in force has errors among them.
    findings: tuple[str, ...] = ()
    #: Unix seconds when it was first put in force; None: never.
    in_force_at_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A revision that stays in force, whatever the files say, until it is released."""

    digest: str
    by: str
    pinned_at_s: float


class PolicyHistory(Protocol):
    """Every revision of the policy, for ever. Every call raises BooksAway while Postgres is away."""

    async def remember(self, revision: Revision) -> bool:
        """Keep it; True when it was not known. A known one only gains `in_force_at_s`, and keeps the earliest."""
        ...

    async def find(self, digest: str) -> Revision | None:
        """By its digest, or by a beginning of it of 4 digits or more that fits one revision only."""
        ...

    async def latest(self, *, most: int) -> Sequence[Revision]:
        """The newest first, by when they were first seen."""
        ...

    async def pin(self, pin: Pin) -> None:
        """Pin this revision, which must be known; it replaces an earlier pin. Raises KeyError for an unknown digest."""
        ...

    async def release(self) -> bool:
        """The files decide again. False when nothing was pinned."""
        ...

    async def pinned(self) -> Pin | None: ...


class Readings(Protocol):
    """What is told of a request: metrics, log line, trace. Never raises, never waits."""

    def dispatched(self, *, target: str) -> None: ...

    def waited(self, *, target: str, waited_s: float, ended: str) -> None:
        """A request was in the gateway's queue for this target so long; `ended`: how, by `live.queues.Turned`."""
        ...

    def settled(self, receipt: Receipt) -> None: ...
