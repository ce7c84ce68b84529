"""`app.flows.alerts` with a real receiver on this machine, and books in memory whose clock the test moves."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest

from app.domain.alert import Alert, AlertState
from app.flows.alerts import (
    ATTEMPTS_MOST,
    CLAIM_S,
    FRESH_S,
    LOOK_EVERY_S,
    PAUSE_MOST_S,
    Delivery,
    a_test,
    kept_view,
    pause_s,
    send,
)
from app.ports import BooksAway
from app.ports.alerts import NotTaken
from app.providers.http import PooledClient
from app.providers.webhook import Webhook
from app.system import RandomIds
from tests.fakes.alert_book import MemoryAlertBook
from tests.makers import NOON
from tests.ports.alert_book_suite import an_alert
from tests.upstream import Answer, Hang, Heard, ScriptedUpstream, refusal, upstream, whole

__all__ = ["upstream"]

SECRET = "whsec-of-this-test"


@dataclass(slots=True)
class Clock:
    """ports.Clock, and the database's, that move when told."""

    now_s: float = NOON.timestamp()

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_us(self) -> int:
        return round(self.now_s * 1_000_000)


@dataclass(slots=True)
class Told:
    """flows.alerts.DeliveryListener that remembers."""

    delivered: list[str] = field(default_factory=list)
    failed: list[tuple[str, bool]] = field(default_factory=list)

    def alert_delivered(self, alert: Alert) -> None:
        self.delivered.append(alert.alert_id)

    def alert_failed(self, alert: Alert, *, error: str, is_last: bool) -> None:
        self.failed.append((error, is_last))


@dataclass(slots=True, kw_only=True)
class Post:
    """A delivery, and everything around it."""

    delivery: Delivery
    book: MemoryAlertBook
    clock: Clock
    told: Told

    async def state(self) -> tuple[AlertState, int, str | None]:
        (kept,) = await self.book.latest(most=10)
        return kept.state, kept.attempts, kept.last_error


@pytest.fixture
async def post(upstream: ScriptedUpstream) -> AsyncIterator[Post]:
    upstream.always(whole(b"ok"))
    client, clock, told = PooledClient(), Clock(), Told()
    book = MemoryAlertBook(now_us=clock.unix_us)
    delivery = Delivery(
        book=book,
        door=Webhook(client, f"{upstream.url}/hook", within_s=0.3),
        secret=lambda: SECRET,
        clock=clock,
        listener=told,
        jitter=lambda: 0.0,
    )
    yield Post(delivery=delivery, book=book, clock=clock, told=told)
    await client.close()


def is_signed(heard: Heard, secret: str) -> bool:
    """As a receiver checks it, from nothing but what it was sent."""
    signed = heard.headers["breakeven-timestamp"].encode() + b"." + heard.body
    made = "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(made, heard.headers["breakeven-signature"])


def who_checks(secret: str) -> Callable[[Heard], Answer]:
    return lambda heard: whole(b"ok") if is_signed(heard, secret) else refusal(401)


async def test_an_alert_is_posted_signed_once_and_marked(post: Post, upstream: ScriptedUpstream) -> None:
    alert = an_alert()
    await post.book.fire([alert])
    upstream.always(who_checks(SECRET))
    assert await post.delivery.deliver() == 1
    assert await post.delivery.deliver() == 0
    (heard,) = upstream.heard
    assert (heard.path, heard.headers["breakeven-alert"]) == ("/v1/hook", alert.alert_id)
    assert heard.headers["breakeven-timestamp"] == str(int(NOON.timestamp()))
    assert heard.json["text"] == (
        'the budget "research" has spent $81.00 of $100.00 (81.0 %) in the period that ends 2026-11-30T12:00:00+00:00: '
        "80 % is passed"
    )
    assert await post.state() == (AlertState.DELIVERED, 1, None)
    assert post.told == Told(delivered=[alert.alert_id])


async def test_a_name_of_any_letters_arrives_as_it_is(post: Post, upstream: ScriptedUpstream) -> None:
    await post.book.fire([an_alert(budget='für "alle" 予算\u2028')])
    upstream.always(who_checks(SECRET))
    await post.delivery.deliver()
    assert upstream.heard[0].json["budget"] == 'für "alle" 予算\u2028'
    assert post.told.failed == []


async def test_a_receiver_with_another_secret_turns_it_away_and_gets_it_again(
    post: Post, upstream: ScriptedUpstream
) -> None:
    await post.book.fire([an_alert()])
    upstream.will(who_checks("another"))
    await post.delivery.deliver()
    assert await post.state() == (AlertState.WAITING, 1, "answered 401")
    post.clock.now_s += pause_s(1, jitter=0)
    await post.delivery.deliver()
    assert await post.state() == (AlertState.DELIVERED, 2, "answered 401")
    first, second = upstream.heard
    assert first.headers["breakeven-alert"] == second.headers["breakeven-alert"]
    assert first.headers["breakeven-timestamp"] != second.headers["breakeven-timestamp"]
    assert is_signed(second, SECRET)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (refusal(500), "answered 500"),
        (refusal(302, headers=[("location", "/elsewhere")]), "a redirect, which is not followed"),
        ([Hang()], "no answer within 0.3 s"),
    ],
    ids=["500", "redirect", "timeout"],
)
async def test_what_fails_waits_and_goes_out_after_its_pause_and_not_before(
    post: Post, upstream: ScriptedUpstream, answer: Answer, why: str
) -> None:
    await post.book.fire([an_alert()])
    upstream.will(answer)
    await post.delivery.deliver()
    state, attempts, error = await post.state()
    assert (state, attempts) == (AlertState.WAITING, 1)
    assert why in (error or "")
    post.clock.now_s += pause_s(1, jitter=0) - 0.001
    assert await post.delivery.deliver() == 0
    post.clock.now_s += 0.002
    assert await post.delivery.deliver() == 1
    assert (await post.state())[0] is AlertState.DELIVERED
    assert [is_last for _, is_last in post.told.failed] == [False]


