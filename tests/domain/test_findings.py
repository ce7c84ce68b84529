from __future__ import annotations

from app.domain.findings import Finding, Severity, finding_view


def _finding(line: int, mend: str = "") -> Finding:
    return Finding(
        file="models.yaml", line=line, column=3, severity=Severity.ERROR, code="x", message="no such thing", mend=mend
    )


def test_a_finding_reads_as_a_place_a_sentence_and_a_mend() -> None:
    assert str(_finding(14, "add it")) == "models.yaml:14:3: error: no such thing (add it)"


def test_a_finding_about_a_whole_file_names_no_line() -> None:
    assert str(_finding(0)) == "models.yaml: error: no such thing"


def test_findings_stand_in_the_order_of_the_text() -> None:
    assert sorted([_finding(20), _finding(3)])[0].line == 3


def test_a_finding_is_plain_values_for_programs() -> None:
    view = finding_view(_finding(14, "add it"))
    assert view == {
        "file": "models.yaml",
        "line": 14,
        "column": 3,
        "severity": "error",
        "code": "x",
        "message": "no such thing",
        "mend": "add it",
    }
    assert type(view["severity"]) is str
