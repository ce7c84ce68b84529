"""What the HTTP process and the engine process say to one another, and how it is framed on the socket between them.

A frame is four bytes of length (big-endian) and one message in MessagePack. Both ends are of one release, so the
messages carry no version.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Generic, Literal, TypeVar

import msgspec

FRAME_BYTES_MOST: Final = 64 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")

Ending = Literal["stop", "length", "error"]
WhyRefused = Literal["prompt_too_long", "answer_too_long", "unknown_token", "empty_prompt"]


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer is chosen. `max_tokens` None: up to the end of the context. `json_schema` None: free text."""

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    json_schema: str | None = None


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer this prompt. Replied to by `Accepted` or `Refused`, then by `Started` and `Delta`s inside `Step`s."""

    request_id: int
    prompt: str | tuple[int, ...]
    add_special_tokens: bool
    sampling: Sampling


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Nobody wants this answer any more; nothing more is said of it."""

    request_id: int


class Encode(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    call_id: int
    text: str
    add_special_tokens: bool


class Decode(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    call_id: int
    tokens: tuple[int, ...]


ToEngine = Submit | Cancel | Encode | Decode


class Loading(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`done` is the share of the way to `Ready`, 0 to 1."""

    stage: str
    done: float


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The engine answers now. `cache_blocks` of `block_tokens` tokens each is its whole key-value cache."""

    engine_version: str
    chat_template: str
    bos_token: str
    eos_token: str
    cache_blocks: int
    block_tokens: int


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    request_id: int
    prompt_tokens: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`prompt_tokens` is a lower bound where `at_least`. `max_tokens` is what was asked for."""

    request_id: int
    why: WhyRefused
    prompt_tokens: int = 0
    at_least: bool = False
    max_tokens: int = 0


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The prompt left the queue `ago_s` before this was said; `cached_tokens` of it need not be computed."""

    request_id: int
    cached_tokens: int
    ago_s: float


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """More of an answer. `text` may be empty while it is held back. `ending` is set on the last one."""

    request_id: int
    text: str
    tokens: int
    ending: Ending | None = None
    stopped_by: str | int | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What one step of the engine changed. `preemptions` and `drifts` count since the engine started; a drift is a
    step after which the account of the prefix cache and the engine's own figure differed."""

    started: tuple[Started, ...]
    deltas: tuple[Delta, ...]
    running: int
    cache_used: float
    preemptions: int
    drifts: int


class Encoded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`whole` is False when the text has more tokens than the context."""

    call_id: int
    tokens: tuple[int, ...]
    whole: bool


class Decoded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`text` None: there was a token that the model does not have."""

    call_id: int
    text: str | None


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The engine's last words."""

    said: str


FromEngine = Loading | Ready | Accepted | Refused | Step | Encoded | Decoded | Failed


Received = TypeVar("Received")


class Framing(Generic[Received]):
    """Messages of one direction to bytes and back. `feed` keeps what is not yet a whole frame."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Received]) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = decoder
        self._rest = bytearray()

    def frame(self, message: ToEngine | FromEngine) -> bytes:
        body = self._encoder.encode(message)
        return _LENGTH.pack(len(body)) + body

    def feed(self, chunk: bytes) -> Iterator[Received]:
        """Raises ValueError on a frame over `FRAME_BYTES_MOST` or one that is no message."""
        self._rest += chunk
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            if length > FRAME_BYTES_MOST:
                raise ValueError(f"a frame of {length} bytes is no message of ours")
            end = _LENGTH.size + length
            if len(self._rest) < end:
                return
            body = bytes(self._rest[_LENGTH.size : end])
            del self._rest[:end]
            yield self._decoder.decode(body)


def engine_framing() -> Framing[ToEngine]:
    """The engine's end: hears what the HTTP process says."""
    return Framing(msgspec.msgpack.Decoder(ToEngine))


def http_framing() -> Framing[FromEngine]:
    """The HTTP process's end: hears what the engine says."""
    return Framing(msgspec.msgpack.Decoder(FromEngine))
