from __future__ import annotations

from app.domain.routing.decide import decide
from app.domain.routing.explain import explain
from app.domain.target import TargetSeen
from tests.makers import CARD, a_snapshot, a_target, some_facts


def test_an_explanation_says_who_was_first_and_why_another_was_not_taken() -> None:
    snapshot = a_snapshot(
        a_target("home"),
        a_target("openai", credential="env:OPENAI_API_KEY"),
        openai=TargetSeen(rate_card=CARD, credential_present=False),
    )
    sentences = explain(decide(some_facts(), snapshot))
    assert sentences[0].startswith('Rule "the rule" matched')
    assert "home was the first choice" in sentences[1]
    assert sentences[2] == "openai was not taken: its credential env:OPENAI_API_KEY is not set."


def test_a_refusal_is_explained_with_every_reason() -> None:
    sentences = explain(decide(some_facts(), a_snapshot(a_target(rate_card=None), home=TargetSeen())))
    assert sentences[0] == 'Refused by rule "the rule".'
    assert "its price is not known" in sentences[1]
