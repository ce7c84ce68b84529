from __future__ import annotations

from uuid import UUID

from app.system import RandomIds, SystemClock, jitter, random_bytes


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


def test_the_clocks_run_forward() -> None:
    clock = SystemClock()
    assert clock.monotonic_s() <= clock.monotonic_s()
    assert clock.unix_us() > 1_700_000_000_000_000
    assert clock.today().isoformat() >= "2026-11-23"


def test_chance_has_its_size() -> None:
    assert len(random_bytes(7)) == 7
    assert 0 <= jitter() < 1
