"""The first signal ends the work, the second one asks for haste."""

from __future__ import annotations

import os
import signal

import pytest

from app.cli.signals import ENDINGS, Endings


@pytest.mark.parametrize("number", ENDINGS)
def test_the_first_signal_interrupts_and_the_second_only_asks_for_haste(number: signal.Signals) -> None:
    with Endings() as endings:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert not endings.hurry
        os.kill(os.getpid(), number)
        assert endings.hurry


def test_while_the_work_is_being_ended_nothing_is_raised() -> None:
    with Endings() as endings:
        assert endings.begin_ending() is False
        os.kill(os.getpid(), signal.SIGTERM)
        assert endings.hurry


def test_ending_knows_whether_a_signal_came_before() -> None:
    with Endings() as endings:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert endings.begin_ending() is True


def test_what_stood_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Endings():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
