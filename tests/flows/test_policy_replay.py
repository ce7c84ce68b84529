"""Past decisions, made again (`app.flows.policy_replay`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.documents.compile import Compiled, compile_policy, digest_of
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.domain.routing.decide import decide
from app.domain.routing.plan import Plan, Refusal, RefusalReason
from app.domain.routing.replay import replayed
from app.flows.policy_dry_run import quiet_snapshot
from app.flows.policy_replay import (
    RequestUnknown,
    Verdict,
    differences_of,
    explain_request,
    explained_view,
    made_again,
    plain,
)
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.policy_history import PostgresPolicyHistory
from app.storage.receipt_json import decode, encode
from tests.archive import FILES, TURNED, Cellar
from tests.makers import NOON, REQUEST_ID, a_caller, a_plan, a_receipt, some_facts
from tests.mixed_traffic import FILES as MIXED
from tests.mixed_traffic import LATER_FILES as MIXED_LATER
from tests.mixed_traffic import traffic
from tests.ports.policy_history_suite import a_revision


def a_decided_receipt(**named: object) -> Receipt:
    """Decided by FILES on a quiet day."""
    policy = compile_policy(FILES).policy
    facts = some_facts(**named)
    decision = decide(facts, quiet_snapshot(policy, at=NOON))
    return a_receipt(facts=facts, decision=decision, policy_digest=policy.digest, at_us=int(NOON.timestamp()) * 10**6)


def assert_replays(receipts: Sequence[Receipt], compiled: Compiled) -> None:
    """Equal as values, as plain values, and as the bytes that the spool would hold."""
    for receipt in receipts:
        explained = made_again(receipt, compiled.policy)
        assert explained.verdict is Verdict.SAME, (receipt, explained.differences)
        again = replayed(receipt.facts, receipt.decision, at_us=receipt.at_us, policy=compiled.policy)
        assert again is not None
        assert again == receipt.decision
        assert encode(replace(receipt, decision=again)) == encode(receipt)


def test_ten_thousand_decisions_of_mixed_traffic_come_out_the_same_from_their_receipts() -> None:
    seen: Counter[object] = Counter()
    for files, seed in ((MIXED, 1), (MIXED_LATER, 2)):
        compiled = compile_policy(files)
        receipts = list(traffic(compiled.policy, count=5000, seed=seed))
        kept = [decode(encode(receipt)) for receipt in receipts]
        assert kept == receipts
        assert_replays(kept, compiled)
        for receipt in receipts:
            decision = receipt.decision
            seen.update([(type(decision), receipt.facts.model, decision.rule), type(decision)])
            seen.update(candidate.filter for candidate in decision.candidates)
            if isinstance(decision, Plan):
                seen.update([("prefers", decision.prefer)])
                seen.update(name for name in ("home", "shadow", "spilled") if getattr(decision, name))
    assert seen[Plan] + seen[Refusal] == 10_000
    assert seen[Refusal] > 1000
    assert {
        prefer for prefer in ("listed", "cheapest", "fastest", "balanced", "weighted") if seen["prefers", prefer]
    } == {"listed", "cheapest", "fastest", "balanced", "weighted"}
    assert min(seen[name] for name in ("home", "shadow", "spilled")) > 20
    every = {"endpoint", "features", "context", "data_class", "credential", "price", "circuit", "rate", "room"}
    assert every | {"spill", "spill_cap"} <= set(seen)
    rules = {rule.name for route in compiled.policy.routes.values() for rule in route.rules}
    assert {key[2] for key in seen if isinstance(key, tuple) and key[0] is Plan} == rules


async def test_two_thousand_of_them_come_out_the_same_from_the_books_in_postgres(database: Database) -> None:
    compiled = compile_policy(MIXED)
    receipts = list(traffic(compiled.policy, count=2000, seed=3))
    book, history = PostgresLedgerBook(database), PostgresPolicyHistory(database)
    for begin in range(0, len(receipts), 250):
        await book.book([encode(receipt) for receipt in receipts[begin : begin + 250]])
    revision = a_revision(digest_of(MIXED), files=MIXED)
    await history.remember(revision)
    found = await history.find(receipts[0].policy_digest)
    assert found is not None
    read: list[Receipt] = []
    while page := await book.latest(most=500, before=read[-1].request_id if read else None):
        read.extend(page)
    assert read == list(reversed(receipts))
    assert_replays(read, compile_policy(found.files))


async def test_a_request_is_explained_with_its_policy_and_comes_out_the_same() -> None:
    cellar = Cellar()
    await cellar.remember(FILES)
    await cellar.book([a_decided_receipt()])
    explained = await explain_request(cellar.archive(), REQUEST_ID)
    assert (explained.verdict, explained.differences) == (Verdict.SAME, ())
    view = explained_view(explained)
    assert view["revision"] == {"digest": digest_of(FILES), "author": "Ada", "seen_at": "2026-11-23T12:00:00Z"}
    assert json.loads(json.dumps(view))["decision"]["order"] == ["home", "api"]
    assert "the same, bit for bit" in explained.sentence


async def test_a_receipt_that_was_tampered_with_says_exactly_which_part_differs() -> None:
    cellar = Cellar()
    await cellar.remember(FILES)
    receipt = a_decided_receipt()
    assert isinstance(receipt.decision, Plan)
    first, second = receipt.decision.candidates
    dearer = replace(first, expected_charge=Nanodollars(1))
    tampered = replace(receipt.decision, order=("api", "home"), candidates=(dearer, second))
    await cellar.book([replace(receipt, decision=tampered)])
    explained = await explain_request(cellar.archive(), REQUEST_ID)
    assert explained.verdict is Verdict.DIFFERENT
    assert [difference.path for difference in explained.differences] == ["order", "candidates.home.expected_charge"]
    assert str(explained.differences[0]) == "order: it was ['api', 'home'], and comes out as ['home', 'api']"
    assert "differs in 2 of its values" in explained.sentence


async def test_a_decision_whose_policy_is_not_in_the_history_says_so() -> None:
    cellar = Cellar()
    await cellar.book([a_decided_receipt()])
    explained = await explain_request(cellar.archive(), REQUEST_ID)
    assert (explained.verdict, explained.again) == (Verdict.NO_REVISION, None)
    assert digest_of(FILES) in explained.sentence
    assert explained_view(explained)["revision"] is None


async def test_a_policy_that_is_not_valid_today_says_why() -> None:
    cellar = Cellar()
    old = {"models.yaml": "models: {chat: {rulez: []}}\n"}
    digest = await cellar.remember(old)
    await cellar.book([replace(a_decided_receipt(), policy_digest=digest)])
    explained = await explain_request(cellar.archive(), REQUEST_ID)
    assert explained.verdict is Verdict.NOT_VALID_TODAY
    assert any("rulez" in finding.message for finding in explained.findings)
    assert "no valid policy" in explained.sentence


async def test_a_shadows_copy_points_to_the_request_it_copies() -> None:
    cellar = Cellar()
    await cellar.remember(FILES)
    other = REQUEST_ID[:-1] + "9"
    await cellar.book([replace(a_decided_receipt(), shadow_of=other)])
    explained = await explain_request(cellar.archive(), REQUEST_ID)
    assert explained.verdict is Verdict.COPY
    assert other in explained.sentence


@pytest.mark.parametrize("request_id", [REQUEST_ID, "' or 1=1", "", "\0"])
async def test_a_request_that_is_not_in_the_books_is_a_sentence(request_id: str) -> None:
    with pytest.raises(RequestUnknown, match="take the id from the header x-request-id"):
        await explain_request(Cellar().archive(), request_id)


def test_another_policy_gives_another_decision_and_a_policy_without_the_model_none() -> None:
    receipt = a_decided_receipt()
    turned = made_again(receipt, compile_policy(TURNED).policy)
    assert turned.verdict is Verdict.DIFFERENT
    assert [one.path for one in turned.differences] == [
        "order",
        "candidates.home.place",
        "candidates.api.place",
        "candidates",
    ]
    renamed = {**FILES, "models.yaml": FILES["models.yaml"].replace("  chat:", "  chatter:")}
    gone = made_again(receipt, compile_policy(renamed).policy)
    assert (gone.verdict, gone.again) == (Verdict.DIFFERENT, None)
    assert "no such model" in str(gone.differences[0])


def test_differences_are_stricter_than_equality() -> None:
    plan = a_plan()
    (candidate,) = plan.candidates
    for one, other in ((0.0, -0.0), (0.0, 0), (1, True)):
        pair = [
            replace(plan, candidates=(replace(candidate, seen=replace(candidate.seen, saturation=value)),))
            for value in (one, other)
        ]
        assert pair[0] == pair[1]
        assert [each.path for each in differences_of(*pair)] == ["candidates.home.seen.saturation"]


def test_a_plan_that_comes_out_as_a_refusal_is_one_difference() -> None:
    refusal = Refusal(reason=RefusalReason.NO_TARGET, rule="the rule", message="none")
    (difference,) = differences_of(a_plan(), refusal)
    assert (difference.then, difference.now) == ("a plan (home first)", "a refusal (no_target)")


def test_plain_values_are_what_json_can_say_and_sets_are_sorted() -> None:
    facts = some_facts(caller=a_caller(models=frozenset({"b", "a"})))
    assert plain(facts) == json.loads(json.dumps(plain(facts)))
    assert plain(facts)["caller"]["models"] == ["a", "b"]  # type: ignore[index]
