"""What may be done for the caller of a stream that broke."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.engine import EngineFamily
from app.domain.errors import FaultKind, TargetFailure
from app.domain.recovering import Recourse, after_break, can_continue
from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Recovery
from app.domain.telling import Said, Telling
from tests.makers import a_target, some_facts

FAMILY = EngineFamily(name="own", title="an own engine", continues={"go_on": True})
TARGETS = {
    "first": replace(a_target("first"), family=FAMILY),
    "deaf": a_target("deaf"),
    "able": replace(a_target("able"), family=FAMILY),
}


def _after(
    recovery: Recovery, said: Said, *, kind: FaultKind = FaultKind.CUT, endpoint: Endpoint = Endpoint.CHAT
) -> Recourse | None:
    telling = Telling()
    telling.hear(said)
    return after_break(
        TargetFailure("it broke", kind=kind, target="first"),
        recovery=recovery,
        telling=telling,
        facts=some_facts(endpoint=endpoint),
        fields={"messages": b"[]", "prompt": b'"Say"'},
        order=tuple(TARGETS),
        targets=TARGETS,
    )


HELLO = Said(index=0, texts={"content": "Hello"})


def test_to_answer_anew_every_target_may_be_asked() -> None:
    assert _after(Recovery.RESTART, HELLO) == Recourse(order=("first", "deaf", "able"))


def test_to_go_on_those_are_asked_that_can() -> None:
    assert _after(Recovery.CONTINUE, HELLO) == Recourse(order=("first", "able"), prefix="Hello")


def test_every_target_can_go_on_with_a_completion() -> None:
    said = Said(index=0, texts={"text": "Hello"})
    assert _after(Recovery.CONTINUE, said, endpoint=Endpoint.COMPLETIONS) == Recourse(
        order=("first", "deaf", "able"), prefix="Hello"
    )
    assert not can_continue(TARGETS["deaf"], Endpoint.CHAT)


@pytest.mark.parametrize("recovery", [Recovery.ERROR, Recovery.BUFFER])
def test_the_others_let_the_break_stand(recovery: Recovery) -> None:
    assert _after(recovery, HELLO) is None


@pytest.mark.parametrize("recovery", list(Recovery))
def test_what_cannot_be_compared_is_not_recovered(recovery: Recovery) -> None:
    assert _after(recovery, Said(index=0, texts={"content": "Let me"}, opaque=True)) is None


@pytest.mark.parametrize("recovery", list(Recovery))
def test_what_no_other_could_mend_is_not_recovered(recovery: Recovery) -> None:
    assert _after(recovery, HELLO, kind=FaultKind.NOT_REPRODUCED) is None


def test_reasoning_is_reproduced_but_cannot_be_gone_on_with() -> None:
    thought = Said(index=0, texts={"reasoning_content": "hm"})
    assert _after(Recovery.CONTINUE, thought) is None
    assert _after(Recovery.RESTART, thought) is not None
