"""The provider over real sockets: what it sends, and faults F-7 to F-16 as a target really causes them.

What every provider does is in `tests/ports/provider_suite.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.domain.errors import MAY_HAVE_WORKED, FaultKind, TargetFailure
from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Timeouts
from app.domain.target import Target
from app.domain.telling import Telling
from app.domain.usage import Usage
from app.ports import Piece, UpstreamAnswer, UpstreamCall
from app.providers.credentials import NamedCredentials
from app.providers.http import PooledClient, http_client
from app.providers.openai_native import BODY_MOST_BYTES, OpenAiProvider
from tests.makers import a_target
from tests.providers.cancelling import cancelled_as_it_comes
from tests.upstream import (
    DONE,
    LAST_PART,
    NO_USAGE,
    Finish,
    Hang,
    Pause,
    Reset,
    ScriptedUpstream,
    Send,
    Step,
    broken_stream,
    chunk,
    completion,
    event,
    events_of,
    full_queue,
    head,
    part,
    refusal,
    segmented,
    stood_at,
    stream,
    stream_head,
    unreachable_url,
    usage_chunk,
    whole,
)

SECRET = "sk-0123456789abcdef"
PATIENT = Timeouts(connect_s=20, first_token_s=20, idle_s=20, total_s=60)
QUICK_TO_BEGIN = replace(PATIENT, first_token_s=0.3)
QUICK_TO_GO_ON = replace(PATIENT, idle_s=0.3)
#: What the kernel may hold between two sockets of one connection.
KERNEL_MOST_BYTES = 16 * 1024 * 1024


@pytest.fixture
def environ() -> dict[str, str]:
    return {"KEY": SECRET}


@pytest.fixture
async def provider(environ: dict[str, str]) -> AsyncIterator[OpenAiProvider]:
    client = http_client()
    yield OpenAiProvider(client, NamedCredentials(environ))
    await client.close()


@pytest.fixture
def target(upstream: ScriptedUpstream) -> Target:
    return a_target(url=upstream.url, model="real/name", credential="env:KEY")


def a_call(target: Target, *, stream: bool = True, **named: object) -> UpstreamCall:
    fields = {"model": b'"chat"', "messages": b"[]", **({"stream": b"true"} if stream else {})}
    values: dict[str, object] = {
        "attempt_id": "r/1",
        "target": target,
        "endpoint": Endpoint.CHAT,
        "fields": fields,
        "stream": stream,
        "usage_wanted": False,
        "timeouts": PATIENT,
        **named,
    }
    return UpstreamCall(**values)  # type: ignore[arg-type]


async def pieces_of(answer: UpstreamAnswer) -> list[Piece]:
    pieces = [piece async for piece in answer.pieces()]
    await answer.close()
    return pieces


async def failure_of(provider: OpenAiProvider, call: UpstreamCall) -> TargetFailure:
    """However far it gets: at opening, in its pieces, or in its body."""
    with pytest.raises(TargetFailure) as caught:
        await _through(provider, call)
    return caught.value


async def _through(provider: OpenAiProvider, call: UpstreamCall) -> None:
    answer = await provider.open(call)
    try:
        if call.stream:
            async for _ in answer.pieces():
                pass
        else:
            await answer.body()
    finally:
        await answer.close()


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("endpoint", "path"), [(Endpoint.CHAT, "/v1/chat/completions"), (Endpoint.COMPLETIONS, "/v1/completions")]
)
async def test_an_attempt_is_sent_as_its_target_expects_it(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, endpoint: Endpoint, path: str
) -> None:
    await pieces_of(await provider.open(a_call(target, endpoint=endpoint)))
    heard = upstream.heard[0]
    assert (heard.method, heard.path) == ("POST", path)
    assert heard.json["model"] == "real/name"
    assert heard.json["stream_options"] == {"include_usage": True}
    assert {name: heard.headers[name] for name in heard.headers if name not in {"host", "content-length"}} == {
        "user-agent": "breakeven",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "accept": "text/event-stream",
        "authorization": f"Bearer {SECRET}",
        "x-request-id": "r/1",
        "x-breakeven-attempt": "r/1",
    }


async def test_a_target_without_a_credential_is_sent_none(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    await pieces_of(await provider.open(a_call(replace(target, credential=None))))
    assert "authorization" not in upstream.heard[0].headers


async def test_without_its_secret_a_target_is_not_asked(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, environ: dict[str, str]
) -> None:
    environ.clear()
    failure = await failure_of(provider, a_call(target))
    assert failure.kind is FaultKind.AUTH
    assert "env:KEY is not set" in str(failure)
    assert upstream.heard == []


async def test_a_new_secret_and_a_changed_target_are_used_at_once(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, environ: dict[str, str]
) -> None:
    await pieces_of(await provider.open(a_call(target)))
    environ["KEY"] = "second"
    await pieces_of(await provider.open(a_call(target)))
    async with ScriptedUpstream() as other:
        await pieces_of(await provider.open(a_call(replace(target, url=other.url + "/"))))
        assert other.heard[0].path == "/v1/chat/completions"
    assert [heard.headers["authorization"] for heard in upstream.heard] == [f"Bearer {SECRET}", "Bearer second"]


async def test_a_secret_with_a_line_break_is_never_sent(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, environ: dict[str, str]
) -> None:
    environ["KEY"] = "sk-1\r\nx-evil: 1"
    failure = await failure_of(provider, a_call(target))
    assert failure.kind is FaultKind.REFUSED_CONNECTION
    assert "sk-1" not in str(failure)
    assert upstream.heard == []


async def test_the_providers_own_request_id_is_kept(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    named = (("x-request-id", "req_1"),)
    upstream.will(stream(headers=named), whole(headers=named), refusal(500, headers=named))
    for is_stream in (True, False):
        answer = await provider.open(a_call(target, stream=is_stream))
        assert answer.provider_request_id == "req_1"
        await answer.close()
    assert (await failure_of(provider, a_call(target))).provider_request_id == "req_1"


async def test_connections_are_used_again_after_streams_and_whole_answers(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    for is_stream in (True, False, True, True):
        upstream.will(stream() if is_stream else whole())
        await _through(provider, a_call(target, stream=is_stream))
        await asyncio.sleep(0.02)
    assert upstream.connections == 1
    assert not any(heard.hung_up_at_s for heard in upstream.heard)


# ── F-7 to F-9: no answer ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_closed_port_is_a_refusal_that_cost_nothing(
    provider: OpenAiProvider, target: Target, is_stream: bool
) -> None:
    failure = await failure_of(provider, a_call(replace(target, url=unreachable_url()), stream=is_stream))
    assert failure.kind is FaultKind.REFUSED_CONNECTION
    assert failure.kind not in MAY_HAVE_WORKED
    assert failure.another_may_serve


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_connection_that_hangs_is_bounded_by_the_connect_time_out(
    provider: OpenAiProvider, target: Target, is_stream: bool
) -> None:
    with full_queue() as url:
        patient_but_for_connecting = Timeouts(connect_s=0.2, first_token_s=30, idle_s=30, total_s=60)
        call = a_call(replace(target, url=url), stream=is_stream, timeouts=patient_but_for_connecting)
        failure = await asyncio.wait_for(failure_of(provider, call), 20)
    assert failure.kind is FaultKind.CONNECT_TIMEOUT


async def test_who_has_as_little_time_for_the_first_token_as_for_connecting_is_told_what_was_late(
    provider: OpenAiProvider, target: Target
) -> None:
    """Nothing was sent without a connection: a first token that never came would have to be paid."""
    with full_queue() as url:
        timeouts = Timeouts(connect_s=20, first_token_s=1.2, idle_s=30, total_s=60)
        failure = await failure_of(provider, a_call(replace(target, url=url), timeouts=timeouts))
    assert failure.kind is FaultKind.CONNECT_TIMEOUT
    assert not failure.may_have_worked


@pytest.mark.parametrize(
    "silence",
    [
        [Hang()],
        [stream_head(), Hang()],
        [stream_head(), part(chunk()), Hang()],
        [stream_head(), *[step for _ in range(100) for step in (part(b": alive\n\n"), Pause(seconds=0.05))]],
    ],
)
async def test_whatever_is_not_content_does_not_stop_the_first_token_time_out(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, silence: list[Step]
) -> None:
    upstream.will(silence)
    failure = await asyncio.wait_for(failure_of(provider, a_call(target, timeouts=QUICK_TO_BEGIN)), 15)
    assert failure.kind is FaultKind.FIRST_TOKEN_TIMEOUT
    await asyncio.wait_for(upstream.heard[0].left.wait(), 10)


# ── F-10 to F-12: it breaks in the middle ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ending", "kind"), [(Hang(), FaultKind.IDLE_TIMEOUT), (Reset(), FaultKind.CUT), (Finish(), FaultKind.CUT)]
)
@pytest.mark.parametrize("words", [1, 3, 20])
async def test_what_came_before_a_break_has_passed(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, ending: Step, kind: FaultKind, words: int
) -> None:
    upstream.will(broken_stream(["w"] * words, ending))
    timeouts = QUICK_TO_GO_ON if kind is FaultKind.IDLE_TIMEOUT else PATIENT
    answer = await provider.open(a_call(target, timeouts=timeouts))
    came: list[Piece] = []
    with pytest.raises(TargetFailure) as caught:
        await _collect(answer, came)
    await answer.close()
    assert caught.value.kind is kind
    assert caught.value.may_have_worked
    assert sum(piece.content_events for piece in came) == words
    assert not any(piece.last or piece.finished for piece in came)


async def test_what_a_caller_was_told_before_a_break_is_what_passed_even_of_an_event_without_its_blank_line(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    upstream.will([stream_head(), part(chunk("one")), Pause(seconds=0.05), part(chunk(" two")[:-2]), Finish()])
    telling, came = Telling(), list[Piece]()
    answer = await provider.open(a_call(target, telling=telling))
    with pytest.raises(TargetFailure) as caught:
        await _collect(answer, came)
    await answer.close()
    assert caught.value.kind is FaultKind.CUT
    assert b"".join(piece.raw for piece in came) == chunk("one") + chunk(" two")
    assert telling.plain_text == "one two"


async def _collect(answer: UpstreamAnswer, came: list[Piece]) -> None:
    async for piece in answer.pieces():
        came.append(piece)  # noqa: PERF401  what came must stay


@pytest.mark.parametrize("ending", [Finish(), Reset(), Hang()])
async def test_a_stream_that_has_finished_is_whole_however_its_connection_ends(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, ending: Step
) -> None:
    upstream.will(broken_stream(["a", "b"], ending, finish="stop"))
    pieces = await pieces_of(await provider.open(a_call(target, timeouts=QUICK_TO_GO_ON)))
    assert any(piece.finished for piece in pieces)
    assert not any(piece.last for piece in pieces)


async def test_a_chunk_that_comes_just_in_time_again_and_again_is_no_stall(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    pause_s, idle_s, words = 0.2, 1.6, 10
    assert (words - 1) * pause_s > idle_s
    upstream.will(stream(words=["w"] * words, pause_s=pause_s))
    pieces = await pieces_of(await provider.open(a_call(target, timeouts=replace(PATIENT, idle_s=idle_s))))
    assert pieces[-1].last


async def test_a_caller_slower_than_the_idle_time_out_is_not_the_targets_stall(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    upstream.will(stream(words=["w"] * 4, pause_s=0.01))
    answer = await provider.open(a_call(target, timeouts=QUICK_TO_GO_ON))
    came = 0
    async for piece in answer.pieces():
        came += piece.content_events
        await asyncio.sleep(0.5)
    await answer.close()
    assert came == 4


# ── F-13: bytes on the wire ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sizes", [(1,), (2, 3, 5), (7, 1, 1, 90), (4096,)])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
async def test_the_segments_on_the_wire_change_nothing(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, sizes: tuple[int, ...], line_end: bytes
) -> None:
    words = ("Grüße", " 東京", " 🚀")
    sent = b"".join(raw for raw, _ in events_of(words)).replace(b"\n", line_end)
    expected = b"".join(raw for raw, _ in events_of(words, usage=NO_USAGE)).replace(b"\n", line_end)
    upstream.will(segmented(b"\xef\xbb\xbf: hello" + line_end * 2 + sent, sizes))
    pieces = await pieces_of(await provider.open(a_call(target)))
    assert b"".join(piece.raw for piece in pieces) == b": hello" + line_end * 2 + expected
    assert sum(piece.content_events for piece in pieces) == 3
    assert [piece.usage for piece in pieces if piece.usage] == [Usage(prompt=11, output=3)]


async def test_good_chunks_pass_before_a_broken_one(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    upstream.will([stream_head(), part(chunk("a") + chunk("b") + b"data: {broken\n\n" + chunk("c")), LAST_PART])
    answer = await provider.open(a_call(target))
    came: list[Piece] = []
    with pytest.raises(TargetFailure) as caught:
        await _collect(answer, came)
    await answer.close()
    assert caught.value.kind is FaultKind.INVALID_ANSWER
    assert b"".join(piece.raw for piece in came) == chunk("a") + chunk("b")


# ── F-14: answers that are not whole ─────────────────────────────────────────────────────────────────────────────────

BODY = completion()


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        (whole(BODY[:50]), {FaultKind.INVALID_ANSWER}),
        ([*whole(BODY[:50], length=len(BODY)), Finish()], {FaultKind.CUT}),
        ([*whole(BODY[:50], length=len(BODY)), Pause(seconds=0.05), Reset()], {FaultKind.CUT}),
        (whole(BODY, length=50), {FaultKind.INVALID_ANSWER}),
        (whole(gzip.compress(BODY)[:40], headers=(("content-encoding", "gzip"),)), {FaultKind.INVALID_ANSWER}),
        (whole(gzip.compress(BODY), headers=(("content-encoding", "gzip"),)), {FaultKind.INVALID_ANSWER}),
        (whole(b"[]"), {FaultKind.INVALID_ANSWER}),
        (whole(b"{}"), {FaultKind.INVALID_ANSWER}),
        (whole(BODY + b"}"), {FaultKind.INVALID_ANSWER}),
        (whole(b'{"choices":"none"}'), {FaultKind.INVALID_ANSWER}),
        (whole(b""), {FaultKind.INVALID_ANSWER}),
        (whole(b"[" * 100_000), {FaultKind.INVALID_ANSWER}),
        (refusal(204, b""), {FaultKind.INVALID_ANSWER}),
        (
            [head(headers=(("content-type", "text/html"), ("content-length", "3"))), Send(raw=b"hi!")],
            {FaultKind.INVALID_ANSWER},
        ),
        ([Send(raw=b"garbage\r\n\r\n"), Hang()], {FaultKind.INVALID_ANSWER}),
    ],
)
async def test_half_an_answer_is_never_given_as_a_whole_one(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, answer: list[Step], kinds: set[FaultKind]
) -> None:
    upstream.will(answer)
    failure = await failure_of(provider, a_call(target, stream=False))
    assert failure.kind in kinds
    assert failure.body is None


async def test_a_whole_answer_that_stops_in_the_middle_is_late_and_one_that_has_not_begun_is_waited_for(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    upstream.will([*whole(BODY[:50], length=len(BODY)), Hang()])
    failure = await asyncio.wait_for(failure_of(provider, a_call(target, stream=False, timeouts=QUICK_TO_GO_ON)), 15)
    assert failure.kind is FaultKind.IDLE_TIMEOUT
    # A head and blanks, by which some keep a connection open while they work, are no beginning.
    slowly = [
        part(b" \n"),
        Pause(seconds=3 * QUICK_TO_GO_ON.idle_s),
        part(b"\n"),
        Pause(seconds=3 * QUICK_TO_GO_ON.idle_s),
    ]
    named = (("content-type", "application/json"), ("transfer-encoding", "chunked"))
    upstream.will([head(headers=named), *slowly, part(BODY[:50]), part(BODY[50:]), LAST_PART])
    answer = await provider.open(a_call(target, stream=False, timeouts=QUICK_TO_GO_ON))
    body, _ = await answer.body()
    await answer.close()
    assert body.strip() == BODY


async def test_an_answer_larger_than_the_limit_is_not_read_to_its_end(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    piece = Send(raw=b" " * 1024 * 1024)
    count = 2 * BODY_MOST_BYTES // len(piece.raw)
    named = (("content-type", "application/json"), ("content-length", str(count * len(piece.raw))))
    upstream.will([head(headers=named), *[piece] * count])
    failure = await failure_of(provider, a_call(target, stream=False))
    assert failure.kind is FaultKind.INVALID_ANSWER
    await asyncio.wait_for(upstream.heard[0].left.wait(), 10)
    assert upstream.heard[0].sent_bytes < BODY_MOST_BYTES + KERNEL_MOST_BYTES


@pytest.mark.parametrize(
    "answer",
    [
        whole(),
        [head(headers=(("transfer-encoding", "chunked"),)), part(DONE), LAST_PART],
        [stream_head(headers=(("content-encoding", "gzip"),)), part(gzip.compress(DONE)), LAST_PART],
        [stream_head(), part(b"data: {]\n\n"), LAST_PART],
        [stream_head(), part(b"data: " + b"x" * 2_000_000), LAST_PART],
    ],
)
async def test_what_is_not_a_stream_of_events_is_not_taken_for_one(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, answer: list[Step]
) -> None:
    upstream.will(answer)
    failure = await failure_of(provider, a_call(target))
    assert failure.kind is FaultKind.INVALID_ANSWER
    assert failure.status == 200


async def test_an_empty_stream_is_cut(provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target) -> None:
    upstream.will([stream_head(), LAST_PART])
    assert (await failure_of(provider, a_call(target))).kind is FaultKind.CUT


# ── errors in answers of status 200, and refusals ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "error", [{"message": "The request queue is full.", "code": 503}, "The request queue is full."]
)
async def test_an_overload_told_inside_a_200_is_an_overload(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, error: object
) -> None:
    """SGLang answers 200 before it knows; the error is the stream's first event."""
    upstream.will([stream_head(), part(event({"error": error})), part(DONE), LAST_PART])
    upstream.will(whole(json.dumps({"error": error}).encode()))
    for is_stream in (True, False):
        failure = await failure_of(provider, a_call(target, stream=is_stream))
        assert failure.kind is FaultKind.OVERLOADED
        assert not failure.may_have_worked


