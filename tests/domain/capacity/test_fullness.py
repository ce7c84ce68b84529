"""`app.domain.capacity.fullness`: full is who lets nobody in though steps pass, and not who lets wait for a moment."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from app.domain.capacity.fullness import MEMORY_FULL, STEPS_TO_BELIEVE, STEPS_TO_DOUBT, Fullness, Poll


def _after(polls: Iterable[Poll], fullness: Fullness | None = None) -> Fullness:
    said = fullness or Fullness()
    for poll in polls:
        said = said.after(poll)
    return said


def _full(*, running: int, polls: int = 3, waiting: int = 9, at_step: int = 0) -> list[Poll]:
    """Polls of an engine that makes ten steps from one to the next and lets nobody in."""
    return [
        Poll(running=running, waiting=waiting, tokens=10.0 * running * (at_step + number), begun=100.0)
        for number in range(polls)
    ]


def test_what_it_says_itself_stands_where_nobody_waits() -> None:
    for waiting in (0, 3):
        fullness = _after([Poll(running=40, waiting=waiting)])
        assert fullness.places(slots=64) == 64
        assert fullness.places(slots=None) is None


def test_who_waits_at_one_poll_alone_only_came_during_a_step() -> None:
    polls = [Poll(running=1, waiting=number % 2, tokens=50.0 * number, begun=number) for number in range(20)]
    assert _after(polls).places(slots=None) is None


def test_one_that_lets_in_as_many_as_waited_is_not_full_though_somebody_waits_at_every_poll() -> None:
    polls = [Poll(running=2, waiting=1, tokens=50.0 * number, begun=number) for number in range(20)]
    assert _after(polls).places(slots=None) is None


def test_one_that_runs_more_at_every_poll_is_not_full() -> None:
    polls = [Poll(running=number, waiting=5, tokens=1_000.0 * number) for number in range(12)]
    assert _after(polls).places(slots=None) is None


def test_a_long_prompt_during_which_no_step_ends_tells_nothing() -> None:
    assert _after([Poll(running=1, waiting=3, tokens=7.0, begun=5)] * 20).places(slots=None) is None


def test_steps_that_let_nobody_in_tell_how_many_it_works_on_at_once() -> None:
    fullness = _after(_full(running=16))
    assert fullness.places(slots=None) == 16
    assert fullness.places(slots=64) == 16
    assert fullness.places(slots=8) == 8


def test_one_that_tells_no_totals_is_believed_after_some_polls() -> None:
    polls = [Poll(running=16, waiting=2)] * (int(STEPS_TO_BELIEVE) + 1)
    assert _after(polls[:-1]).places(slots=None) is None
    assert _after(polls).places(slots=None) == 16


def test_places_once_learned_are_known_when_nobody_waits_and_grow_with_what_runs() -> None:
    fullness = _after(_full(running=15)).after(Poll(running=3, waiting=0, tokens=9_000.0, begun=120.0))
    assert fullness.places(slots=None) == 15
    assert fullness.after(Poll(running=16, waiting=0, tokens=9_100.0, begun=121.0)).places(slots=None) == 16


def test_a_full_memory_is_believed_at_once_and_teaches_no_places() -> None:
    full = Poll(running=5, waiting=1, memory_used=MEMORY_FULL)
    assert _after([full]).places(slots=64) == 5
    assert _after([full] * 20).full_with is None
    assert _after([full, Poll(running=5, waiting=0, memory_used=0.5)]).places(slots=None) is None


def test_a_gap_between_polls_ends_what_waited() -> None:
    polls = _full(running=16, polls=2)
    fullness = Fullness().after(polls[0]).after_a_gap().after(polls[1])
    assert fullness.places(slots=None) is None


def test_one_that_was_started_again_may_have_other_places() -> None:
    fullness = _after(_full(running=4)).after(Poll(running=0, waiting=0, tokens=0.0, begun=0.0))
    assert fullness.places(slots=None) is None


def _taken(fullness: Fullness, *, steps: float, running: int) -> Fullness:
    """All its places are taken for so many steps, ten a poll, and nobody waits."""
    tokens = fullness.last.tokens or 0.0
    for number in range(int(steps / 10) + 1):
        fullness = fullness.after(
            Poll(running=running, waiting=0, tokens=tokens + 10.0 * running * number, begun=200.0)
        )
    return fullness


def test_a_place_more_is_tried_when_all_were_taken_for_long_and_who_runs_there_proves_it() -> None:
    learned = _after(_full(running=8))
    short = _taken(learned, steps=STEPS_TO_DOUBT / 2, running=8)
    assert short.places(slots=None) == 8
    tried = _taken(learned, steps=STEPS_TO_DOUBT + 10, running=8)
    assert tried.places(slots=None) == 9
    assert _taken(tried, steps=5 * STEPS_TO_DOUBT, running=8).places(slots=None) == 9, "one at a time"
    proven = tried.after(Poll(running=9, waiting=0, tokens=1e6, begun=300.0))
    assert (proven.places(slots=None), proven.proven, proven.tried) == (9, 9, 0)


def test_who_waits_in_vain_at_a_tried_place_takes_it_back() -> None:
    tried = _taken(_after(_full(running=8)), steps=STEPS_TO_DOUBT + 10, running=8)
    assert tried.places(slots=None) == 9
    waits = [Poll(running=8, waiting=1, tokens=1e6 + 80.0 * number, begun=200.0) for number in range(3)]
    waited = _after(waits, tried)
    assert waited.places(slots=None) == 8
    assert waited.after(Poll(running=8, waiting=0, tokens=2e6, begun=201.0)).places(slots=None) == 8


def test_nothing_is_tried_where_places_are_free_or_no_limit_is_known() -> None:
    learned = _after(_full(running=8))
    assert _taken(learned, steps=3 * STEPS_TO_DOUBT, running=7).places(slots=None) == 8
    assert _taken(Fullness(), steps=3 * STEPS_TO_DOUBT, running=8).places(slots=None) is None


def test_what_passed_during_a_gap_between_polls_tries_nothing() -> None:
    learned = _taken(_after(_full(running=8)), steps=10, running=8)
    resumed = learned.after_a_gap().after(Poll(running=8, waiting=0, tokens=1e9, begun=300.0))
    assert resumed.places(slots=None) == 8


def test_what_it_says_itself_is_not_exceeded_by_trying() -> None:
    tried = _taken(_after(_full(running=8)), steps=STEPS_TO_DOUBT + 10, running=8)
    assert tried.places(slots=8) == 8


@given(
    st.lists(
        st.builds(
            Poll,
            running=st.integers(0, 64),
            waiting=st.integers(0, 64),
            tokens=st.none() | st.floats(0, 1e6),
            begun=st.none() | st.floats(0, 1e6),
            memory_used=st.none() | st.floats(0, 1),
        ),
        max_size=12,
    ),
    st.none() | st.integers(1, 64),
)
def test_it_never_has_more_places_than_it_says_nor_none_at_all(polls: list[Poll], slots: int | None) -> None:
    places = _after(polls).places(slots=slots)
    assert places is None or places >= 1
    assert slots is None or (places is not None and places <= slots)
