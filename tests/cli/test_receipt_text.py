"""A receipt for people."""

from __future__ import annotations

from app.cli.receipt_text import receipt_lines, receipt_table
from app.domain.errors import FaultKind
from app.domain.ledger.receipt import HEDGE_LOST, hedged_flag
from app.domain.ledger.view import receipt_view
from app.domain.metering.measurement import Outcome
from app.domain.routing.plan import Candidate, Refusal, RefusalReason
from app.domain.target import TargetSeen
from tests.makers import a_plan, a_receipt, an_attempt, some_facts


def test_an_answer_shows_route_reasons_tokens_speed_and_charge() -> None:
    lines = list(receipt_lines(receipt_view(a_receipt(facts=some_facts(stream=True)))))
    told = dict(lines)
    assert told["route"] == 'chat → home (self-hosted) by rule "the rule": complete, status 200, chat, streamed'
    assert told["why"] == 'Rule "the rule" matched; it prefers listed; first choice: home.'
    assert told["tokens"] == "900 prompt (128 cached) + 100 output, source: provider final"
    assert told["speed"] == "TTFT 250.0 ms, TPOT 20.0 ms, 50.0 tokens/s, 2.30 s in all"
    assert told["price"].startswith("USD per million tokens: prompt 0.25, cached 0.025, output 2 ")
    assert told["took"] == "2.31 s, of which the gateway 0.4 ms before the dispatch"
    assert told["charge"] == "$0.0003962"


def test_a_time_that_nobody_saw_the_end_of_is_a_dash() -> None:
    told = dict(receipt_lines(receipt_view(a_receipt(an_attempt(duration_s=0.0, ttft_s=None), duration_s=0.0))))
    assert told["took"].startswith("–, of which")
    assert told["speed"].startswith("– in all")


def test_the_status_of_an_interrupted_request_is_a_dash() -> None:
    told = dict(receipt_lines(receipt_view(a_receipt(outcome=Outcome.INTERRUPTED, status=499))))
    assert told["route"].endswith(": interrupted, status –, chat")


def test_a_request_that_failed_at_the_only_target_asked_says_why() -> None:
    broke = an_attempt(
        outcome=Outcome.REFUSED,
        fault=FaultKind.REFUSED_CONNECTION,
        fault_message="home refused the connection; start it",
        ttft_s=None,
    )
    receipt = a_receipt(broke, outcome=Outcome.BROKEN, status=503, facts=some_facts(stream=True))
    told = dict(receipt_lines(receipt_view(receipt)))
    assert told["failed"] == "home refused the connection; start it"
    assert told["speed"].endswith("in all (no token came)")


def test_every_attempt_is_told_when_there_were_several() -> None:
    receipt = a_receipt(
        an_attempt(
            target="home", outcome=Outcome.BROKEN, fault=FaultKind.CUT, fault_message="it broke off", ttft_s=None
        ),
        an_attempt(target="away", number=2),
        decision=a_plan("home", "away"),
    )
    lines = list(receipt_lines(receipt_view(receipt)))
    assert ("attempt 1", "home (self-hosted): broken: it broke off") in lines
    assert ("attempt 2", "away (self-hosted): complete") in lines
    assert any("measured on streams" in text for label, text in lines if label == "speed")


def test_a_hedge_is_told_in_words_and_the_route_is_the_targets_that_answered() -> None:
    receipt = a_receipt(
        an_attempt(target="home"),
        an_attempt(target="away", number=2, outcome=Outcome.ABANDONED, ttft_s=None, flags=(HEDGE_LOST,)),
        decision=a_plan("home", "away"),
        flags=(hedged_flag(first="home", second="away", after_s=0.7),),
    )
    lines = list(receipt_lines(receipt_view(receipt)))
    told = dict(lines)
    assert told["route"].startswith("chat → home (self-hosted)")
    assert told["why"] == "After 700 ms without an answer from home, away was asked too."
    assert told["attempt 1"] == "home (self-hosted): complete"
    assert told["attempt 2"].endswith(": abandoned, as the other of two that were asked began to answer first")
    assert told["flags"] == "hedge_lost, hedged"


def test_a_refusal_shows_why_nobody_was_taken() -> None:
    away = Candidate(target="away", rejected="its credential env:X is not set", filter="credential", seen=TargetSeen())
    refusal = Refusal(reason=RefusalReason.NO_TARGET, rule="all", message="nobody", candidates=(away,))
    receipt = a_receipt(decision=refusal, outcome=Outcome.REFUSED, status=503, attempts=())
    view = {**receipt_view(receipt), "attempts": [], "target": None}
    told = list(receipt_lines(view))
    assert ("route", 'chat → no target by rule "all": refused, status 503, chat') in told
    assert ("", "away was not taken: its credential env:X is not set.") in told


def test_the_table_has_a_row_for_each_line() -> None:
    view = receipt_view(a_receipt())
    assert receipt_table(view).row_count == len(list(receipt_lines(view)))


def test_a_copy_for_a_shadow_says_of_which_request() -> None:
    lines = dict(receipt_lines(receipt_view(a_receipt(shadow_of="the-other"))))
    assert "the-other" in lines["copy"]
    assert "copy" not in dict(receipt_lines(receipt_view(a_receipt())))