async def test_a_refusal_whose_body_never_comes_is_told_by_its_status(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    upstream.will([head(503, headers=(("content-length", "100"), ("retry-after", "2"))), Hang()])
    failure = await asyncio.wait_for(failure_of(provider, a_call(target, stream=False, timeouts=QUICK_TO_GO_ON)), 15)
    assert (failure.kind, failure.status, failure.retry_after_s) == (FaultKind.OVERLOADED, 503, 2.0)
    await asyncio.wait_for(upstream.heard[0].left.wait(), 10)


async def test_a_refusal_with_an_endless_body_is_read_so_far_and_no_further(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    upstream.will([head(400, headers=(("transfer-encoding", "chunked"),)), *[part(b"x" * 65536)] * 1000])
    failure = await failure_of(provider, a_call(target))
    assert failure.kind is FaultKind.BAD_REQUEST
    assert failure.body is None
    assert upstream.heard[0].sent_bytes < KERNEL_MOST_BYTES


async def test_a_redirect_is_told_and_not_followed(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    upstream.will(refusal(302, b"", headers=(("location", upstream.url),)))
    failure = await failure_of(provider, a_call(target))
    assert (failure.kind, failure.status) == (FaultKind.NOT_FOUND, 302)
    assert len(upstream.heard) == 1


async def test_a_key_in_an_error_is_not_repeated(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    upstream.will(refusal(401, json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}"}}).encode()))
    failure = await failure_of(provider, a_call(target))
    assert failure.kind is FaultKind.AUTH
    assert SECRET not in str(failure)
    assert failure.body is None


# ── F-15 and F-16: usage ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (NO_USAGE, None),
        ({"prompt_tokens": "7", "completion_tokens": "2"}, None),
        ({"prompt_tokens": 7}, None),
        ([], None),
        ({"prompt_tokens": -7, "completion_tokens": 2}, Usage(prompt=-7, output=2)),
        ({"prompt_tokens": 7, "completion_tokens": 10**6}, Usage(prompt=7, output=10**6)),
        (
            {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 70}},
            Usage(prompt=7, output=2, cached=70),
        ),
        ({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 1}, Usage(prompt=7, output=2)),
    ],
)
async def test_usage_that_is_missing_or_lies_breaks_nothing(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, usage: object, told: Usage | None
) -> None:
    upstream.will(stream(usage=usage), whole(completion(usage=usage)))
    pieces = await pieces_of(await provider.open(a_call(target)))
    assert pieces[-1].last
    assert [piece.usage for piece in pieces if piece.usage] == ([] if told is None else [told])
    answer = await provider.open(a_call(target, stream=False))
    body, whole_usage = await answer.body()
    await answer.close()
    assert body == completion(usage=usage)
    assert whole_usage == told


async def test_the_last_of_two_reports_stands(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    reports = [part(usage_chunk({"prompt_tokens": 7, "completion_tokens": count})) for count in (1, 2)]
    upstream.will([stream_head(), part(chunk("a")), part(chunk(finish="stop")), *reports, part(DONE), LAST_PART])
    pieces = await pieces_of(await provider.open(a_call(target)))
    assert [piece.usage for piece in pieces if piece.usage][-1] == Usage(prompt=7, output=2)


# ── back-pressure ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_slow_caller_makes_the_target_wait(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    """Otherwise a caller who does not read fills our memory with its answer."""
    word = "x" * 8000
    count = 4 * KERNEL_MOST_BYTES // len(word)
    upstream.will(stream(words=[word] * count))
    answer = await provider.open(a_call(target))
    pieces = answer.pieces()
    came = (await anext(pieces)).content_events
    assert await stood_at(upstream.heard[0]) < KERNEL_MOST_BYTES
    async for piece in pieces:
        came += piece.content_events
        assert len(piece.raw) < 2 * 1024 * 1024
    await answer.close()
    assert came == count


# ── whoever leaves ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_is_cancelled_as_the_first_words_come_is_told_of_them(
    upstream: ScriptedUpstream, target: Target
) -> None:
    """Alone, after the head, and in one segment with it."""
    words = part(chunk("one") + chunk(" two"))
    for answer in ([stream_head(), Pause(seconds=0.05), words], [Send(raw=stream_head().raw + words.raw)]):
        client = PooledClient()
        upstream.will([*answer, Hang()])
        call = a_call(target)
        opening = OpenAiProvider(client, NamedCredentials({"KEY": SECRET})).open(call)
        await cancelled_as_it_comes(client, b" two", opening)
        assert sum(piece.content_events for piece in call.unread) == 2
        await client.close()


async def test_who_is_cancelled_as_a_whole_answer_comes_is_told_of_it_and_of_its_usage(
    upstream: ScriptedUpstream, target: Target
) -> None:
    for body, usage in ((completion(), Usage(prompt=11, output=2)), (completion()[:-20], None)):
        client = PooledClient()
        begun = head(headers=(("content-type", "application/json"), ("content-length", str(len(completion())))))
        upstream.will([Send(raw=begun.raw + body), Hang()])
        call = a_call(target, stream=False)
        opening = OpenAiProvider(client, NamedCredentials({"KEY": SECRET})).open(call)
        await cancelled_as_it_comes(client, body, opening)
        assert [(piece.raw, piece.usage) for piece in call.unread] == [(body, usage)]
        await client.close()


async def test_half_of_a_whole_answer_is_told_to_who_leaves_while_it_is_read(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target
) -> None:
    body = completion()
    upstream.will([*whole(body[:-20], length=len(body)), Hang()])
    answer = await provider.open(a_call(target, stream=False))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answer.body(), 0.2)
    (piece,) = answer.unread()
    assert (piece.raw, piece.usage, piece.content_bytes) == (body[:-20], None, len("Hello there"))
    await answer.close()


@pytest.mark.parametrize(
    ("came", "text_bytes"),
    [
        (b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"Gr\xc3\xbc', 4),
        (b'{"choices": [{"message": {"content": "a \\"b\\" c", "role": "x"}}, {"message": {"content" : "de', 11),
        (b'{"choices":[{"text":"abc","index":0,"finish_rea', 3),
        (b'{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"arguments":"{\\"a', 4),
        (b'{"id":"x","object":"chat.comp', 0),
        (b"<html>502 Bad Gateway</html>", 0),
    ],
)
async def test_of_half_a_whole_answer_its_text_is_told_apart_from_what_is_around_it(
    provider: OpenAiProvider, upstream: ScriptedUpstream, target: Target, came: bytes, text_bytes: int
) -> None:
    upstream.will([*whole(came, length=5000), Finish()])
    answer = await provider.open(a_call(target, stream=False))
    with pytest.raises(TargetFailure):
        await answer.body()
    (piece,) = answer.unread()
    assert (piece.raw, piece.content_bytes) == (came, text_bytes)
    await answer.close()
