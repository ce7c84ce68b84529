"""Did you mean …?"""

from __future__ import annotations

from app.documents.nearest import mend_for, nearest


def test_the_most_alike_word_is_meant_and_no_far_one() -> None:
    assert nearest("contxt_tokens", ["context_tokens", "credential"]) == "context_tokens"
    assert nearest("zebra", ["context_tokens", "credential"]) is None


def test_without_a_near_word_all_are_named_in_order() -> None:
    assert mend_for("vlm", ["vllm", "sglang"], what="engines") == 'did you mean "vllm"?'
    assert mend_for("zebra", ["b", "a"], what="engines") == "the engines are a, b"
    assert mend_for("zebra", [], what="engines") == "there are no engines"
