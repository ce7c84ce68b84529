"""A past decision, made again from its receipt and the revision that was in force: is it the same, bit for bit?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from enum import Enum, StrEnum

from app.domain.errors import PolicyInvalid, RequestRejected
from app.domain.findings import Finding, finding_view
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.view import moment
from app.domain.routing.explain import explained
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Policy
from app.domain.routing.replay import replayed
from app.flows.policy_archive import PolicyArchive
from app.flows.policy_history import moment_of
from app.ports import Revision

_ABSENT = "absent"


class RequestUnknown(RequestRejected):
    """The books have no request of that id."""


class Verdict(StrEnum):
    """What came of making a decision again."""

    SAME = "same"
    DIFFERENT = "different"
    #: The history does not hold the revision that decided.
    NO_REVISION = "no_revision"
    #: The revision that decided is no valid policy for this version of the gateway.
    NOT_VALID_TODAY = "not_valid_today"
    #: A shadow's copy of another request: nothing was decided for it alone.
    COPY = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value of a decision: where it stands, what it was, and what it came out as now; both as JSON-ready values."""

    path: str
    then: object
    now: object

    def __str__(self) -> str:
        return f"{self.path}: it was {self.then!r}, and comes out as {self.now!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A past decision and what came of making it again. `again` is None when it could not be."""

    receipt: Receipt
    verdict: Verdict
    again: Plan | Refusal | None = None
    differences: tuple[Difference, ...] = ()
    revision: Revision | None = None
    #: Why the revision is not valid today.
    findings: tuple[Finding, ...] = ()

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        digest = self.receipt.policy_digest
        match self.verdict:
            case Verdict.SAME:
                return f"Made again under policy {digest}, the decision is the same, bit for bit."
            case Verdict.DIFFERENT:
                count = len(self.differences)
                return f"Made again under policy {digest}, the decision differs in {count} of its values."
            case Verdict.NO_REVISION:
                return f"It cannot be made again: the history does not hold policy {digest}."
            case Verdict.NOT_VALID_TODAY:
                return f"It cannot be made again: policy {digest} is no valid policy for this version any more."
            case Verdict.COPY:
                return f"It is a shadow's copy of request {self.receipt.shadow_of}: ask for that one."


async def explain_request(archive: PolicyArchive, request_id: str) -> Explained:
    """The decision of this request, and whether it comes out the same again. Raises RequestUnknown, BooksAway."""
    receipt = await archive.ledger.find(request_id)
    if receipt is None:
        raise RequestUnknown(
            f"the ledger has no request {request_id[:80]!r}: take the id from the header x-request-id, and give a new "
            "one a second to arrive",
            param="request_id",
            code="not_found",
        )
    if receipt.shadow_of is not None:
        return Explained(receipt=receipt, verdict=Verdict.COPY)
    revision = await archive.history.find(receipt.policy_digest)
    if revision is None:
        return Explained(receipt=receipt, verdict=Verdict.NO_REVISION)
    try:
        policy = (await archive.compiled(revision.files)).policy
    except PolicyInvalid as fault:
        return Explained(
            receipt=receipt, verdict=Verdict.NOT_VALID_TODAY, revision=revision, findings=tuple(fault.findings)
        )
    return made_again(receipt, policy, revision=revision)


def made_again(receipt: Receipt, policy: Policy, *, revision: Revision | None = None) -> Explained:
    """The receipt's decision beside what `policy` decides on the same facts and what was seen then."""
    again = replayed(receipt.facts, receipt.decision, at_us=receipt.at_us, policy=policy)
    differences = differences_of(receipt.decision, again)
    verdict = Verdict.DIFFERENT if differences or again is None else Verdict.SAME
    return Explained(receipt=receipt, verdict=verdict, again=again, differences=differences, revision=revision)


def differences_of(then: Plan | Refusal, now: Plan | Refusal | None) -> tuple[Difference, ...]:
    """Every value in which the two differ, in the order of the plan. Stricter than equality: 0 is not 0.0 here, and
    0.0 is not -0.0, as they are not when a decision is written down."""
    if now is None:
        return (Difference(path="decision", then=then.rule, now="the policy has no such model"),)
    if type(then) is not type(now):
        return (Difference(path="decision", then=_kind(then), now=_kind(now)),)
    return tuple(_compared("", plain(then), plain(now)))


def plain(value: object) -> object:
    """A value of the domain as JSON can say it: mappings, lists, texts, numbers; sets sorted, decimals as their
    digits."""
    match value:
        case Enum():
            return value.value
        case Decimal():
            return str(value)
        case Mapping():
            return {str(key): plain(value[key]) for key in sorted(value)}
        case frozenset() | set() | list() | tuple():
            listed = [plain(one) for one in value]
            return sorted(listed, key=str) if isinstance(value, frozenset | set) else listed
        case _ if is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def explained_view(made: Explained) -> dict[str, object]:
    """What was found, as a JSON-ready mapping."""
    receipt, revision = made.receipt, made.revision
    return {
        "request_id": receipt.request_id,
        "at": moment(receipt.at_us),
        "model": receipt.facts.model,
        "policy": receipt.policy_digest,
        "remarks": list(receipt.remarks),
        "decision": explained(receipt.decision),
        "facts": plain(receipt.facts),
        "replay": {
            "verdict": made.verdict.value,
            "says": made.sentence,
            "differences": [{"path": one.path, "then": one.then, "now": one.now} for one in made.differences],
            "decision": None if made.again is None else explained(made.again),
            "findings": [finding_view(each) for each in made.findings],
        },
        "revision": None
        if revision is None
        else {"digest": revision.digest, "author": revision.author, "seen_at": moment_of(revision.seen_at_s)},
    }


def _kind(decision: Plan | Refusal) -> str:
    return f"a refusal ({decision.reason})" if isinstance(decision, Refusal) else f"a plan ({decision.order[0]} first)"


def _compared(path: str, then: object, now: object) -> Iterator[Difference]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *(key for key in now if key not in then)]:
            yield from _compared(f"{path}.{key}" if path else key, then.get(key, _ABSENT), now.get(key, _ABSENT))
        return
    one, other = _by_target(then), _by_target(now)
    if one is not None and other is not None:
        yield from _compared(path, one, other)
        then, now = list(one), list(other)
    if type(then) is not type(now) or repr(then) != repr(now):
        yield Difference(path=path, then=then, now=now)


def _by_target(values: object) -> dict[str, object] | None:
    """Candidates by the name of their target; None for anything else."""
    if not isinstance(values, list) or not all(isinstance(one, dict) and "target" in one for one in values):
        return None
    return {str(one["target"]): one for one in values}
