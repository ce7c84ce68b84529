from __future__ import annotations

from tests.makers import a_caller


def test_a_key_without_a_list_may_use_every_model() -> None:
    assert a_caller().may_use("anything")


def test_a_key_with_a_list_may_use_nothing_else() -> None:
    caller = a_caller(models=frozenset({"chat"}))
    assert caller.may_use("chat")
    assert not caller.may_use("chat-hosted")


def test_a_key_is_expired_from_the_very_second_on() -> None:
    caller = a_caller(expires_at_s=100.0)
    assert not caller.has_expired(at_s=99.999)
    assert caller.has_expired(at_s=100.0)
    assert not a_caller().has_expired(at_s=1e12)
