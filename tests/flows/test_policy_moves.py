"""Which past requests would go elsewhere (`app.flows.policy_moves`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from app.documents.compile import compile_policy
from app.domain.ledger.receipt import Receipt
from app.domain.routing.decide import decide
from app.domain.routing.facts import Endpoint
from app.domain.routing.plan import Plan
from app.flows.policy_archive import NotValid, RevisionUnknown
from app.flows.policy_dry_run import quiet_snapshot
from app.flows.policy_moves import NO_MODEL, diff_view, moves_of, policy_diff
from app.ports import BooksAway
from tests.archive import BROKEN, FILES, MODELS, TARGETS, TURNED, Cellar
from tests.makers import NOON, a_caller, a_receipt, an_attempt, some_facts
from tests.mixed_traffic import FILES as MIXED
from tests.mixed_traffic import LATER_FILES as MIXED_LATER
from tests.mixed_traffic import traffic


def a_request(number: int, *, files: Mapping[str, str] = FILES, **facts: object) -> Receipt:
    """Decided by these files on a quiet day."""
    policy = compile_policy(files).policy
    request_id = f"019ab000-0000-7000-8000-{number:012d}"
    asked = some_facts(request_id=request_id, **facts)
    decision = decide(asked, quiet_snapshot(policy, at=NOON))
    return a_receipt(
        an_attempt(attempt_id=f"{request_id}/1"),
        request_id=request_id,
        facts=asked,
        decision=decision,
        policy_digest=policy.digest,
    )


async def test_the_requests_that_would_go_elsewhere_are_named_newest_first_and_counted_by_their_way() -> None:
    cellar = Cellar()
    digest = await cellar.remember(TURNED)
    lawyers = [a_request(number, caller=a_caller(team="legal")) for number in (1, 2)]
    others = [a_request(number) for number in (3, 4, 5)]
    await cellar.book([*lawyers, *others])
    made = await policy_diff(cellar.archive(), "files", digest[:5], last=1000)
    assert [str(change) for change in made.changes] == ['model chat: rule "everybody": use [home, api] → [api, home]']
    assert made.moves.looked_at == 5
    assert [move.request_id[-1] for move in made.moves.moved] == ["5", "4", "3"]
    assert made.moves.ways() == (("home", "api", 3),)
    assert (made.moves.moved[0].rule_before, made.moves.moved[0].assumed) == ("everybody", False)
    view = json.loads(json.dumps(diff_view(made)))
    assert view["requests"]["ways"] == [{"from": "home", "to": "api", "count": 3}]
    assert len(view["requests"]["ids"]) == 3


async def test_only_the_last_ones_are_looked_at_over_as_many_pages_as_it_takes() -> None:
    cellar = Cellar()
    cellar.shelf.files = TURNED
    digest = await cellar.remember(FILES)
    first = a_request(0)
    await cellar.book(_renumbered(first, number) for number in range(1, 1203))
    for last in (0, 1, 500, 501, 1100):
        made = await policy_diff(cellar.archive(), digest, "files", last=last)
        assert made.moves.looked_at == len(made.moves.moved) == last
    everything = await policy_diff(cellar.archive(), digest, "files", last=9999)
    assert everything.moves.looked_at == 1202
    assert (everything.moves.oldest_us, everything.moves.newest_us) == (first.at_us, first.at_us)


def test_refusals_and_missing_models_are_places_too() -> None:
    policy = compile_policy(FILES).policy
    only_api = compile_policy({**FILES, "models.yaml": MODELS.replace("[home, api]", "[api]")}).policy
    renamed = compile_policy({**FILES, "models.yaml": MODELS.replace("  chat:", "  chatter:")}).policy
    completion = a_request(1, endpoint=Endpoint.COMPLETIONS)
    tools = a_request(2, has_tools=True, caller=a_caller(team="legal"))
    (move,) = moves_of([completion], old=policy, new=only_api).moved
    assert (move.before, move.after, move.rule_after) == ("home", "refused (no_target)", "everybody")
    (gone,) = moves_of([tools], old=policy, new=renamed).moved
    assert (gone.before, gone.after, gone.rule_after) == ("refused (no_target)", NO_MODEL, None)


def test_other_fallbacks_are_counted_apart() -> None:
    policy = compile_policy(FILES).policy
    alone = compile_policy({**FILES, "models.yaml": MODELS.replace("[home, api]", "[home]")}).policy
    moves = moves_of([a_request(1)], old=policy, new=alone)
    assert (moves.moved, moves.refallen) == ((), 1)


def test_a_target_that_nobody_looked_at_then_is_taken_for_idle_and_the_move_says_so() -> None:
    policy = compile_policy({**FILES, "models.yaml": MODELS.replace("[home, api]", "[home]")}).policy
    turned = compile_policy(TURNED).policy
    receipt = a_request(1, files={**FILES, "models.yaml": MODELS.replace("[home, api]", "[home]")})
    assert [candidate.target for candidate in receipt.decision.candidates] == ["home"]
    (move,) = moves_of([receipt], old=policy, new=turned).moved
    assert (move.after, move.assumed) == ("api", True)


def test_what_was_seen_then_counts_and_a_price_of_the_policy_is_that_policys() -> None:
    models = MODELS.replace("[home, api]", "[home, api]\n        prefer: cheapest")
    for_nothing = TARGETS.replace("{prompt: 0.25, cached_prompt: 0.025, completion: 2.00}", "{prompt: 0, FREE}")
    for_nothing = for_nothing.replace("FREE", "cached_prompt: 0, completion: 0")
    dear_at_home = for_nothing.replace("usd_per_hour: 0.80", "usd_per_hour: 0.80, marginal_usd_per_hour: 0.80")
    cheap = {"models.yaml": models, "targets.yaml": TARGETS}
    free = {"models.yaml": models, "targets.yaml": dear_at_home}
    old, new = (compile_policy(files).policy for files in (cheap, free))
    receipt = a_request(1, files=cheap)
    (move,) = moves_of([receipt], old=old, new=new).moved
    assert (move.before, move.after) == ("home", "api")
    away = replace(
        receipt,
        decision=replace(
            receipt.decision,
            candidates=tuple(
                replace(one, seen=replace(one.seen, credential_present=one.target != "api"))
                for one in receipt.decision.candidates
            ),
        ),
    )
    assert moves_of([away], old=old, new=new).moved == (), "its credential was not there then"


def test_copies_for_a_shadow_do_not_count() -> None:
    policy, turned = compile_policy(FILES).policy, compile_policy(TURNED).policy
    copy = replace(a_request(1), shadow_of="019ab000-0000-7000-8000-000000000009")
    assert moves_of([copy], old=policy, new=turned).looked_at == 0


def test_under_the_policy_that_decided_every_request_goes_where_it_went_whatever_was_going_on() -> None:
    policy, later = compile_policy(MIXED).policy, compile_policy(MIXED_LATER).policy
    receipts = {one.request_id: one for one in traffic(policy, count=400, seed=9)}
    moves = moves_of(list(receipts.values()), old=policy, new=later)
    assert 0 < len(moves.moved) < moves.looked_at == 400
    assert sum(count for *_, count in moves.ways()) == len(moves.moved)
    for move in moves.moved:
        decision = receipts[move.request_id].decision
        went = decision.order[0] if isinstance(decision, Plan) else f"refused ({decision.reason.value})"
        assert (move.before, move.rule_before) == (went, decision.rule)


async def test_a_policy_that_is_not_valid_or_not_known_is_named() -> None:
    cellar = Cellar()
    bad = await cellar.remember(BROKEN, in_force=False)
    with pytest.raises(NotValid) as caught:
        await policy_diff(cellar.archive(), "files", bad, last=10)
    assert caught.value.name == bad
    with pytest.raises(RevisionUnknown, match="ffff"):
        await policy_diff(cellar.archive(), "ffff", "files", last=10)
    cellar.ledger.away = True
    with pytest.raises(BooksAway):
        await policy_diff(cellar.archive(), "files", "files", last=10)


def _renumbered(receipt: Receipt, number: int) -> Receipt:
    request_id = f"019ab000-0000-7000-8000-{number:012d}"
    attempt = an_attempt(attempt_id=f"{request_id}/1")
    facts = replace(receipt.facts, request_id=request_id)
    return replace(receipt, request_id=request_id, facts=facts, attempts=(attempt,))
