from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from app.documents.compile import Compiled, compile_policy
from app.domain.errors import PolicyInvalid
from app.flows.policy_reload import last_in_force
from app.live.shelf_watch import LOOK_EVERY_S
from app.ports import BooksAway, Pin, Revision
from app.storage.receipt_json import encode
from app.storage.shelf import PolicyShelf
from tests.flows.policy_house import BROKEN, GOOD, OTHER, House, digest, house, looks_more, refused, until
from tests.makers import a_receipt

__all__ = ["house"]


# ── edits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_edit_goes_in_force_and_both_revisions_are_remembered_with_their_author(house: House) -> None:
    async with house.kept() as slot:
        assert slot.current.digest == digest(GOOD)
        house.write(OTHER)
        await until(lambda: slot.current.digest == digest(OTHER))
        new, old = await house.revision(OTHER), await house.revision(GOOD)
    assert slot.status.digest == slot.status.files_digest == digest(OTHER)
    assert (slot.status.reloads, slot.status.refused) == (1, None)
    assert house.told.heard == [("in force", digest(GOOD)), ("in force", digest(OTHER))]
    assert new.files == {"policy.yaml": OTHER}
    assert new.author
    assert old.in_force_at_s is not None
    assert new.in_force_at_s is not None
    assert old.in_force_at_s < new.in_force_at_s


async def test_a_request_that_was_admitted_before_a_swap_still_finds_its_target(house: House) -> None:
    async with house.kept() as slot:
        view = house.fleet.view(at_s=0.0)
        house.write(GOOD.replace("gpu-a", "gpu-z"))
        await until(lambda: "gpu-z" in slot.current.targets)
        assert "gpu-a" in view
        house.fleet.entered("gpu-a", at_s=1.0)
        assert house.fleet.in_flight()["gpu-a"] == 1
        house.fleet.left("gpu-a", at_s=2.0, answered=True)


async def test_at_every_moment_the_fleet_knows_the_targets_of_the_policy_in_force(house: House) -> None:
    async with house.kept() as slot:
        for name in ("gpu-b", "gpu-c"):
            house.write(GOOD.replace("gpu-a", name))
            async with asyncio.timeout(20):
                while name not in slot.current.targets:
                    assert set(slot.current.targets) <= set(house.fleet.view(at_s=0.0))
                    await asyncio.sleep(0)
            assert set(slot.current.targets) <= set(house.fleet.view(at_s=0.0))


async def test_a_broken_edit_is_refused_once_with_its_findings_and_the_old_policy_stays(house: House) -> None:
    async with house.kept() as slot:
        before = slot.current
        house.write(BROKEN)
        await until(lambda: slot.status.refused)
        await looks_more(house)
        kept = await house.revision(BROKEN)
    assert slot.current is before
    assert [(finding.line, finding.code) for finding in refused(slot).errors] == [(23, "unknown-target")]
    assert (refused(slot).digest, slot.status.files_digest) == (digest(BROKEN), None)
    assert house.told.heard == [("in force", digest(GOOD)), ("refused", digest(BROKEN))]
    assert kept.in_force_at_s is None
    assert any("policy.yaml:23:" in finding for finding in kept.findings)


async def test_an_undone_mistake_leaves_no_trace_but_in_the_history(house: House) -> None:
    async with house.kept() as slot:
        house.write(BROKEN)
        await until(lambda: slot.status.refused)
        house.write(GOOD)
        await until(lambda: not slot.status.refused)
    assert slot.status.warning() is None
    assert slot.status.reloads == 0
    assert house.told.heard == [("in force", digest(GOOD)), ("refused", digest(BROKEN)), ("in force", digest(GOOD))]


async def test_files_that_vanish_or_cannot_be_read_are_refused_and_the_old_policy_stays(house: House) -> None:
    async with house.kept() as slot:
        before = slot.current
        (house.directory / "policy.yaml").unlink()
        await until(lambda: slot.status.refused)
        assert [finding.code for finding in refused(slot).findings] == ["no-files"]
        (house.directory / "policy.yaml").mkdir()
        await until(lambda: refused(slot).findings[0].code == "unreadable")
        (house.directory / "policy.yaml").rmdir()
        house.directory.rmdir()
        await until(lambda: refused(slot).findings[0].code == "no-files")
        assert slot.current is before
        house.directory.mkdir()
        house.write(OTHER)
        await until(lambda: slot.current.digest == digest(OTHER))
    assert slot.status.warning() is None


