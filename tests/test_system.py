from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.system import RandomIds, SteadyClock, SystemClock, jitter, random_bytes


def test_an_id_is_a_canonical_uuid_of_version_seven_with_the_given_time() -> None:
    at_us = 1_795_435_200_123_456
    text = RandomIds().request_id(at_us=at_us)
    made = UUID(text)
    assert str(made) == text
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == at_us // 1000


def test_ten_thousand_ids_of_one_moment_are_all_different() -> None:
    ids = RandomIds()
    assert len({ids.request_id(at_us=1) for _ in range(10_000)}) == 10_000


def test_ids_of_later_moments_sort_behind() -> None:
    ids = RandomIds()
    made = [ids.request_id(at_us=ms * 1000) for ms in range(1000)]
    assert made == sorted(made)


@pytest.mark.parametrize("kind", [SystemClock, SteadyClock])
def test_the_clocks_run_forward(kind: type[SystemClock]) -> None:
    clock = kind()
    assert clock.monotonic_s() <= clock.monotonic_s()
    assert clock.unix_us() > 1_700_000_000_000_000
    assert clock.today().isoformat() >= "2026-11-23"


def test_a_steady_clock_begins_as_the_machines_and_jumps_only_when_it_is_put_right() -> None:
    steady, machine = SteadyClock(), SystemClock()
    assert abs(steady.unix_us() - machine.unix_us()) < 60_000_000
    day_us = 86_400_000_000
    before_us = steady.unix_us()
    steady.put_right(-day_us)
    assert before_us - day_us <= steady.unix_us() < before_us
    assert steady.today() < datetime.fromtimestamp(before_us / 1e6, UTC).date()
    steady.put_right(day_us)
    assert steady.unix_us() >= before_us
    assert steady.monotonic_s() <= machine.monotonic_s()


def test_chance_has_its_size() -> None:
    assert len(random_bytes(7)) == 7
    assert 0 <= jitter() < 1
