"""Every spelling of a failure becomes the right fault, and no message leaks a key."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import FaultKind
from app.providers.engines.families import FAMILIES
from app.providers.exchange import HttpFault, HttpFaultKind
from app.providers.fault_table import ADVICE
from app.providers.faults import (
    ERROR_BODY_MOST_BYTES,
    EXCHANGE_FAULTS,
    RETRY_AFTER_MOST_S,
    WORDS_MOST,
    Blame,
    cleaned,
    kind_of,
    read_error,
    retry_after_s,
)

VLLM_BUSY = (
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
)
VLLM_LONG = (
    "This model's maximum context length is 2048 tokens. However, your prompt contains at least 4000 input tokens,"
    " which exceeds this limit even without any output tokens."
)
LLAMA_LONG = "the request exceeds the available context size, try increasing it"

ANSWERS: list[tuple[int, object, FaultKind]] = [
    # OpenAI
    (401, {"error": {"message": "Incorrect API key provided: sk-ab***yz.", "code": "invalid_api_key"}}, FaultKind.AUTH),
    (403, {"error": {"message": "Country, region, or territory not supported"}}, FaultKind.AUTH),
    (404, {"error": {"message": "no such model", "code": "model_not_found"}}, FaultKind.NOT_FOUND),
    (429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, FaultKind.RATE_LIMITED),
    (429, {"error": {"message": "quota", "code": "insufficient_quota"}}, FaultKind.MONEY_GONE),
    (429, {"error": {"type": "insufficient_quota"}}, FaultKind.MONEY_GONE),
    (400, {"error": {"code": "organization_spend_limit_exceeded"}}, FaultKind.MONEY_GONE),
    (429, {"error": {"code": "project_spend_limit_exceeded"}}, FaultKind.MONEY_GONE),
    (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, FaultKind.CONTEXT_OVERFLOW),
    (400, {"error": {"message": "bad temperature", "type": "invalid_request_error"}}, FaultKind.BAD_REQUEST),
    (503, {"error": {"message": "That model is currently overloaded with other requests."}}, FaultKind.OVERLOADED),
    # Anthropic's OpenAI surface, and others
    (429, {"error": {"error_code": "enforced_spend_limit_reached"}}, FaultKind.MONEY_GONE),
    (400, {"error": {"message": "Your credit balance is too low to access the API."}}, FaultKind.MONEY_GONE),
    (402, {"error": {"message": "Insufficient Balance"}}, FaultKind.MONEY_GONE),
    (529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}, FaultKind.OVERLOADED),
    # vLLM
    (503, {"error": {"message": VLLM_BUSY, "type": "Service Unavailable", "code": 503}}, FaultKind.OVERLOADED),
    (400, {"error": {"message": VLLM_LONG, "type": "BadRequestError", "code": 400}}, FaultKind.CONTEXT_OVERFLOW),
    (
        400,
        {"error": {"message": "The decoder prompt (length 9) is longer than the maximum model length of 4"}},
        FaultKind.CONTEXT_OVERFLOW,
    ),
    (
        400,
        {"error": {"message": "max_tokens=100000 cannot be greater than max_model_len=4096.", "param": "max_tokens"}},
        FaultKind.CONTEXT_OVERFLOW,
    ),
    (404, {"error": {"message": "The model `nope` does not exist.", "type": "NotFoundError"}}, FaultKind.NOT_FOUND),
    (
        500,
        {"error": {"message": "EngineCore encountered an issue.", "type": "EngineDeadError"}},
        FaultKind.SERVER_ERROR,
    ),
    # SGLang
    (503, {"error": {"message": "The request queue is full."}}, FaultKind.OVERLOADED),
    (
        400,
        {"message": "The input (9 tokens) is longer than the model's context length (4 tokens).", "object": "error"},
        FaultKind.CONTEXT_OVERFLOW,
    ),
    # llama.cpp
    (
        400,
        {"error": {"code": 400, "type": "exceed_context_size_error", "message": LLAMA_LONG}},
        FaultKind.CONTEXT_OVERFLOW,
    ),
    (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, FaultKind.OVERLOADED),
    # Ollama
    (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, FaultKind.OVERLOADED),
    (400, {"error": "the input length exceeds the context length"}, FaultKind.CONTEXT_OVERFLOW),
    # TGI
    (429, {"error": "Model is overloaded", "error_type": "overloaded"}, FaultKind.OVERLOADED),
    (
        422,
        {
            "error": "Input validation error: `inputs` must have less than 4 tokens. Given: 9",
            "error_type": "validation",
        },
        FaultKind.CONTEXT_OVERFLOW,
    ),
    (
        422,
        {"error": "Input validation error: `temperature` must be > 0", "error_type": "validation"},
        FaultKind.BAD_REQUEST,
    ),
    # LMDeploy, Dynamo, FastAPI, proxies
    (503, {"error": {"code": "engine_unavailable"}}, FaultKind.OVERLOADED),
    (499, {"error": {"code": "request_cancelled"}}, FaultKind.SERVER_ERROR),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "not an int"}]}, FaultKind.BAD_REQUEST),
    (500, "Internal Server Error", FaultKind.SERVER_ERROR),
    (502, "<html>Bad Gateway</html>", FaultKind.SERVER_ERROR),
    (504, "", FaultKind.SERVER_ERROR),
    (529, "", FaultKind.OVERLOADED),
    (405, "", FaultKind.NOT_FOUND),
    (301, "", FaultKind.NOT_FOUND),
    (204, "", FaultKind.INVALID_ANSWER),
    (413, "", FaultKind.BAD_REQUEST),
]


def spelled(said: object) -> bytes:
    return said.encode() if isinstance(said, str) else json.dumps(said).encode()


@pytest.mark.parametrize(("status", "said", "kind"), ANSWERS)
def test_the_spellings_of_engines_and_services(status: int, said: object, kind: FaultKind) -> None:
    failure = Blame(target="home").answered(status=status, body=spelled(said))
    assert (failure.kind, failure.status, failure.target) == (kind, status, "home")
    assert str(failure).startswith("home: ")
    assert str(failure).endswith(ADVICE[kind])


def test_what_a_caller_wrote_and_an_error_quotes_does_not_change_its_meaning() -> None:
    quoting = {"error": {"message": "messages[0]: unknown role 'The request queue is full.'", "code": "invalid_value"}}
    assert Blame(target="home").answered(status=400, body=spelled(quoting)).kind is FaultKind.BAD_REQUEST


def test_only_the_callers_own_fault_keeps_its_body_and_only_openais() -> None:
    error = spelled({"error": {"message": "n: too many", "type": "invalid_request_error"}})
    blame = Blame(target="home")
    assert blame.answered(status=400, body=error).body == error
    assert blame.answered(status=500, body=error).body is None
    assert blame.answered(status=400, body=spelled({"detail": "no"})).body is None
    assert blame.answered(status=400, body=spelled({"error": "no"})).body is None
    assert blame.answered(status=400, body=b"<html>").body is None


def test_a_body_that_was_cut_is_not_passed_on() -> None:
    long = spelled({"error": {"message": "x" * ERROR_BODY_MOST_BYTES}})
    failure = Blame(target="home").answered(status=400, body=long)
    assert failure.body is None
    assert len(str(failure)) < WORDS_MOST + 200


@pytest.mark.parametrize("kind", list(HttpFaultKind))
def test_every_broken_exchange_has_its_meaning(kind: HttpFaultKind) -> None:
    failure = Blame(target="home", provider_request_id="p1").broken(HttpFault(kind, "it broke"))
    assert failure.kind is EXCHANGE_FAULTS[kind]
    assert failure.provider_request_id == "p1"
    assert "it broke" in str(failure)


def test_every_fault_says_what_to_do_next() -> None:
    assert set(ADVICE) == set(FaultKind)


# ── Retry-After (F-2) ────────────────────────────────────────────────────────────────────────────────────────────────

DATE = "Mon, 23 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("1", 1.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("3600", 3600.0),
        ("1e9", RETRY_AFTER_MOST_S),
        ("-5", None),
        ("abc", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 12:00:30 -0000", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2099 11:00:00 GMT", RETRY_AFTER_MOST_S),
        ("Mon, 99 Nov 2026 11:00:00 GMT", None),
    ],
)
def test_the_pause_a_target_asks_for_is_read_and_bounded(header: str, pause_s: float | None) -> None:
    assert retry_after_s(header=header, date=DATE) == pause_s


def test_a_moment_without_the_answers_own_date_is_not_guessed_at() -> None:
    assert retry_after_s(header=DATE) is None
    assert retry_after_s(header=DATE, date="yesterday") is None


def test_milliseconds_win_over_seconds() -> None:
    assert retry_after_s(header="9", header_ms="1500") == 1.5
    assert retry_after_s(header="9", header_ms="soon") == 9.0
    assert retry_after_s(header=None) is None


@given(st.text(max_size=40))
def test_no_header_crashes_or_leaves_its_bounds(header: str) -> None:
    pause_s = retry_after_s(header=header, header_ms=header, date=DATE)
    assert pause_s is None or 0 <= pause_s <= RETRY_AFTER_MOST_S


# ── a target's own words ─────────────────────────────────────────────────────────────────────────────────────────────

KEYS = [
    "sk-proj-abcDEF1234567890",
    "sk-ab***yz12",
    "bk_live_0123456789abcdef",
    "hf_abcdefghijkl",
    "AIzaSyA1234567890abcdef",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
    "Bearer abcdef0123456789",
    "0123456789abcdef0123456789abcdef",
]


@pytest.mark.parametrize("key", KEYS)
def test_what_looks_like_a_key_is_hidden(key: str) -> None:
    line = cleaned(f"Incorrect API key provided: {key}. See the docs.")
    assert key not in line
    assert line.startswith("Incorrect API key provided: [hidden]")


def test_the_secret_itself_is_hidden_whatever_it_looks_like() -> None:
    assert cleaned("wrong: swordfish!", secret="swordfish") == "wrong: [hidden]!"


@pytest.mark.parametrize(
    "words",
    [
        "The model `HuggingFaceTB/SmolLM2-135M-Instruct` does not exist.",
        "The model meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8 does not exist",
        "request 019ab000-0000-7000-8000-000000000001 took a risk-adjusted path",
        "basic skipping of bearer tokens",
    ],
)
def test_ordinary_words_and_names_of_models_stay(words: str) -> None:
    assert cleaned(words) == words


@given(st.text(max_size=2000))
def test_words_are_one_line_of_bounded_length(words: str) -> None:
    line = cleaned(words)
    assert len(line) <= WORDS_MOST
    assert len(line.splitlines()) <= 1


@given(st.binary(max_size=200), st.integers(200, 599))
def test_no_answer_crashes(body: bytes, status: int) -> None:
    assert Blame(target="home").answered(status=status, body=body).kind in set(FaultKind)
    assert Blame(target="home").said_in_answer(body).status is not None


@pytest.mark.parametrize("body", [b"[" * 50_000, b'{"error":' * 20_000, b'{"error":{"code":' + b"9" * 5000 + b"}}"])
def test_a_monstrous_body_is_read_as_text(body: bytes) -> None:
    assert Blame(target="home").answered(status=500, body=body).kind is FaultKind.SERVER_ERROR


def test_a_family_spells_its_own_failures_before_all_others() -> None:
    said = read_error(b'{"object":"error","message":"(9) should not exceed max_num_tokens (8)","code":400}')
    assert kind_of(status=400, said=said) is FaultKind.BAD_REQUEST
    assert kind_of(status=400, said=said, spellings=FAMILIES["trtllm"].errors) is FaultKind.CONTEXT_OVERFLOW
    blame = Blame(target="gpu", spellings=FAMILIES["trtllm"].errors)
    assert blame.answered(status=400, body=b"should not exceed max_seq_len").kind is FaultKind.CONTEXT_OVERFLOW