async def test_a_slow_writer_goes_live_when_it_has_finished_and_not_before(house: House) -> None:
    async with house.kept() as slot:
        seen = set()
        with (house.directory / "policy.yaml").open("w") as file:
            for start in range(0, len(OTHER), 40):
                file.write(OTHER[start : start + 40])
                file.flush()
                await asyncio.sleep(0.001)
                seen.add(slot.current.digest)
        await until(lambda: slot.current.digest == digest(OTHER))
    assert seen == {digest(GOOD)}


async def test_a_change_that_no_look_tells_of_is_read_all_the_same(house: House) -> None:
    class Blind(PolicyShelf):
        def look(self) -> object:
            return "as ever"

    house.shelf_of = Blind
    async with house.kept() as slot:
        house.write(OTHER)
        await until(lambda: slot.current.digest == digest(OTHER))


async def test_an_edit_goes_in_force_within_three_looks(house: House) -> None:
    async with house.kept() as slot:
        await looks_more(house)
        before = house.clock.looks
        house.write(OTHER)
        await until(lambda: slot.current.digest == digest(OTHER))
        assert house.clock.looks - before <= 3 + 1, "and one for whoever watches here"
    assert 3 * LOOK_EVERY_S < 1, "half of the two seconds are left for compiling"


async def test_a_text_that_breaks_the_compiler_itself_is_refused_like_any_other(
    house: House,
) -> None:
    def fails_on_another(files: Mapping[str, str]) -> Compiled:
        if files["policy.yaml"] == OTHER:
            raise RecursionError("too deep")
        return compile_policy(files)

    house.compile = fails_on_another
    async with house.kept() as slot:
        house.write(OTHER)
        await until(lambda: slot.status.refused)
    assert slot.current.digest == digest(GOOD)
    (finding,) = refused(slot).findings
    assert "RecursionError" in str(finding)


# ── while Postgres is away ───────────────────────────────────────────────────────────────────────────────────────────


async def test_edits_go_in_force_while_postgres_is_away_and_are_remembered_later(house: House) -> None:
    async with house.kept() as slot:
        await house.revision(GOOD)
        house.history.away = True
        house.write(OTHER)
        await until(lambda: slot.current.digest == digest(OTHER))
        house.history.away = False
        assert (await house.revision(OTHER)).in_force_at_s is not None


async def test_the_last_known_pin_stands_while_postgres_is_away(house: House) -> None:
    old = await house.remember(OTHER)
    await house.history.pin(Pin(digest=old, by="ada", pinned_at_s=1.0))
    async with house.kept() as slot:
        house.history.away = True
        await looks_more(house)
        assert slot.current.digest == old
        assert slot.status.pin is not None


# ── pins ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_pin_puts_an_old_revision_in_force_until_it_is_released(house: House) -> None:
    old = await house.remember(OTHER)
    async with house.kept() as slot:
        await house.history.pin(Pin(digest=old, by="ada", pinned_at_s=1.0))
        await until(lambda: slot.current.digest == old)
        warning = slot.status.warning()
        assert warning is not None
        assert "pinned by ada" in warning
        assert slot.status.files_digest == digest(GOOD)
        await until(lambda: house.history._revisions[old].in_force_at_s)
        await house.history.release()
        await until(lambda: slot.current.digest == digest(GOOD))
        assert slot.status.warning() is None
    assert house.told.by[1:] == ["ada", "the files"]


async def test_edits_under_a_pin_are_checked_and_remembered_and_go_in_force_when_it_is_released(house: House) -> None:
    old = await house.remember(OTHER)
    third = GOOD.replace("attempts: 3", "attempts: 4")
    await house.history.pin(Pin(digest=old, by="ada", pinned_at_s=1.0))
    async with house.kept() as slot:
        house.write(BROKEN)
        await until(lambda: slot.status.refused)
        house.write(third)
        await until(lambda: slot.status.files_digest == digest(third))
        assert slot.current.digest == old
        assert (await house.revision(third)).in_force_at_s is None
        await house.history.release()
        await until(lambda: slot.current.digest == digest(third))
        await until(lambda: house.history._revisions[digest(third)].in_force_at_s)


