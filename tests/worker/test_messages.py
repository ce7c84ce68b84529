"""app.worker.messages: frames on the socket between the two processes."""

from __future__ import annotations

import struct

import msgspec
import pytest

from app.worker.messages import (
    FRAME_BYTES_MOST,
    Cancel,
    Delta,
    Sampling,
    Started,
    Step,
    Submit,
    engine_framing,
    http_framing,
)

MESSAGES = [
    Submit(request_id=1, prompt="né", add_special_tokens=False, sampling=Sampling(stop=("a",), json_schema="{}")),
    Submit(request_id=2, prompt=(1, 2, 3), add_special_tokens=True, sampling=Sampling(max_tokens=4)),
    Cancel(request_id=1),
]


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_messages_survive_being_cut_anywhere(size: int) -> None:
    sender, receiver = http_framing(), engine_framing()
    raw = b"".join(sender.frame(message) for message in MESSAGES)
    heard = [message for at in range(0, len(raw), size) for message in receiver.feed(raw[at : at + size])]
    assert heard == MESSAGES


def test_the_engine_is_heard_the_same_way() -> None:
    step = Step(
        started=(Started(request_id=1, cached_tokens=32, ago_s=0.1),),
        deltas=(Delta(request_id=1, text="x", tokens=1, ending="stop", stopped_by="y"),),
        running=1,
        cache_used=0.5,
        preemptions=0,
        drifts=0,
    )
    assert list(http_framing().feed(engine_framing().frame(step))) == [step]


def test_what_is_too_long_for_a_message_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="no message of ours"):
        list(engine_framing().feed(struct.pack(">I", FRAME_BYTES_MOST + 1)))


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        list(engine_framing().feed(struct.pack(">I", 3) + b"\x81\xa1x"))
