"""`app.api.repeats`: what a request with an Idempotency-Key is answered, the first time and again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.api.repeats import KeptReply, read_repeat
from app.api.reply import AsgiReply
from app.domain.errors import FaultKind
from app.domain.metering.measurement import Outcome
from app.domain.routing.policy import KeptAnswers, Policy
from app.flows.repeats import Claimed, Repeats
from app.ports import Opening
from app.providers.scripted import Script
from tests.api.surface import HELLO, ServedSurface, Surface
from tests.fakes.repeat_book import MemoryRepeatBook
from tests.flows.house import House, a_house
from tests.makers import a_policy, a_target

SurfaceOf = type[Surface]
CHAT = "/v1/chat/completions"
AN_OPENING = Opening(
    request_id="first",
    status=200,
    content_type="application/json",
    target="home",
    hosting="self_hosted",
    rule="all",
    policy_digest="d",
    attempts=1,
)
Answer = tuple[int, dict[str, str], bytes]


class Twice:
    """A surface over scripted targets, a book of idempotency keys, and a way to ask under one."""

    def __init__(self, surface_of: SurfaceOf, house: House) -> None:
        self.house = house
        self.book = MemoryRepeatBook()
        self.repeats = Repeats(self.book, holder="here", answer_within_s=0.2)
        self.surface = surface_of(house, repeats=self.repeats)

    async def ask(
        self, said: bytes = b"once", *, leaves: bool = False, more: Sequence[tuple[bytes, bytes]] = (), **fields: object
    ) -> Answer:
        body = json.dumps({**HELLO, **fields}).encode()
        headers = [(b"idempotency-key", said), *more]
        return await self.surface.ask("POST", CHAT, body, headers=headers, leaves=leaves)

    @property
    def dispatches(self) -> int:
        return len(self.house.told.dispatches)


@pytest.fixture(params=[Surface, ServedSurface], ids=["asgi", "direct"])
def surface_of(request: pytest.FixtureRequest) -> SurfaceOf:
    """The application by itself, and under the gateway's protocol."""
    kind: SurfaceOf = request.param
    return kind


def keeping(kept: KeptAnswers, *scripts: Script) -> House:
    """A house whose route keeps these answers."""
    return a_house({"home": list(scripts or [Script()])}, policy=_policy(kept))


def _policy(kept: KeptAnswers) -> Policy:
    policy = a_policy(a_target("home"))
    return replace(policy, routes={name: replace(route, kept_answers=kept) for name, route in policy.routes.items()})


def lasting(headers: dict[str, str]) -> dict[str, str]:
    """Those that say what was answered."""
    return {name: said for name, said in headers.items() if name.startswith("x-") or name == "content-type"}


async def test_a_repeat_gets_the_first_answer_and_nothing_is_done_or_booked_for_it(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, a_house())
    status, headers, body = await twice.ask()
    assert (status, "x-breakeven-replayed" in headers) == (200, False)
    for _ in range(2):
        again = await twice.ask()
        assert (again[0], again[2]) == (200, body)
        assert lasting(again[1]) == {**lasting(headers), "x-breakeven-replayed": "true"}
        assert again[1]["content-length"] == str(len(body))
    assert twice.dispatches == len(twice.house.told.receipts) == 1


async def test_a_request_without_the_header_meets_no_book(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, a_house())
    for _ in range(2):
        await twice.surface.ask("POST", CHAT, json.dumps(HELLO).encode())
    assert (twice.dispatches, twice.book.told) == (2, 0)


async def test_two_at_once_are_one_attempt(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, a_house({"home": [Script(first_s=0.3)]}))
    answers = await asyncio.gather(*(twice.ask() for _ in range(4)))
    assert sorted(status for status, _, _ in answers) == [200, 409, 409, 409]
    first = next(headers["x-request-id"] for status, headers, _ in answers if status == 200)
    for status, headers, body in answers:
        if status == 409:
            assert json.loads(body)["error"]["code"] == "idempotency_in_progress"
            assert headers["x-breakeven-original-request"] == first
            assert headers["retry-after"] == "1"
            assert "x-should-retry" not in headers
    assert twice.dispatches == 1