async def test_a_pinned_revision_that_does_not_compile_any_more_changes_nothing_but_the_status(house: House) -> None:
    stale = await house.remember(BROKEN)
    async with house.kept() as slot:
        await house.history.pin(Pin(digest=stale, by="ada", pinned_at_s=1.0))
        await until(lambda: slot.status.pin_refused)
        assert slot.current.digest == digest(GOOD)
        assert ("refused", stale) in house.told.heard


async def test_a_pinned_revision_whose_text_was_changed_is_refused(house: House) -> None:
    forged = "0123456789abcdef"
    await house.history.remember(Revision(digest=forged, files={"policy.yaml": OTHER}, author="", seen_at_s=1.0))
    async with house.kept() as slot:
        await house.history.pin(Pin(digest=forged, by="ada", pinned_at_s=1.0))
        await until(lambda: slot.status.pin_refused)
        assert slot.current.digest == digest(GOOD)
        assert "changed behind our back" in str(refused(slot, pinned=True).findings[0])


# ── the start ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_start_takes_the_pinned_revision_before_the_files(house: House) -> None:
    old = await house.remember(OTHER)
    await house.history.pin(Pin(digest=old, by="ada", pinned_at_s=1.0))
    slot = await house.keeper().open()
    assert slot.current.digest == old
    assert house.told.by == ["ada"]


async def test_a_start_with_broken_files_takes_what_was_in_force_last_and_says_so(house: House) -> None:
    await house.remember(GOOD, in_force_at_s=5.0)
    old = await house.remember(OTHER, in_force_at_s=7.0)
    house.write(BROKEN)
    async with house.kept() as slot:
        assert slot.current.digest == old
        warning = slot.status.warning()
        assert warning is not None
        assert "the files were refused: policy.yaml:23:" in warning
        assert house.told.heard == [("in force", old), ("refused", digest(BROKEN))]
        assert house.told.by == ["the history"]
        house.write(GOOD)
        await until(lambda: slot.current.digest == digest(GOOD))
        assert slot.status.warning() is None


async def test_a_start_with_broken_files_and_no_history_is_refused_with_all_findings(house: House) -> None:
    house.write(GOOD.replace("attempts: 3", "attempts: 99").replace("engine: vllm", "engine: vlm"))
    with pytest.raises(PolicyInvalid) as caught:
        await house.keeper().open()
    assert {finding.line for finding in caught.value.findings} == {5, 31}


async def test_a_start_with_valid_files_does_not_wait_for_postgres_but_one_with_broken_files_must(
    house: House,
) -> None:
    house.history.away = True
    assert (await house.keeper().open()).current.digest == digest(GOOD)
    house.write(BROKEN)
    with pytest.raises(BooksAway):
        await house.keeper().open()


async def test_what_was_in_force_last_is_told_by_the_newest_receipt_or_by_what_came_after_it(house: House) -> None:
    assert await last_in_force(house.history, house.ledger) is None
    first = await house.remember(GOOD, in_force_at_s=1.0)
    later = await house.remember(OTHER, in_force_at_s=3.0)
    await house.remember(BROKEN, seen_at_s=9.0)
    assert await in_force_last(house) == later
    await house.ledger.book([encode(a_receipt(request_id=an_id(1), at_us=2_000_000, policy_digest=first))])
    assert await in_force_last(house) == later, "the receipt is older"
    await house.ledger.book([encode(a_receipt(request_id=an_id(2), at_us=4_000_000, policy_digest=first))])
    assert await in_force_last(house) == first, "somebody went back to it"
    await house.ledger.book([encode(a_receipt(request_id=an_id(3), at_us=5_000_000, policy_digest="f" * 16))])
    assert await in_force_last(house) == later, "of a policy from before there was a history"


def an_id(number: int) -> str:
    return f"019ab000-0000-7000-8000-{number:012}"


async def in_force_last(house: House) -> str:
    found = await last_in_force(house.history, house.ledger)
    assert found is not None
    return found.digest
