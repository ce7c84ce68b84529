"""Copies of answered requests go to the shadows that rules name. Measured, booked apart, and thrown away.

No caller waits for a copy or sees anything of it. A copy has a receipt of its own, under an id of its own, and the
journal keeps it as it keeps any other: whatever dies, what was spent is booked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from app.domain.budget import Budget
from app.domain.errors import CALLERS_FAULT, BadRequest, BreakevenError, LedgerUnavailable, NoPlace, TargetFailure
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import ZERO
from app.domain.routing.filters import FILTERS
from app.domain.routing.plan import Candidate, Plan
from app.domain.routing.policy import Shadow
from app.domain.routing.snapshot import Snapshot, spill_key
from app.domain.target import TargetSeen
from app.flows.dispatch import Errand, dispatch, too_long
from app.flows.draft import ReceiptDraft
from app.flows.funding import AttemptNeeds, attempt_needs
from app.flows.gateway import Asked, Copy, Gateway
from app.flows.relay import fetch, relay
from app.flows.settle import settle, settle_without_waiting
from app.live.shadows import Dropped
from app.live.wallet import Short
from app.ports import Ids

#: What a copy's plan says instead of a preference: nobody chose, the rule named the target.
SHADOW = "shadow"


async def send_copies(gateway: Gateway, *, ids: Ids, report_bug: Callable[[str, BaseException], None]) -> None:
    """Send what waits in `gateway.shadows`, for ever, until cancelled; copies under way are then booked as
    interrupted, and those that wait are forgotten: nothing was spent for them."""
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(_sent(await gateway.shadows.next(), gateway, ids=ids, report_bug=report_bug))


async def _sent(copy: Copy, gateway: Gateway, *, ids: Ids, report_bug: Callable[[str, BaseException], None]) -> None:
    receipt: Receipt | None = None
    try:
        receipt = await _answered(copy, gateway, ids=ids)
    except LedgerUnavailable:
        gateway.shadows.drop(Dropped.NO_ROOM)
    except NoPlace:
        gateway.shadows.drop(Dropped.UNFIT)
    except Exception as bug:
        report_bug(copy.asked.facts.request_id, bug)
    finally:
        gateway.shadows.ended(
            rule=spill_key(model=copy.asked.facts.model, rule=copy.plan.rule),
            charge=ZERO if receipt is None else receipt.charge,
            at_s=gateway.clock.monotonic_s(),
        )


async def _answered(copy: Copy, gateway: Gateway, *, ids: Ids) -> Receipt | None:
    """The copy's receipt; None when the shadow cannot serve it now. Raises LedgerUnavailable, or NoPlace where it turns
    out to serve another model: nothing was sent."""
    asked = _as_its_own(copy.asked, gateway, ids=ids)
    name, policy = copy.plan.shadow, copy.snapshot.policy
    assert name is not None, "only a plan that names a shadow is copied"
    seen = gateway.fleet.view(at_s=asked.arrived_s).get(name)
    if seen is None or any(reject(asked.facts, policy.targets[name], seen) for _, reject in FILTERS):
        gateway.shadows.drop(Dropped.UNFIT)
        return None
    plan = _plan(copy.plan, name, seen)
    draft = ReceiptDraft(
        facts=asked.facts,
        at_us=asked.at_us,
        started_s=asked.arrived_s,
        caller_label=asked.caller_label,
        policy_digest=policy.digest,
        decision=plan,
        shadow_of=copy.asked.facts.request_id,
    )
    snapshot = Snapshot(policy=policy, fleet={name: seen}, at=copy.snapshot.at)
    budgets = gateway.treasury.budgets_of(asked.facts, policy)
    held = _held(asked, name, budgets, snapshot, draft, gateway) if budgets else None
    if budgets and held is None:
        gateway.shadows.drop(Dropped.NO_ROOM)
        return None
    cap = None if held is None else held.output_tokens_cap
    outcome, status = await _served(asked, plan, snapshot, draft, gateway, output_tokens_cap=cap)
    receipt = draft.receipt(outcome=outcome, status=status, now_s=gateway.clock.monotonic_s())
    # Where it cannot be made durable its intent books it; what it cost counts for the cap all the same.
    with contextlib.suppress(LedgerUnavailable):
        await settle(receipt, gateway)
    return receipt


def _held(
    asked: Asked,
    name: str,
    budgets: tuple[Budget, ...],
    snapshot: Snapshot,
    draft: ReceiptDraft,
    gateway: Gateway,
) -> AttemptNeeds | None:
    """What is set aside for it; None: there is no room. A copy spends of its caller's budgets as an answer does, but no
    money is waited for or asked for."""
    at = datetime.fromtimestamp(asked.at_us / 1e6, UTC).astimezone(snapshot.policy.timezone)
    try:
        needs = attempt_needs(asked, name, budgets=budgets, snapshot=snapshot, spent=ZERO)
    except BadRequest:
        return None
    found = gateway.treasury.hold_now(needs.needs, at=at)
    if isinstance(found, Short):
        return None
    draft.holds = found
    return needs


async def _served(
    asked: Asked,
    plan: Plan,
    snapshot: Snapshot,
    draft: ReceiptDraft,
    gateway: Gateway,
    *,
    output_tokens_cap: int | None,
) -> tuple[Outcome, int]:
    """How the copy ended, and the status a caller would have seen. Raises LedgerUnavailable or NoPlace: nothing was
    dispatched."""
    route = replace(snapshot.policy.routes[asked.facts.model], attempts=1, hedge_after_s=None)
    leash = gateway.leashes.leash(route.timeouts.total_s)
    error: BreakevenError
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
                output_tokens_cap=output_tokens_cap,
            )
            async with await dispatch(errand, []) as visit:
                assert visit.answer is not None, "an opened visit has its answer"
                if asked.facts.stream:
                    await relay(visit, _throw_away, gateway)
                else:
                    await fetch(visit)
            return Outcome.COMPLETE, visit.answer.status
    except TimeoutError:
        error, outcome = too_long(plan.order[0]), Outcome.BROKEN
    except TargetFailure as failure:
        error, outcome = failure, Outcome.REFUSED if failure.kind in CALLERS_FAULT else Outcome.BROKEN
    except (LedgerUnavailable, NoPlace):
        gateway.treasury.release(draft.receipt(outcome=Outcome.REFUSED, status=0, now_s=gateway.clock.monotonic_s()))
        raise
    except BaseException:  # a bug too: what was dispatched is booked, and what was held is free again
        now_s = gateway.clock.monotonic_s()
        settle_without_waiting(draft.receipt(outcome=Outcome.INTERRUPTED, status=0, now_s=now_s), gateway)
        raise
    return outcome, gateway.status_of(error)


def offer_copy(asked: Asked, plan: Plan, snapshot: Snapshot, gateway: Gateway) -> None:
    """Let a copy of this answered request wait for its turn, unless there are too many or the rule's cap is spent."""
    rule = next(rule for rule in snapshot.policy.routes[asked.facts.model].rules if rule.name == plan.rule)
    shadow = rule.shadow
    assert isinstance(shadow, Shadow), "a plan names a shadow only where its rule does"
    gateway.shadows.offer(
        Copy(asked=asked, plan=plan, snapshot=snapshot),
        rule=spill_key(model=asked.facts.model, rule=rule.name),
        most_per_day=shadow.most_per_day,
        at_s=gateway.clock.monotonic_s(),
    )


def _as_its_own(asked: Asked, gateway: Gateway, *, ids: Ids) -> Asked:
    """The same request under an id of its own, arriving now."""
    at_us = gateway.clock.unix_us()
    facts = replace(asked.facts, request_id=ids.request_id(at_us=at_us))
    return replace(asked, facts=facts, at_us=at_us, arrived_s=gateway.clock.monotonic_s())


def _plan(plan: Plan, name: str, seen: TargetSeen) -> Plan:
    candidate = Candidate(target=name, rejected=None, place=0, seen=seen)
    return Plan(rule=plan.rule, prefer=SHADOW, order=(name,), candidates=(candidate,))


async def _throw_away(raw: bytes) -> None:
    """Nobody waits for a copy: it is read as fast as it comes, and not kept."""
