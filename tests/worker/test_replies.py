"""app.worker.replies: vLLM's bodies."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from app.worker.answers import OpenAnswer, Piece
from app.worker.messages import Delta, Started
from app.worker.replies import DONE, Reply, event
from app.worker.wire import read_chat, read_completion

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
END = Piece(text="b", tokens=1, ending="stop", stopped_by="s")


def finished() -> OpenAnswer:
    answer = OpenAnswer(1, arrived_s=10.0, news=asyncio.Event())
    answer.started(Started(request_id=1, cached_tokens=32, ago_s=0.0), at_s=10.5)
    for at_s, ending in ((11.0, None), (11.5, None), (12.0, "stop")):
        answer.grew(Delta(request_id=1, text="b", tokens=1, ending=ending), at_s=at_s)  # type: ignore[arg-type]
    return answer


def reply(body: dict[str, Any], *, chat: bool = True) -> Reply:
    read = read_chat if chat else read_completion
    ask = read(json.dumps(body).encode(), context_tokens=8192)
    return Reply(ask=ask, reply_id="id-1", created_s=7, prompt_tokens=40, answers=[finished()])


def sent(chunk: bytes) -> dict[str, Any]:
    assert chunk.startswith(b"data: ")
    assert chunk.endswith(b"\n\n")
    assert b"\n" not in chunk[:-2]
    body: dict[str, Any] = json.loads(chunk[6:])
    return body


def test_events_are_compact_json_in_utf_8() -> None:
    assert event({"a": [1, "é\n"]}) == 'data: {"a":[1,"é\\n"]}\n\n'.encode()
    assert DONE == b"data: [DONE]\n\n"


def test_a_chat_chunk() -> None:
    chunk = sent(reply(CHAT).chunk(0, Piece(text="b", tokens=1, ending=None, stopped_by=None)))
    assert chunk == {
        "id": "id-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "b"}, "logprobs": None, "finish_reason": None}],
    }


def test_the_last_chat_chunk_says_why() -> None:
    (choice,) = sent(reply(CHAT).chunk(0, END))["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "s")


def test_a_chat_opens_with_who_speaks() -> None:
    (choice,) = sent(reply(CHAT).opening(2))["choices"]
    assert (choice["index"], choice["delta"]) == (2, {"role": "assistant", "content": ""})


def test_the_usage_chunk_has_no_choices() -> None:
    chunk = sent(reply(CHAT).last())
    assert chunk["choices"] == []
    assert chunk["usage"] == {
        "prompt_tokens": 40,
        "total_tokens": 43,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 32},
    }


def test_usage_is_on_each_chunk_for_those_who_ask() -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    assert sent(reply(body).chunk(0, END))["usage"]["completion_tokens"] == 3
    assert "usage" not in sent(reply({**CHAT, "stream": True}).chunk(0, END))


def test_a_whole_chat_reply() -> None:
    body = reply(CHAT).whole(["bbb"], [END])
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "bbb", "refusal": None, "tool_calls": []}
    assert body["metrics"] == {
        "time_to_first_token_ms": 1000.0,
        "generation_time_ms": 1000.0,
        "queue_time_ms": 500.0,
        "mean_itl_ms": 500.0,
        "tokens_per_second": 2.0,
    }


def test_a_completion_has_text_instead_of_a_message() -> None:
    made = reply({"model": "m", "prompt": "x"}, chat=False)
    assert made.whole(["bbb"], [END])["choices"][0]["text"] == "bbb"
    assert made.whole(["bbb"], [END])["object"] == "text_completion"
    assert sent(made.chunk(0, END))["choices"][0]["text"] == "b"
    assert sent(made.chunk(0, END))["object"] == "text_completion"