async def test_another_body_is_422_and_names_the_first(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, a_house())
    _, first, _ = await twice.ask()
    status, headers, body = await twice.ask(max_tokens=7)
    assert (status, json.loads(body)["error"]["code"]) == (422, "idempotency_key_reused")
    assert headers["x-breakeven-original-request"] == first["x-request-id"]
    assert headers["x-should-retry"] == "false"
    assert twice.dispatches == 1


async def test_an_error_of_a_target_that_worked_is_the_answer_too(surface_of: SurfaceOf) -> None:
    fault = Script(fault=FaultKind.SERVER_ERROR)
    twice = Twice(surface_of, a_house({"home": [fault, fault, fault, Script()]}))
    status, headers, body = await twice.ask()
    dispatched = twice.dispatches
    assert status == 502
    assert headers["x-should-retry"] == "false", "an SDK need not ask for the same again"
    again = await twice.ask()
    assert (again[0], again[2]) == (status, body)
    assert lasting(again[1]) == {**lasting(headers), "x-breakeven-replayed": "true"}
    assert twice.dispatches == dispatched


@pytest.mark.parametrize("kind", [FaultKind.REFUSED_CONNECTION, FaultKind.RATE_LIMITED, FaultKind.OVERLOADED])
async def test_where_no_target_began_the_request_may_come_again(surface_of: SurfaceOf, kind: FaultKind) -> None:
    twice = Twice(surface_of, a_house({"home": [Script(fault=kind)]}))
    status, headers, _ = await twice.ask()
    assert status in {429, 503}
    assert "x-should-retry" not in headers
    assert twice.dispatches > 0
    assert not twice.book._rows


async def test_what_is_refused_before_a_dispatch_leaves_nothing(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, a_house())
    status, _, _ = await twice.ask(model="nobody")
    assert (status, twice.book._rows) == (404, {})
    status, _, _ = await twice.ask(messages="no list")
    assert (status, twice.book._rows) == (400, {})
    assert (await twice.ask())[0] == 200, "the key is as good as new"


@pytest.mark.parametrize("said", [b"", b"x" * 256, b"a\xfcb"])
async def test_what_is_no_key_is_400(surface_of: SurfaceOf, said: bytes) -> None:
    twice = Twice(surface_of, a_house())
    status, _, body = await twice.ask(said)
    assert (status, json.loads(body)["error"]["param"]) == (400, "idempotency-key")
    status, _, _ = await twice.ask(more=[(b"idempotency-key", b"two")])
    assert (status, twice.book.told, twice.dispatches) == (400, 0, 0)


async def test_a_stream_is_not_kept_unless_the_policy_says_so_and_is_never_made_twice(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, keeping(KeptAnswers.WHOLE))
    _, first, stream = await twice.ask(stream=True)
    assert stream.endswith(b"data: [DONE]\n\n")
    status, headers, body = await twice.ask(stream=True)
    assert (status, json.loads(body)["error"]["code"]) == (409, "idempotency_answer_not_kept")
    assert headers["x-breakeven-original-request"] == first["x-request-id"]
    assert headers["x-should-retry"] == "false"
    assert twice.dispatches == 1


async def test_a_stream_that_is_kept_comes_again_to_the_byte(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, keeping(KeptAnswers.ALL))
    _, first, stream = await twice.ask(stream=True)
    status, headers, again = await twice.ask(stream=True)
    assert (status, again) == (200, stream)
    first.pop("x-accel-buffering")
    assert lasting(headers) == {**lasting(first), "x-breakeven-replayed": "true"}
    assert twice.dispatches == 1


