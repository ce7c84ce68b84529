"""Pages brought together: of a name given twice the first stands."""

from __future__ import annotations

from datetime import UTC

from app.documents.gather import gather
from app.documents.page import Page
from app.documents.source import read
from tests.documents.good import GOOD


def page_of(text: str, *, file: str = "a.yaml") -> Page:
    page, _ = read(file=file, text=text)
    assert page is not None
    return page


def test_entries_are_found_by_name_with_their_place() -> None:
    gathered, findings = gather([page_of(GOOD)])
    assert findings == ()
    assert gathered.complete
    assert list(gathered.targets) == ["gpu-a", "hosted"]
    assert list(gathered.models) == ["chat"]
    assert list(gathered.machine_prices) == ["h100"]
    assert list(gathered.target_rates) == ["hosted", "gpu-a"]
    hosted = gathered.targets["hosted"]
    assert (hosted.name, hosted.name_mark.line, hosted.path) == ("hosted", 12, ("targets", "hosted"))


def test_the_first_of_two_pages_keeps_a_name() -> None:
    second = "targets:\n  gpu-a: {hosting: managed, model: other, can: [chat]}\n"
    gathered, findings = gather([page_of(GOOD), page_of(second, file="b.yaml")])
    assert gathered.targets["gpu-a"].page.file == "a.yaml"
    assert [str(finding).partition(": ")[0] for finding in findings] == ["b.yaml:2:3"]


def test_an_entry_of_the_wrong_shape_keeps_its_name_without_a_value() -> None:
    gathered, findings = gather([page_of("targets:\n  gpu-a: 7\n")])
    assert gathered.targets["gpu-a"].written is None
    assert [finding.message for finding in findings] == [
        "targets.gpu-a: it must be a mapping of keys to values, not a whole number"
    ]
    assert gathered.complete


def test_a_part_that_is_not_understood_makes_the_whole_incomplete() -> None:
    for text in ("targets: 7\n", "tragets: {}\n", "- a\n", "rates: {machine: {}}\n"):
        gathered, findings = gather([page_of(text)])
        assert not gathered.complete
        assert len(findings) == 1, text


def test_the_timezone_is_given_once() -> None:
    pages = [page_of("timezone: Europe/Berlin\n"), page_of("timezone: UTC\n", file="b.yaml")]
    gathered, (finding,) = gather(pages)
    assert str(gathered.timezone) == "Europe/Berlin"
    assert str(finding).startswith("b.yaml:1:1: error: the timezone is already written in a.yaml:1")
    gathered, (finding,) = gather([page_of("timezone: 7\n")])
    assert gathered.timezone is UTC
    assert finding.message == "the timezone must be text"
