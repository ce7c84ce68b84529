"""Going back to an old policy (`app.flows.policy_history`)."""

from __future__ import annotations

import pytest

from app.documents.compile import digest_of
from app.flows.policy_archive import NotValid, RevisionUnknown
from app.flows.policy_history import (
    as_text,
    findings_today,
    pin_view,
    policy_past,
    release_pin,
    revision_view,
    roll_back,
)
from app.ports import BooksAway, Pin
from tests.archive import BROKEN, FILES, TURNED, Cellar
from tests.makers import NOON
from tests.ports.policy_history_suite import a_revision


async def test_a_rollback_pins_the_revision_and_says_what_it_replaced() -> None:
    cellar = Cellar()
    archive = cellar.archive()
    old, new = await cellar.remember(FILES), await cellar.remember(TURNED, seen_at_s=5)
    done = await roll_back(archive, old[:6], by="Ada")
    assert (done.before, done.revision.digest) == (None, old)
    assert await cellar.history.pinned() == done.pin == Pin(digest=old, by="Ada", pinned_at_s=NOON.timestamp())
    again = await roll_back(archive, new, by="Grace")
    assert again.before == done.pin
    past = await policy_past(archive, most=10)
    assert [revision.digest for revision in past.revisions] == [new, old]
    assert past.pin == again.pin


async def test_a_revision_that_is_not_valid_today_is_not_pinned_and_says_why() -> None:
    cellar = Cellar()
    archive = cellar.archive()
    good, bad = await cellar.remember(FILES), await cellar.remember(BROKEN)
    before = (await roll_back(archive, good, by="Ada")).pin
    with pytest.raises(NotValid, match="apo") as caught:
        await roll_back(archive, bad, by="Ada")
    assert caught.value.name == bad
    assert await cellar.history.pinned() == before
    assert [finding.code for finding in await findings_today(archive, await _found(cellar, bad))] == [
        finding.code for finding in caught.value.findings
    ]
    assert not any(finding.severity == "error" for finding in await findings_today(archive, await _found(cellar, good)))


async def test_an_unknown_digest_pins_nothing() -> None:
    cellar = Cellar()
    with pytest.raises(RevisionUnknown):
        await roll_back(cellar.archive(), "ffff", by="Ada")
    assert await cellar.history.pinned() is None


async def test_a_release_says_what_it_released_and_nothing_the_second_time() -> None:
    cellar = Cellar()
    archive = cellar.archive()
    pin = (await roll_back(archive, await cellar.remember(FILES), by="Ada")).pin
    assert await release_pin(archive) == pin
    assert await release_pin(archive) is None


async def test_while_postgres_is_away_nothing_is_pinned_or_released() -> None:
    cellar = Cellar()
    archive = cellar.archive()
    digest = await cellar.remember(FILES)
    cellar.history.away = True
    for call in (
        lambda: roll_back(archive, digest, by="Ada"),
        lambda: release_pin(archive),
        lambda: policy_past(archive, most=1),
    ):
        with pytest.raises(BooksAway):
            await call()
    cellar.history.away = False
    assert await cellar.history.pinned() is None


def test_a_revision_is_plain_values_with_its_files_only_where_asked() -> None:
    revision = a_revision(files={"b.yaml": "caf\udce9", "a.yaml": "x"}, in_force_at_s=NOON.timestamp())
    pin = Pin(digest=revision.digest, by="Ada", pinned_at_s=NOON.timestamp())
    view = revision_view(revision, pin=pin)
    assert (view["files"], view["pinned"], view["in_force_at"]) == (["a.yaml", "b.yaml"], True, "2026-11-23T12:00:00Z")
    assert revision_view(revision, pin=None, with_files=True)["files"] == {"a.yaml": "x", "b.yaml": "caf?"}
    assert revision_view(a_revision(), pin=Pin(digest="f" * 16, by="Ada", pinned_at_s=0.0))["pinned"] is False
    assert pin_view(pin) == {"digest": revision.digest, "by": "Ada", "pinned_at": "2026-11-23T12:00:00Z"}
    assert pin_view(None) is None
    assert as_text("\ud800☃") == "?☃"


async def _found(cellar: Cellar, digest: str):  # type: ignore[no-untyped-def]
    found = await cellar.history.find(digest)
    assert found is not None
    assert digest == digest_of(found.files)
    return found