async def test_nothing_is_kept_where_the_policy_says_nothing(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, keeping(KeptAnswers.NOTHING))
    await twice.ask()
    (row,) = twice.book._rows.values()
    assert (row.state, row.answer) == ("told", None)
    assert (await twice.ask())[0] == 409


async def test_a_caller_who_leaves_finds_its_answer_when_it_comes_again(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, a_house({"home": [Script(first_s=0.2)]}))
    await twice.ask(leaves=True)
    status, headers, _ = await twice.ask()
    (receipt,) = twice.house.told.receipts
    assert (status, headers["x-request-id"]) == (200, receipt.request_id)
    assert receipt.outcome is Outcome.COMPLETE


async def test_a_caller_who_leaves_an_answer_that_is_not_kept_ends_the_work_and_pays(surface_of: SurfaceOf) -> None:
    twice = Twice(surface_of, keeping(KeptAnswers.NOTHING, Script(first_s=30)))
    await twice.ask(leaves=True)
    (receipt,) = twice.house.told.receipts
    assert receipt.outcome is Outcome.ABANDONED
    status, _, body = await twice.ask()
    assert (status, json.loads(body)["error"]["code"]) == (409, "idempotency_answer_not_kept")


async def test_an_answer_that_was_kept_and_did_not_go_out_is_not_kept_again_as_the_error_that_did() -> None:
    book, repeat = MemoryRepeatBook(), read_repeat([(b"idempotency-key", b"once")], api_key="k", path=CHAT, body=b"{}")
    repeats, sent = Repeats(book, holder="here", answer_within_s=0.2), list[int]()
    claimed = await repeats.claim(repeat, key_id="abcdefgh", request_id="first", total_s=60)
    assert isinstance(claimed, Claimed)

    async def send(message: Any) -> None:
        sent.append(1)
        if len(sent) == 1:
            raise ConnectionError("its line broke")

    reply = KeptReply(AsgiReply(send), claimed, repeats, keeps=True)
    with pytest.raises(ConnectionError):
        await reply.whole(AN_OPENING, b"the answer")
    (row,) = book._rows.values()
    kept, told = row.answer, book.told
    await reply.problem(status=500, body=b"an error of another length", request_id="first", retry_after_s=None)
    await reply.nobody_waits()
    assert (row.state, row.answer, book.told) == ("kept", kept, told)


async def test_without_the_books_a_request_with_a_key_is_refused_and_one_without_is_served(
    surface_of: SurfaceOf,
) -> None:
    twice = Twice(surface_of, a_house())
    twice.book.away = True
    status, headers, body = await twice.ask()
    assert (status, json.loads(body)["error"]["code"]) == (503, "ledger_unavailable")
    assert int(headers["retry-after"]) >= 1
    assert (await twice.surface.ask("POST", CHAT, json.dumps(HELLO).encode()))[0] == 200
    assert twice.dispatches == 1


async def test_a_surface_without_books_of_keys_says_so(surface_of: SurfaceOf) -> None:
    surface = surface_of(a_house())
    status, _, body = await surface.ask(
        "POST", CHAT, json.dumps(HELLO).encode(), headers=[(b"idempotency-key", b"once")]
    )
    assert status == 503
    assert b"Idempotency-Key" in body


@pytest.mark.parametrize(
    ("script", "stream", "expected"),
    [(Script(), False, 200), (Script(), True, 200), (Script(fault=FaultKind.SERVER_ERROR), False, 502)],
)
async def test_whoever_takes_over_what_was_interrupted_is_told(
    surface_of: SurfaceOf, script: Script, stream: bool, expected: int
) -> None:
    twice = Twice(surface_of, a_house({"home": [script]}))
    _, first, _ = await twice.ask()
    (row,) = twice.book._rows.values()
    row.state, row.answer, row.expires_s = "running", None, 0.0
    status, headers, _ = await twice.ask(stream=stream)
    assert (status, headers["x-request-id"] == first["x-request-id"]) == (expected, False)
    assert headers["x-breakeven-interrupted-request"] == first["x-request-id"]
