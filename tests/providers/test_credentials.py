"""Secrets come from the environment by name, and an empty one is none."""

from __future__ import annotations

import pytest

from app.providers.credentials import EnvironmentCredentials


def test_a_reference_is_resolved_at_each_call() -> None:
    environ = {"KEY": "first"}
    credentials = EnvironmentCredentials(environ)
    assert credentials.secret("env:KEY") == "first"
    environ["KEY"] = "second"
    assert credentials.secret("env:KEY") == "second"
    del environ["KEY"]
    assert not credentials.is_present("env:KEY")


@pytest.mark.parametrize("reference", ["env:EMPTY", "env:BLANK", "env:MISSING", "env:", "KEY", "file:KEY", ""])
def test_what_is_empty_missing_or_of_another_kind_is_absent(reference: str) -> None:
    credentials = EnvironmentCredentials({"EMPTY": "", "BLANK": " \n", "KEY": "secret"})
    assert credentials.secret(reference) is None
    assert not credentials.is_present(reference)


def test_blanks_around_a_secret_are_not_part_of_it() -> None:
    assert EnvironmentCredentials({"KEY": " sk-1\n"}).secret("env:KEY") == "sk-1"
