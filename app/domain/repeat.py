"""A request that may come twice: what its caller's `Idempotency-Key` becomes, and the seal on what is kept for it.

Everything here is made from the caller's own API key and idempotency key, neither of which is stored anywhere: whoever
reads the database, with every secret of this installation in hand, learns neither which key was sent, nor what was
asked, nor what was answered. A caller who sends the same two again can be given the same answer.

The seal is encrypt-then-MAC of standard parts: SHAKE-256 over a secret as the stream (the secret is another for each
caller, idempotency key and request id, so no stream is used twice), keyed BLAKE2b over the request id and the
ciphertext as the tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b, shake_256
from hmac import compare_digest
from typing import Final

from app.domain.errors import BadRequest

#: Of an `Idempotency-Key`, in characters.
CHARS_MOST: Final = 255
#: A larger answer is not kept for repeats.
ANSWER_MOST_BYTES: Final = 1 << 20
#: A finished request's answer is given again for so long.
KEPT_S: Final = 24 * 3600.0

NAME_BYTES: Final = 16
TAG_BYTES: Final = 32

_HEADER: Final = "idempotency-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """What the books may know of a request that may come twice, and the secret under which its answer is sealed."""

    #: Names it among those of the same API key.
    name: bytes
    #: Differs when anything else is asked under the same idempotency key.
    fingerprint: bytes
    #: Never leaves this process.
    secret: bytes


def repeat_of(said: list[bytes], *, api_key: str, path: str, body: bytes) -> Repeat:
    """Of the values of the header, normally one, and what is asked. Raises BadRequest for a value that is no key."""
    if len(said) != 1:
        raise BadRequest("idempotency-key: it came more than once; send it once", param=_HEADER)
    (value,) = said
    if not 0 < len(value) <= CHARS_MOST or not all(32 <= byte < 127 for byte in value):
        raise BadRequest(f"idempotency-key: 1 to {CHARS_MOST} printable ASCII characters", param=_HEADER)
    root = _keyed(value, key=_keyed(api_key.encode(), purpose=b"caller"), purpose=b"root")
    asked = blake2b(path.encode() + b"\0", key=root, person=b"asked", digest_size=NAME_BYTES)
    asked.update(body)
    return Repeat(
        name=_keyed(b"", key=root, purpose=b"name")[:NAME_BYTES],
        fingerprint=asked.digest(),
        secret=_keyed(b"", key=root, purpose=b"seal"),
    )


def sealed(plain: bytes, repeat: Repeat, *, request_id: str) -> bytes:
    """So that only a repeat of the same request can open it. Seal once for a request id, or a stream is used twice."""
    ciphertext = _passed_through(plain, repeat, request_id)
    return _tag(ciphertext, repeat, request_id) + ciphertext


def unsealed(kept: bytes, repeat: Repeat, *, request_id: str) -> bytes | None:
    """What was sealed for this request; None for anything else."""
    tag, ciphertext = kept[:TAG_BYTES], kept[TAG_BYTES:]
    if not compare_digest(tag, _tag(ciphertext, repeat, request_id)):
        return None
    return _passed_through(ciphertext, repeat, request_id)


def _passed_through(text: bytes, repeat: Repeat, request_id: str) -> bytes:
    """The text under the stream of this request: there, and with the same again, back."""
    secret = _keyed(request_id.encode(), key=repeat.secret, purpose=b"stream")
    stream = shake_256(secret).digest(len(text))
    mixed = int.from_bytes(text, "little") ^ int.from_bytes(stream, "little")
    return mixed.to_bytes(len(text), "little")


def _tag(ciphertext: bytes, repeat: Repeat, request_id: str) -> bytes:
    secret = _keyed(request_id.encode(), key=repeat.secret, purpose=b"tag")
    return _keyed(ciphertext, key=secret, purpose=b"sealed")


def _keyed(text: bytes, *, key: bytes = b"", purpose: bytes) -> bytes:
    return blake2b(text, key=key, person=purpose, digest_size=TAG_BYTES).digest()
