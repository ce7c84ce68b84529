"""What every history of policies does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from app.ports import BooksAway, Pin, PolicyHistory, Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHistoryAtHand:
    """A history with nothing in it, and what makes it go away and come back."""

    history: PolicyHistory
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]


def a_revision(digest: str = "0123456789abcdef", **named: object) -> Revision:
    values: dict[str, object] = {
        "digest": digest,
        "files": {"models.yaml": "models: {}\n", "targets.yaml": "# naïve ☃\ntargets: {}\n"},
        "author": "Ada Lovelace",
        "seen_at_s": 1_795_435_200.123456,
        **named,
    }
    return Revision(**values)  # type: ignore[arg-type]


def a_pin(digest: str = "0123456789abcdef", **named: object) -> Pin:
    values: dict[str, object] = {"digest": digest, "by": "operator", "pinned_at_s": 1_795_435_300.25, **named}
    return Pin(**values)  # type: ignore[arg-type]


class PolicyHistorySuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_a_revision_comes_back_to_the_last_letter(self, at_hand: PolicyHistoryAtHand) -> None:
        wanted = a_revision(
            findings=("models.yaml:3:1: error: no such target \u2013 mend it",), in_force_at_s=1_795_435_201.5
        )
        assert await at_hand.history.remember(wanted) is True
        assert await at_hand.history.find(wanted.digest) == wanted

    @pytest.mark.parametrize("text", ["zero \0 byte", "lone \ud800 surrogate", "\r\n\t\u2028 \\u0000 \"'", "", "😀"])
    async def test_whatever_a_refused_file_holds_is_kept(self, at_hand: PolicyHistoryAtHand, text: str) -> None:
        wanted = a_revision(files={"a.yaml": text, text.strip("\0") + ".yaml": ""}, findings=(text,))
        await at_hand.history.remember(wanted)
        assert await at_hand.history.find(wanted.digest) == wanted

    async def test_the_same_revision_again_is_nothing_new_and_changes_nothing(
        self, at_hand: PolicyHistoryAtHand
    ) -> None:
        await at_hand.history.remember(a_revision())
        again = a_revision(author="somebody else", seen_at_s=1.0, findings=("another",), files={"x.yaml": ""})
        assert await at_hand.history.remember(again) is False
        assert await at_hand.history.find(a_revision().digest) == a_revision()

    async def test_the_first_time_in_force_counts_whatever_is_told_later(self, at_hand: PolicyHistoryAtHand) -> None:
        history = at_hand.history
        for moment, kept in ((None, None), (20.0, 20.0), (30.0, 20.0), (None, 20.0), (10.0, 10.0)):
            await history.remember(a_revision(in_force_at_s=moment))
            assert await history.find(a_revision().digest) == a_revision(in_force_at_s=kept)

    async def test_a_beginning_names_a_revision_when_it_fits_one_only(self, at_hand: PolicyHistoryAtHand) -> None:
        one, other = a_revision("aaaa1111aaaa1111"), a_revision("aaaa2222aaaa2222")
        for revision in (one, other):
            await at_hand.history.remember(revision)
        assert await at_hand.history.find("aaaa1") == one
        assert await at_hand.history.find("aaaa2222aaaa2222") == other

    @pytest.mark.parametrize(
        "digest", ["aaaa", "aaa", "", "bbbb", "aaaa1111aaaa11110", "AAAA1", "%", "aaaa1%", "a\0aa"]
    )
    async def test_what_names_no_single_revision_finds_none(self, at_hand: PolicyHistoryAtHand, digest: str) -> None:
        for known in ("aaaa1111aaaa1111", "aaaa2222aaaa2222"):
            await at_hand.history.remember(a_revision(known))
        assert await at_hand.history.find(digest) is None

    async def test_the_newest_come_first_by_when_they_were_first_seen(self, at_hand: PolicyHistoryAtHand) -> None:
        told = [("1" * 16, 10.0), ("2" * 16, 30.0), ("3" * 16, 20.0), ("4" * 16, 30.0)]
        for digest, seen_at_s in told:
            await at_hand.history.remember(a_revision(digest, seen_at_s=seen_at_s))
        await at_hand.history.remember(a_revision("1" * 16, seen_at_s=99.0, in_force_at_s=99.0))
        latest = await at_hand.history.latest(most=9)
        assert [one.digest[0] for one in latest] == ["4", "2", "3", "1"]
        assert [one.digest[0] for one in await at_hand.history.latest(most=2)] == ["4", "2"]
        assert await at_hand.history.latest(most=0) == ()

    async def test_a_pin_stands_until_it_is_released(self, at_hand: PolicyHistoryAtHand) -> None:
        history = at_hand.history
        await history.remember(a_revision())
        assert await history.pinned() is None
        await history.pin(a_pin())
        assert await history.pinned() == a_pin()
        assert await history.release() is True
        assert await history.pinned() is None
        assert await history.release() is False

    async def test_a_new_pin_replaces_the_one_before(self, at_hand: PolicyHistoryAtHand) -> None:
        for digest in ("1" * 16, "2" * 16):
            await at_hand.history.remember(a_revision(digest))
            await at_hand.history.pin(a_pin(digest, by=digest))
        assert await at_hand.history.pinned() == a_pin("2" * 16, by="2" * 16)

    async def test_an_unknown_revision_cannot_be_pinned_and_the_pin_before_stays(
        self, at_hand: PolicyHistoryAtHand
    ) -> None:
        await at_hand.history.remember(a_revision())
        await at_hand.history.pin(a_pin())
        for unknown in ("f" * 16, a_revision().digest[:6]):
            with pytest.raises(KeyError):
                await at_hand.history.pin(a_pin(unknown))
        assert await at_hand.history.pinned() == a_pin()

    async def test_a_history_that_is_away_says_so_and_serves_again_when_it_is_back(
        self, at_hand: PolicyHistoryAtHand
    ) -> None:
        history = at_hand.history
        await history.remember(a_revision())
        await at_hand.take_away()
        for call in (
            lambda: history.remember(replace(a_revision(), digest="f" * 16)),
            lambda: history.find("0123"),
            lambda: history.latest(most=1),
            lambda: history.pin(a_pin()),
            history.release,
            history.pinned,
        ):
            with pytest.raises(BooksAway):
                await call()
        await at_hand.bring_back()
        assert await history.latest(most=5) == (a_revision(),)
        assert await history.pinned() is None
