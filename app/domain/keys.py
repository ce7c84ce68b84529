"""Keys as text: `bk_<8-char id>_<43-char secret><6-char checksum>`, and the digest that is stored in their place.

The secret is 256 random bits, so a plain keyed hash is enough: there is nothing to guess. The checksum is the CRC-32
of everything before it, so that a typo, and a secret scanner's false find, is told apart without a look-up.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final
from zlib import crc32

SECRET_BYTES: Final = 32
ID_BYTES: Final = 5
PEPPER_BYTES: Final = 32

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_CHARS: Final = 43
_CHECKSUM_CHARS: Final = 6
#: The inner and the outer padding of HMAC (RFC 2104), as translation tables.
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_BLOCK_BYTES: Final = 64


class KeyKind(StrEnum):
    """Whose key it is, by its prefix: a caller's opens the data plane, an operator's the console; never both."""

    CALLER = "bk"
    OPERATOR = "bkop"


#: A caller's key in characters, and where its public id stands in it.
CALLER_KEY_CHARS: Final = len("bk_") + 8 + len("_") + _SECRET_CHARS + _CHECKSUM_CHARS
CALLER_KEY_ID: Final = slice(3, 11)
_SHAPE: Final = re.compile(
    rf"(bk|bkop)_([a-z2-7]{{8}})_[0-9A-Za-z]{{{_SECRET_CHARS}}}([0-9A-Za-z]{{{_CHECKSUM_CHARS}}})"
)
_KINDS: Final[Mapping[str, KeyKind]] = {kind.value: kind for kind in KeyKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyText:
    """A text that has the form of a key and a right checksum. Whether anybody knows it is another question."""

    kind: KeyKind
    key_id: str


def key_id_of(chance: bytes) -> str:
    """The public id of a new key, from `ID_BYTES` random bytes: 8 characters of a to z and 2 to 7."""
    if len(chance) != ID_BYTES:
        raise ValueError(f"a key id is made of {ID_BYTES} random bytes, not {len(chance)}")
    return b32encode(chance).decode().lower()


def write_key(key_id: str, secret: bytes, *, kind: KeyKind = KeyKind.CALLER) -> str:
    """The key's text from its id and `SECRET_BYTES` random bytes. It is shown once and stored nowhere."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a key's secret is {SECRET_BYTES} random bytes, not {len(secret)}")
    head = f"{kind.value}_{key_id}_{_base62(int.from_bytes(secret), length=_SECRET_CHARS)}"
    text = head + _checksum(head)
    if read_key(text) is None:
        raise ValueError("a key id is 8 characters of a to z and 2 to 7: make it with `key_id_of`")
    return text


def read_key(text: str) -> KeyText | None:
    """What the text says of itself, or None when it is no key. Never raises, and never looks further than the form."""
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        return None
    prefix, key_id, checksum = shape.groups()
    if _checksum(text[:-_CHECKSUM_CHARS]) != checksum:
        return None
    return KeyText(kind=_KINDS[prefix], key_id=key_id)


class Pepper:
    """A secret of this installation, mixed into every digest, so that a stolen table verifies nothing."""

    __slots__ = ("_inner", "_outer", "version")

    def __init__(self, secret: bytes, *, version: int) -> None:
        if not PEPPER_BYTES <= len(secret) <= _BLOCK_BYTES:
            raise ValueError(f"a pepper is {PEPPER_BYTES} to {_BLOCK_BYTES} random bytes, not {len(secret)}")
        block = secret.ljust(_BLOCK_BYTES, b"\0")
        self.version = version
        self._inner = sha256(block.translate(_INNER))
        self._outer = sha256(block.translate(_OUTER))

    def digest(self, key: bytes) -> bytes:
        """HMAC-SHA-256 of the key's text under this pepper; 32 bytes. The padded blocks are hashed ahead of time."""
        inner = self._inner.copy()
        inner.update(key)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def __repr__(self) -> str:
        return f"Pepper(version={self.version})"


@dataclass(frozen=True, slots=True)
class Peppers:
    """Every pepper in use: new keys take the newest, older keys are verified with the one they were made under."""

    by_version: Mapping[int, Pepper]

    @property
    def newest(self) -> Pepper:
        return self.by_version[max(self.by_version)]


def _checksum(head: str) -> str:
    left = crc32(head.encode())
    left, f = divmod(left, 62)
    left, e = divmod(left, 62)
    left, d = divmod(left, 62)
    left, c = divmod(left, 62)
    a, b = divmod(left, 62)
    return _DIGITS[a] + _DIGITS[b] + _DIGITS[c] + _DIGITS[d] + _DIGITS[e] + _DIGITS[f]


def _base62(number: int, *, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
