"""A policy without a fault, for tests to break in one place."""

from __future__ import annotations

from app.documents.compile import compile_policy
from app.domain.errors import PolicyInvalid
from app.domain.findings import Finding

GOOD = """\
timezone: Europe/Berlin
targets:
  gpu-a:
    hosting: self_hosted
    engine: vllm
    url: http://127.0.0.1:8001/v1
    model: small
    can: [chat, completions]
    context_tokens: 8192
    limits: {in_flight: 64}
    machine: {type: h100, count: 2}
  hosted:
    hosting: managed
    provider: openai
    model: gpt-5-mini
    can: [chat, tools]
    credential: env:OPENAI_API_KEY
models:
  chat:
    rules:
      - name: legal stays home
        when: caller.team == "legal"
        use: [gpu-a]
      - name: by weight
        when: request.n > 1
        use: [gpu-a, hosted]
        prefer: {weighted: {gpu-a: 90, hosted: 10}}
      - name: otherwise
        use: [gpu-a, hosted]
        prefer: cheapest
    attempts: 3
    timeouts: {connect_s: 2, first_token_s: 10, idle_s: 20.5, total_s: 300}
    output_tokens: {default: 256, most: 4096}
rates:
  machines:
    h100: {usd_per_hour: 2.50}
  targets:
    hosted:
      usd_per_million_tokens: {prompt: 0.25, cached_prompt: 0.025, completion: 2.00}
    gpu-a:
      measured: {prefill_tokens_per_s: 9000, decode_tokens_per_s: 3000}
"""


def changed(old: str, new: str) -> str:
    """The good policy with one piece replaced; the piece must be there once."""
    assert GOOD.count(old) == 1, f"{old!r} stands {GOOD.count(old)} times in the good policy"
    return GOOD.replace(old, new)


def findings_of(files: dict[str, str] | str) -> tuple[Finding, ...]:
    """Every finding of a policy, whether it is refused or not."""
    try:
        return compile_policy({"policy.yaml": files} if isinstance(files, str) else files).findings
    except PolicyInvalid as refused:
        return refused.findings


def told(files: dict[str, str] | str) -> list[tuple[str, str]]:
    """Place and code of every finding: ("policy.yaml:3:5", "missing")."""
    return [(f"{finding.file}:{finding.line}:{finding.column}", finding.code) for finding in findings_of(files)]
