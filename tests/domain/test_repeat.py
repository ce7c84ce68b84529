"""`app.domain.repeat`: what an idempotency key becomes, and the seal on what is kept for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import BadRequest
from app.domain.repeat import CHARS_MOST, NAME_BYTES, TAG_BYTES, Repeat, repeat_of, sealed, unsealed

KEY = "bk_aaaaaaaa_" + "x" * 49


def a_repeat(said: bytes = b"order-66", *, api_key: str = KEY, path: str = "/v1/chat", body: bytes = b"{}") -> Repeat:
    return repeat_of([said], api_key=api_key, path=path, body=body)


def test_the_same_request_is_the_same_and_every_other_is_another() -> None:
    first = a_repeat()
    assert a_repeat() == first
    assert len(first.name) == len(first.fingerprint) == NAME_BYTES
    for other in (a_repeat(b"order-67"), a_repeat(api_key=KEY[:-1] + "y")):
        assert other.name != first.name
        assert other.fingerprint != first.fingerprint
        assert other.secret != first.secret
    for other in (a_repeat(body=b"{ }"), a_repeat(path="/v1/completions"), a_repeat(path="/v1/chat\0", body=b"")):
        assert (other.name, other.secret) == (first.name, first.secret)
        assert other.fingerprint != first.fingerprint


def test_nothing_that_leaves_the_process_is_the_secret() -> None:
    repeat = a_repeat()
    assert len({repeat.name, repeat.fingerprint, repeat.secret[:NAME_BYTES], repeat.secret[NAME_BYTES:]}) == 4


@pytest.mark.parametrize(
    "said", [[], [b"a", b"a"], [b""], [b"x" * (CHARS_MOST + 1)], [b"a\tb"], ["ü".encode()], [b"a\x00"]]
)
def test_what_is_no_key_is_refused_with_what_to_do(said: list[bytes]) -> None:
    with pytest.raises(BadRequest, match="idempotency-key") as refused:
        repeat_of(said, api_key=KEY, path="/", body=b"")
    assert refused.value.param == "idempotency-key"


def test_a_key_of_the_greatest_length_is_one() -> None:
    assert a_repeat(b"x" * CHARS_MOST) != a_repeat(b"x" * (CHARS_MOST - 1))


@given(st.binary(max_size=300))
def test_what_was_sealed_comes_back_and_is_not_to_be_seen(plain: bytes) -> None:
    repeat = a_repeat()
    kept = sealed(plain, repeat, request_id="019ab000")
    assert unsealed(kept, repeat, request_id="019ab000") == plain
    assert len(kept) == len(plain) + TAG_BYTES
    if len(plain) > 8:
        assert plain not in kept


def test_a_seal_opens_for_its_own_caller_key_and_request_alone() -> None:
    kept = sealed(b"what was answered", a_repeat(), request_id="one")
    for other in (a_repeat(b"order-67"), a_repeat(api_key=KEY[:-1] + "y")):
        assert unsealed(kept, other, request_id="one") is None
    assert unsealed(kept, a_repeat(), request_id="two") is None
    assert unsealed(b"", a_repeat(), request_id="one") is None


def test_no_bit_of_it_can_be_changed_unseen() -> None:
    kept = sealed(b"answer", a_repeat(), request_id="one")
    for place in range(len(kept) * 8):
        turned = bytearray(kept)
        turned[place // 8] ^= 1 << (place % 8)
        assert unsealed(bytes(turned), a_repeat(), request_id="one") is None


def test_two_requests_under_one_key_are_sealed_with_two_streams() -> None:
    one, two = (sealed(bytes(64), a_repeat(), request_id=name) for name in ("one", "two"))
    assert one[TAG_BYTES:] != two[TAG_BYTES:]
