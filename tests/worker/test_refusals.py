"""app.worker.refusals: vLLM's words, which routers read."""

from __future__ import annotations

import pytest

from app.worker.messages import Refused
from app.worker.refusals import (
    Refusal,
    bad_value,
    busy,
    engine_dead,
    from_engine,
    given_up,
    malformed,
    not_ready,
    too_large,
    unknown_model,
    unknown_route,
    wrong_method,
)


def test_a_full_queue_is_vllms_503() -> None:
    assert busy().status == 503
    assert busy().body == {
        "error": {
            "message": "The engine is currently busy and cannot accept new requests. "
            "Please try again later or on a different instance.",
            "type": "Service Unavailable",
            "param": None,
            "code": 503,
        }
    }


@pytest.mark.parametrize(("at_least", "count"), [(False, "9000"), (True, "at least 9000")])
def test_a_prompt_over_the_context_is_vllms_400(at_least: bool, count: str) -> None:
    refused = Refused(request_id=1, why="prompt_too_long", prompt_tokens=9000, at_least=at_least)
    body = from_engine(refused, context_tokens=8192).body["error"]
    assert body["message"].startswith(
        f"This model's maximum context length is 8192 tokens. However, your prompt contains {count} input tokens, "
        "which exceeds this limit even without any output tokens."
    )
    assert (body["type"], body["param"], body["code"]) == ("BadRequestError", "input_tokens", 400)


def test_a_prompt_and_answer_over_the_context_is_vllms_400() -> None:
    refused = Refused(request_id=1, why="answer_too_long", prompt_tokens=200, max_tokens=8000)
    body = from_engine(refused, context_tokens=8192).body["error"]
    assert "you requested 8000 output tokens and your prompt contains 200 input tokens" in body["message"]
    assert "for a total of 8200 tokens" in body["message"]
    assert (body["param"], body["code"]) == ("input_tokens", 400)


@pytest.mark.parametrize("why", ["unknown_token", "empty_prompt"])
def test_what_is_wrong_with_the_prompt_itself_names_the_prompt(why: str) -> None:
    refused = from_engine(Refused(request_id=1, why=why), context_tokens=8192)  # type: ignore[arg-type]
    assert (refused.status, refused.param) == (400, "prompt")


def test_an_unknown_model_is_vllms_404() -> None:
    error = unknown_model("nope").body["error"]
    assert error["message"].startswith("The model `nope` does not exist.")
    assert (error["type"], error["param"], error["code"]) == ("NotFoundError", "model", 404)


def test_malformed_and_unsupported_differ_in_type_and_param() -> None:
    assert (malformed("x", field="a.b").kind, malformed("x", field="a.b").param) == ("Bad Request", "body.a.b")
    assert malformed("x").param is None
    assert (bad_value("x", field="a").kind, bad_value("x", field="a").param) == ("BadRequestError", "a")


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (not_ready(), 503),
        (engine_dead(), 500),
        (given_up(), 500),
        (too_large(5), 413),
        (unknown_route("/x"), 404),
        (wrong_method("PUT", "/x"), 405),
    ],
)
def test_every_refusal_has_the_form_of_an_error(refusal: Refusal, status: int) -> None:
    assert refusal.status == status
    assert set(refusal.body["error"]) == {"message", "type", "param", "code"}
    assert refusal.body["error"]["code"] == status