async def test_a_receiver_that_is_down_for_hours_is_given_up_and_the_alert_is_kept(
    post: Post, upstream: ScriptedUpstream
) -> None:
    await upstream.stop()
    await post.book.fire([an_alert()])
    began_s = post.clock.now_s
    pauses = 0
    while (await post.state())[0] is AlertState.WAITING:
        assert await post.delivery.deliver() == 1
        post.clock.now_s += pause_s(post.book.rows[0].attempts, jitter=0)
        pauses += 1
    state, attempts, error = await post.state()
    assert (state, attempts, pauses) == (AlertState.DEAD, ATTEMPTS_MOST, ATTEMPTS_MOST)
    assert "refused" in (error or "")
    assert 6 * 3600 < post.clock.now_s - began_s - PAUSE_MOST_S < FRESH_S
    assert post.told.failed[-1][1] is True
    assert [is_last for _, is_last in post.told.failed[:-1]] == [False] * (ATTEMPTS_MOST - 1)
    assert await post.delivery.deliver() == 0


async def test_one_receiver_that_fails_one_alert_keeps_the_others_from_nothing(
    post: Post, upstream: ScriptedUpstream
) -> None:
    alerts = [an_alert(part_ppm=part) for part in (100_000, 200_000, 300_000)]
    await post.book.fire(alerts)
    upstream.will(refusal(500))
    assert await post.delivery.deliver() == 3
    assert len(upstream.heard) == 3
    assert len(post.told.delivered) == 2
    assert len(post.told.failed) == 1


async def test_a_secret_that_is_not_there_sends_nothing_and_says_so(post: Post, upstream: ScriptedUpstream) -> None:
    await post.book.fire([an_alert()])
    delivery = replace(post.delivery, secret=lambda: None)
    await delivery.deliver()
    assert upstream.heard == []
    _, _, error = await post.state()
    assert "BREAKEVEN_ALERT_WEBHOOK_SECRET" in (error or "")


async def test_books_that_go_away_after_the_sending_send_it_again_under_the_same_id(
    post: Post, upstream: ScriptedUpstream
) -> None:
    await post.book.fire([an_alert()])

    def and_take_the_books_away(heard: Heard) -> Answer:
        post.book.away = True
        return whole(b"ok")

    upstream.will(and_take_the_books_away)
    with pytest.raises(BooksAway):
        await post.delivery.deliver()
    post.book.away = False
    assert await post.delivery.deliver() == 0, "it is claimed yet"
    post.clock.now_s += CLAIM_S + 1
    await post.delivery.deliver()
    assert len({heard.headers["breakeven-alert"] for heard in upstream.heard}) == 1
    assert len(upstream.heard) == 2
    assert (await post.state())[:2] == (AlertState.DELIVERED, 2)


async def test_news_of_yesterday_is_not_sent_when_a_receiver_is_set_at_last(
    post: Post, upstream: ScriptedUpstream
) -> None:
    await post.book.fire([an_alert()])
    post.clock.now_s += FRESH_S + 1
    assert await post.delivery.deliver() == 0
    assert upstream.heard == []
    assert await post.state() == (AlertState.DEAD, 0, "no webhook was set while it was new")


class _Enough(Exception):
    """The test has seen what it wanted to see."""


async def test_it_goes_on_for_ever_and_books_that_are_away_are_asked_again(
    post: Post, upstream: ScriptedUpstream
) -> None:
    await post.book.fire([an_alert()])
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        post.book.away = len(pauses) < 3
        if len(pauses) > 4:
            raise _Enough
        await asyncio.sleep(0)

    with pytest.raises(_Enough):
        await post.delivery.keep(pause=pause)
    assert pauses == [LOOK_EVERY_S / 2] * 5
    assert (await post.state())[0] is AlertState.DELIVERED


async def test_a_test_alert_is_signed_like_any_other_and_says_what_it_is(
    post: Post, upstream: ScriptedUpstream
) -> None:
    upstream.always(who_checks(SECRET))
    alert = a_test(clock=post.clock, ids=RandomIds())
    await send(alert, door=post.delivery.door, secret=SECRET, at_us=post.clock.unix_us())
    assert (upstream.heard[0].json["kind"], upstream.heard[0].json["id"]) == ("test", alert.alert_id)
    with pytest.raises(NotTaken, match="401"):
        await send(alert, door=post.delivery.door, secret="wrong", at_us=post.clock.unix_us())


def test_pauses_double_up_to_an_hour_and_chance_makes_them_shorter() -> None:
    assert [pause_s(attempt, jitter=0) for attempt in (1, 2, 3, 11, 12, 1000)] == [5, 10, 20, 3600, 3600, 3600]
    assert pause_s(3, jitter=0.5) == 15


async def test_an_alert_and_its_fate_are_shown_as_json(post: Post) -> None:
    await post.book.fire([an_alert()])
    (kept,) = await post.book.latest(most=1)
    view = json.loads(json.dumps(kept_view(kept)))
    assert (view["state"], view["attempts"], view["budget"], view["delivered_at"]) == ("waiting", 0, "research", None)
    assert view["next_at"] == "2026-11-23T12:00:00+00:00"
