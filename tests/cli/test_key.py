"""`app.cli.key`: when a key ends, and what is told of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.cli.key import key_view, read_expiry
from app.domain.errors import BadRequest
from app.ports import KeyRecord
from tests.makers import NOON, a_caller


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30d", NOON + timedelta(days=30)),
        ("12h", NOON + timedelta(hours=12)),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_a_moment_or_so_long_from_now(text: str, moment: datetime) -> None:
    assert read_expiry(text, now=NOON) == moment


@pytest.mark.parametrize("text", ["", "soon", "0d", "30", "2027-13-01", "999999d", "１d"])
def test_what_is_no_moment_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(BadRequest, match="write 2027-01-31"):
        read_expiry(text, now=NOON)


def test_a_key_is_told_without_its_digest() -> None:
    caller = a_caller(expires_at_s=NOON.timestamp(), models=frozenset({"b", "a"}))
    record = KeyRecord(caller=caller, name="first", digest=b"d" * 32, pepper_version=1, created_at_s=0.0)
    view = key_view(record, now_s=NOON.timestamp() - 1)
    assert view["models"] == ["a", "b"]
    assert (view["created_at"], view["expires_at"]) == ("1970-01-01T00:00:00Z", "2026-11-23T12:00:00Z")
    assert "digest" not in view
    assert view["state"] == "active"
    assert key_view(record, now_s=NOON.timestamp())["state"] == "expired"
