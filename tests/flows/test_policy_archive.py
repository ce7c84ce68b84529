"""Policies found by a word or a digest (`app.flows.policy_archive`)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from app.documents.compile import digest_of
from app.domain.errors import PolicyInvalid
from app.flows.policy_archive import KEPT, Compiler, NotValid, RevisionUnknown, compiled_policy, find_policy
from app.ports import BooksAway, Pin
from tests.archive import BROKEN, FILES, MODELS, TARGETS, TURNED, Cellar


async def test_files_are_the_directory_now_valid_or_not() -> None:
    cellar = Cellar()
    cellar.shelf.files = BROKEN
    assert (await find_policy(cellar.archive(), "files")).files == BROKEN
    with pytest.raises(NotValid, match="apo") as caught:
        await compiled_policy(cellar.archive(), "files")
    assert caught.value.name == "files"


async def test_live_is_the_pin_else_the_files_else_what_was_in_force_last() -> None:
    cellar = Cellar()
    archive = cellar.archive()
    turned = await cellar.remember(TURNED)
    assert (await find_policy(archive, "live")).digest == digest_of(FILES), "the files are valid"
    cellar.shelf.files = BROKEN
    assert (await find_policy(archive, "live")).digest == turned, "the files are refused"
    first = await cellar.remember(FILES, seen_at_s=-60)
    await cellar.history.pin(Pin(digest=first, by="Ada", pinned_at_s=0))
    assert (await find_policy(archive, "live")).digest == first, "one is pinned"


async def test_without_anything_that_was_ever_in_force_the_files_findings_are_told() -> None:
    cellar = Cellar()
    cellar.shelf.files = BROKEN
    with pytest.raises(PolicyInvalid, match="apo"):
        await find_policy(cellar.archive(), "live")


async def test_a_revision_is_found_by_the_beginning_of_its_digest() -> None:
    cellar = Cellar()
    digest = await cellar.remember(TURNED)
    for name in (digest, digest[:4]):
        assert (await find_policy(cellar.archive(), name)).files == TURNED


async def test_a_beginning_that_fits_several_names_them() -> None:
    cellar = Cellar()
    digests: dict[str, list[str]] = {}
    number = 0
    # Two texts whose digests begin alike are found by trying.
    while not any(len(alike) > 1 for alike in digests.values()):
        digest = digest_of({"a.yaml": f"# {number}"})
        digests.setdefault(digest[:4], []).append(f"# {number}")
        number += 1
    beginning, texts = next((name, alike) for name, alike in digests.items() if len(alike) > 1)
    known = [await cellar.remember({"a.yaml": text}) for text in texts]
    with pytest.raises(RevisionUnknown, match="fits 2 revisions") as caught:
        await find_policy(cellar.archive(), beginning)
    assert all(digest in str(caught.value) for digest in known)


@pytest.mark.parametrize("name", ["ffffffff", "nonsense", "", "FILES", "\0", "%", "live "])
async def test_a_name_that_fits_nothing_says_what_there_is(name: str) -> None:
    cellar = Cellar()
    with pytest.raises(RevisionUnknown, match="holds no revision of the policy yet"):
        await find_policy(cellar.archive(), name)
    digest = await cellar.remember(FILES)
    with pytest.raises(RevisionUnknown, match=f"the newest are {digest}"):
        await find_policy(cellar.archive(), name)


async def test_too_short_a_beginning_says_so() -> None:
    cellar = Cellar()
    digest = await cellar.remember(FILES)
    with pytest.raises(RevisionUnknown, match=f"write 4 digits or more, as in {digest}"):
        await find_policy(cellar.archive(), digest[:3])


async def test_while_postgres_is_away_the_files_can_still_be_had_and_nothing_else() -> None:
    cellar = Cellar()
    cellar.history.away = True
    assert (await find_policy(cellar.archive(), "files")).files == FILES
    for name in ("live", "0123"):
        with pytest.raises(BooksAway):
            await find_policy(cellar.archive(), name)


async def test_what_was_compiled_is_at_hand_until_others_took_its_place() -> None:
    compiled = Compiler()
    first = await compiled(FILES)
    assert await compiled(dict(FILES)) is first
    for number in range(KEPT):
        await compiled({"models.yaml": MODELS, "targets.yaml": f"{TARGETS}# {number}\n"})
    assert await compiled(FILES) is not first


async def test_heavy_work_is_done_off_the_loop_and_one_at_a_time() -> None:
    compiled = Compiler()
    at_work: list[int] = []
    most: list[int] = []
    free = threading.Event()

    def work() -> None:
        at_work.append(threading.get_ident())
        most.append(len(at_work))
        assert free.wait(10), "the loop went on meanwhile and set this"
        at_work.pop()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(compiled.take_a_turn(work))
        await asyncio.sleep(0)
        free.set()
    assert most == [1, 1, 1]


async def test_work_that_fails_does_not_keep_others_from_theirs() -> None:
    compiled = Compiler()
    with pytest.raises(PolicyInvalid):
        await compiled(BROKEN)
    assert (await compiled(FILES)).policy.digest == digest_of(FILES)
