"""The story of one request: it becomes an answer and a receipt."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.errors import (
    CALLERS_FAULT,
    NOT_TAKEN_ON,
    BadRequest,
    BreakevenError,
    CallerLeft,
    LedgerUnavailable,
    ModelNotAllowed,
    ModelUnknown,
    NoTarget,
    RequestRejected,
    TargetFailure,
)
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.facts import RequestFacts
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Policy
from app.domain.routing.snapshot import Snapshot
from app.flows.dispatch import Errand, Visit, too_long
from app.flows.draft import STATUS_CALLER_LEFT, ReceiptDraft
from app.flows.funding import Funded, fund
from app.flows.gateway import Asked, Gateway
from app.flows.queueing import code_of_refusal
from app.flows.relay import first_whole
from app.flows.settle import settle, settle_without_waiting
from app.flows.shadow import offer_copy
from app.flows.stream import stream
from app.ports import Opening, Reply

_DID_NOT_BEGIN = frozenset(kind.value for kind in NOT_TAKEN_ON)


async def answer(asked: Asked, reply: Reply, gateway: Gateway) -> None:
    """Decide, dispatch, pass on, settle. The caller sees the end of the answer only after the receipt is durable.

    Raises RequestRejected (nothing dispatched, no receipt), NoTarget, NoPlace, TargetFailure, LedgerUnavailable or
    CallerLeft; the surface spells them. Whatever it raises after the decision, the receipt has been settled before.
    """
    if (reason := gateway.closed()) is not None:
        raise LedgerUnavailable(reason)
    admitted = await gateway.limits.admit(asked.facts.caller, tokens=asked.facts.prompt_tokens)
    snapshot = gateway.snapshot(at_us=asked.at_us, team=asked.facts.caller.team)
    try:
        admit(asked.facts, snapshot.policy)
        funded = await fund(asked, snapshot, gateway)
    except RequestRejected:
        if admitted is not None:
            admitted.used(0)
        raise
    decision = funded.decision
    draft = ReceiptDraft(
        facts=asked.facts,
        at_us=asked.at_us,
        started_s=asked.arrived_s,
        caller_label=asked.caller_label,
        policy_digest=snapshot.policy.digest,
        decision=decision,
    )
    draft.admitted = admitted
    draft.holds = funded.holds
    draft.flags = funded.flags
    if isinstance(decision, Refusal):
        code = code_of_refusal(decision, facts=asked.facts, policy=snapshot.policy)
        ending = _Ending(outcome=Outcome.REFUSED, error=NoTarget(decision, code=code))
    elif funded.refused is not None:
        ending = _Ending(outcome=Outcome.REFUSED, error=funded.refused)
    else:
        ending = await _serve(asked, funded.within_means(decision), snapshot, draft, reply, gateway, funded=funded)
    await _close(ending, draft, reply, gateway)
    if isinstance(decision, Plan) and decision.shadow is not None:
        offer_copy(asked, decision, snapshot, gateway)


def admit(facts: RequestFacts, policy: Policy) -> None:
    """May this caller ask for this at all? Raises ModelUnknown, ModelNotAllowed or BadRequest."""
    route = policy.routes.get(facts.model)
    if route is None or not facts.caller.may_use(facts.model):
        served = ", ".join(sorted(name for name in policy.routes if facts.caller.may_use(name)))
        if route is None:
            raise ModelUnknown(
                f"The model `{facts.model[:200]}` does not exist here; this key may use: {served}", param="model"
            )
        raise ModelNotAllowed(
            f"This key may not use the model `{facts.model}`; it may use: {served or 'none'}", param="model"
        )
    most = route.output_tokens_most
    if most is not None and facts.output_tokens_most is not None and facts.output_tokens_most > most:
        raise BadRequest(
            f"max_tokens is {facts.output_tokens_most}, the model `{facts.model}` allows {most} at the most",
            param="max_tokens",
        )


@dataclass(slots=True, kw_only=True)
class _Ending:
    """How the work ended; what is left to do is to settle and to say so."""

    outcome: Outcome
    error: BreakevenError | None = None
    visit: Visit | None = None
    #: The whole body, or the end of the stream, held back until the receipt is durable.
    held: bytes = b""


async def _serve(
    asked: Asked,
    plan: Plan,
    snapshot: Snapshot,
    draft: ReceiptDraft,
    reply: Reply,
    gateway: Gateway,
    *,
    funded: Funded,
) -> _Ending:
    route = snapshot.policy.routes[asked.facts.model]
    leash = gateway.leashes.leash(route.timeouts.total_s)
    reply.on_leave(leash.pull)
    gateway.retries.asked(at_s=asked.arrived_s)
    try:
        async with leash:
            errand = Errand(
                asked=asked,
                order=plan.order,
                snapshot=snapshot,
                route=route,
                draft=draft,
                leash=leash,
                gateway=gateway,
                budgets=funded.budgets,
                output_tokens_cap=funded.output_tokens_cap,
                waits=bool(snapshot.policy.queued) and route.waits(plan.rule),
            )
            if asked.facts.stream:
                visit, held = await stream(errand, reply, lambda visit: _opening(visit, draft, plan))
            else:
                visit, held = await first_whole(errand)
    except TimeoutError:
        if leash.pulled:
            return _Ending(outcome=Outcome.ABANDONED, error=CallerLeft("the caller closed the connection"))
        return _Ending(outcome=Outcome.BROKEN, error=too_long("the target"))
    except TargetFailure as failure:
        refused = failure.kind in CALLERS_FAULT
        return _Ending(outcome=Outcome.REFUSED if refused else Outcome.BROKEN, error=failure)
    except BreakevenError as fault:
        return _Ending(outcome=Outcome.REFUSED, error=fault)
    except BaseException:  # a bug too: what was dispatched is booked, and what was held is free again
        settle_without_waiting(
            draft.receipt(outcome=Outcome.INTERRUPTED, status=0, now_s=gateway.clock.monotonic_s()), gateway
        )
        raise
    return _Ending(outcome=Outcome.COMPLETE, visit=visit, held=held)


async def _close(ending: _Ending, draft: ReceiptDraft, reply: Reply, gateway: Gateway) -> None:
    receipt = draft.receipt(
        outcome=ending.outcome, status=_status(ending, reply, gateway), now_s=gateway.clock.monotonic_s()
    )
    if draft.admitted is not None:
        draft.admitted.used(sum(each.usage.prompt + each.usage.output for each in receipt.attempts))
    if ending.outcome is Outcome.ABANDONED:
        settle_without_waiting(receipt, gateway)
    else:
        try:
            await settle(receipt, gateway)
        except LedgerUnavailable as fault:
            fault.executed = _executed(receipt)
            raise
    if ending.error is not None:
        ending.error.decided = (receipt.decision.rule, receipt.policy_digest)
        ending.error.executed = _executed(receipt)
        raise ending.error
    assert ending.visit is not None, "a complete answer was opened"
    if receipt.facts.stream and reply.begun:
        await reply.end(ending.held)
        return
    opening = _opening(ending.visit, draft, receipt.decision, charge=receipt.charge)
    if receipt.facts.stream:
        await reply.begin(opening)
        await reply.end(ending.held)
    else:
        await reply.whole(opening, ending.held)


def _executed(receipt: Receipt) -> bool:
    """Has a target begun to work on it? To ask again is then to pay again."""
    return any(attempt.fault not in _DID_NOT_BEGIN for attempt in receipt.attempts)


def _opening(
    visit: Visit, draft: ReceiptDraft, decision: Plan | Refusal, *, charge: Nanodollars | None = None
) -> Opening:
    assert visit.answer is not None, "an opened visit has its answer"
    assert decision.rule is not None, "a plan has its rule"
    target = visit.attempt.target
    return Opening(
        request_id=draft.request_id,
        status=visit.answer.status,
        content_type=visit.answer.content_type,
        target=target.name,
        hosting=target.hosting,
        rule=decision.rule,
        policy_digest=draft.policy_digest,
        attempts=draft.begun,
        charge=charge,
        rates=() if draft.admitted is None else draft.admitted.rates(),
    )


def _status(ending: _Ending, reply: Reply, gateway: Gateway) -> int:
    """What the caller saw: the status already sent, or the one its error will be spelled with."""
    if ending.outcome is Outcome.ABANDONED:
        return STATUS_CALLER_LEFT
    if ending.error is None or reply.begun:
        return 200
    return gateway.status_of(ending.error)
