from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.keys import (
    CALLER_KEY_CHARS,
    CALLER_KEY_ID,
    KeyKind,
    KeyText,
    Pepper,
    Peppers,
    key_id_of,
    read_key,
    write_key,
)

secrets = st.binary(min_size=32, max_size=32)
ids = st.binary(min_size=5, max_size=5).map(key_id_of)
KEY = write_key("abcdefgh", bytes(range(32)))


@given(ids, secrets, st.sampled_from(KeyKind))
def test_a_written_key_is_read_back_with_its_id_and_kind(key_id: str, secret: bytes, kind: KeyKind) -> None:
    text = write_key(key_id, secret, kind=kind)
    assert read_key(text) == KeyText(kind=kind, key_id=key_id)
    assert len(text) == len(kind.value) + 1 + 8 + 1 + 43 + 6
    assert text.isascii()


@given(ids, secrets, secrets)
def test_two_secrets_never_make_the_same_key(key_id: str, one: bytes, other: bytes) -> None:
    assert (write_key(key_id, one) == write_key(key_id, other)) == (one == other)


@pytest.mark.parametrize("at", range(len(KEY)))
def test_every_typo_of_one_character_is_caught_without_a_look_up(at: int) -> None:
    for wrong in "a7Zz_-0 é":
        typo = KEY[:at] + wrong + KEY[at + 1 :]
        assert typo == KEY or read_key(typo) is None


def test_two_swapped_neighbours_are_caught() -> None:
    for at in range(len(KEY) - 1):
        typo = KEY[:at] + KEY[at + 1] + KEY[at] + KEY[at + 2 :]
        assert typo == KEY or read_key(typo) is None


@pytest.mark.parametrize(
    "garbage",
    [
        *("", " ", "bk_", "' OR '1'='1", ";--", "%00", "\0", "x" * 8192, "bk_" * 3000, "ключ", "\ud800", "٣" * 61),
        *(KEY + "\n", "\n" + KEY, KEY + KEY, KEY.upper(), KEY.replace("bk", "gw"), KEY[:-1]),
        "bk_abcdefgh_" + "é" * 49,
    ],
)
def test_garbage_is_no_key(garbage: str) -> None:
    assert read_key(garbage) is None


@given(st.text(max_size=100) | st.text("bkop_abc234ABC", max_size=70))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    read_key(text)


@pytest.mark.parametrize("key_id", ["", "abc", "ABCDEFGH", "abcdefg1", "abcdefgh2", "abcd_fgh"])
def test_an_id_that_could_not_be_read_back_is_not_written(key_id: str) -> None:
    with pytest.raises(ValueError, match="key_id_of"):
        write_key(key_id, bytes(32))


def test_short_chance_is_refused() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        write_key("abcdefgh", b"short")
    with pytest.raises(ValueError, match="5 random bytes"):
        key_id_of(b"1234")
    with pytest.raises(ValueError, match="a pepper is"):
        Pepper(b"short", version=1)


@given(st.binary(min_size=32, max_size=64), st.binary(max_size=300))
def test_the_digest_is_hmac_sha_256(secret: bytes, key: bytes) -> None:
    assert Pepper(secret, version=1).digest(key) == hmac.new(secret, key, hashlib.sha256).digest()


def test_a_pepper_does_not_show_its_secret() -> None:
    assert repr(Pepper(b"s" * 32, version=3)) == "Pepper(version=3)"


def test_the_newest_pepper_has_the_highest_version() -> None:
    peppers = Peppers({version: Pepper(bytes(32), version=version) for version in (2, 10, 9)})
    assert peppers.newest.version == 10


def test_a_callers_key_has_its_id_where_it_is_looked_for() -> None:
    key = write_key("abcdefgh", b"s" * 32)
    assert (len(key), key[CALLER_KEY_ID]) == (CALLER_KEY_CHARS, "abcdefgh")
    longest = write_key("abcdefgh", b"\xff" * 32)
    assert len(longest) == CALLER_KEY_CHARS
