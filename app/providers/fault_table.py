"""How targets spell their failures: data, not code. One row, one meaning; the first row that fits stands. What a family
of engines spells in its own way is read before it (`engines/`).

Read in the sources of vLLM 0.33, SGLang 0.5.23, llama.cpp, Ollama, TGI, LMDeploy and Dynamo 1.5, and in OpenAI's,
Anthropic's and Azure's documentation, November 2026.
"""

from __future__ import annotations

from typing import Final

from app.domain.engine import Spelling
from app.domain.errors import FaultKind

#: Statuses whose message is believed. Others may quote what the caller wrote.
_TOO_LONG: Final = frozenset({400, 413, 422, 500})
_TOO_MANY: Final = frozenset({429, 500, 503, 529})

SPELLINGS: Final = (
    # The account, not the request: waiting a second does not help.
    Spelling(
        kind=FaultKind.MONEY_GONE,
        codes=frozenset(
            {
                "insufficient_quota",
                "organization_spend_limit_exceeded",
                "project_spend_limit_exceeded",
                "enforced_spend_limit_reached",
                "billing_hard_limit_reached",
                "billing_not_active",
                "insufficient_balance",
                "insufficient_credits",
            }
        ),
        phrases=(
            "exceeded your current quota, please check your plan",
            "credit balance is too low",
            "insufficient balance",
        ),
    ),
    Spelling(kind=FaultKind.MONEY_GONE, statuses=frozenset({402})),
    # Too long for the model.
    Spelling(
        kind=FaultKind.CONTEXT_OVERFLOW,
        statuses=_TOO_LONG,
        codes=frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}),
        phrases=(
            "maximum context length",  # OpenAI, vLLM, SGLang
            "longer than the maximum model length",  # vLLM
            "cannot be greater than max_model_len",  # vLLM, output tokens
            "longer than the model's context length",  # SGLang
            "exceeds the available context size",  # llama.cpp
            "exceeds the context length",  # Ollama
            "tokens + `max_new_tokens` must be",  # TGI
            "`inputs` must have less than",  # TGI
        ),
    ),
    # Refused for what it says; OpenAI, Azure, and those who copy them.
    Spelling(
        kind=FaultKind.CONTENT_REFUSED,
        statuses=frozenset({400, 403, 422, 451}),
        codes=frozenset(
            {
                "content_filter",
                "content_policy_violation",
                "responsibleaipolicyviolation",
                "moderation_blocked",
                "invalid_prompt",
                "data_inspection_failed",
            }
        ),
        phrases=("content management policy",),
    ),
    # Full, or not ready: another target, or the same one later.
    Spelling(
        kind=FaultKind.OVERLOADED,
        statuses=_TOO_MANY,
        codes=frozenset({"overloaded", "overloaded_error", "engine_overloaded", "engine_unavailable", "server_busy"}),
        phrases=(
            "currently busy and cannot accept new requests",  # vLLM
            "prefill token backlog limit",  # vLLM
            "the request queue is full",  # SGLang
            "aborted by a higher priority request",  # SGLang
            "server busy, please try again",  # Ollama
            "model is overloaded",  # TGI
            "currently overloaded",  # OpenAI
        ),
    ),
    Spelling(kind=FaultKind.AUTH, codes=frozenset({"invalid_api_key", "invalid_authentication", "api_key_invalid"})),
    Spelling(kind=FaultKind.NOT_FOUND, codes=frozenset({"model_not_found", "deploymentnotfound"})),
    # The status alone.
    Spelling(kind=FaultKind.OVERLOADED, statuses=frozenset({503, 529})),
    Spelling(kind=FaultKind.RATE_LIMITED, statuses=frozenset({429})),
    Spelling(kind=FaultKind.AUTH, statuses=frozenset({401, 403, 407})),
    Spelling(kind=FaultKind.NOT_FOUND, statuses=frozenset({404, 405, 410})),
    Spelling(kind=FaultKind.SERVER_ERROR, statuses=frozenset({408, 409, 425, 499})),
)

#: What to do next, for people; it follows what happened.
ADVICE: Final = {
    FaultKind.REFUSED_CONNECTION: "check that it runs and that the target's url is right",
    FaultKind.CONNECT_TIMEOUT: "check that it is reachable, or raise timeouts.connect_s",
    FaultKind.FIRST_TOKEN_TIMEOUT: "check its load, or raise timeouts.first_token_s",
    FaultKind.IDLE_TIMEOUT: "check its load, or raise timeouts.idle_s",
    FaultKind.TOTAL_TIMEOUT: "ask for fewer tokens, or raise timeouts.total_s",
    FaultKind.CUT: "look into the target's log for the reason",
    FaultKind.INVALID_ANSWER: "check that the target's url leads to an OpenAI-compatible server",
    FaultKind.NOT_REPRODUCED: "ask again, or have the route's `recovery` be another (`buffer` has no such end)",
    FaultKind.OVERLOADED: "try again later, or give its route another target",
    FaultKind.RATE_LIMITED: "try again later, or ask its provider for a higher limit",
    FaultKind.MONEY_GONE: "top up the account behind the target's credential, or raise its spend limit",
    FaultKind.AUTH: "check the target's credential",
    FaultKind.CONTEXT_OVERFLOW: "send a shorter prompt, or ask for fewer output tokens",
    FaultKind.CONTENT_REFUSED: "change what the request says, or send it to a target with another content policy",
    FaultKind.BAD_REQUEST: "correct the request",
    FaultKind.NOT_FOUND: "check the target's url and model",
    FaultKind.SERVER_ERROR: "look into the target's log for the reason",
}
