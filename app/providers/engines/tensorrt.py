"""TensorRT-LLM: its own `trtllm-serve`, and the Triton server with the TensorRT-LLM backend. November 2026.

`trtllm-serve` has two pages of figures. `/metrics` is JSON that is *emptied by whoever reads it*, so it is never asked.
"""

from __future__ import annotations

from typing import Final

from app.domain.engine import EngineFamily, Flag, Lack, Marks, Reports, Spelling
from app.domain.errors import FaultKind
from app.domain.signals import Combine, SignalName, entry, rule

_TOO_LONG: Final = Spelling(
    kind=FaultKind.CONTEXT_OVERFLOW,
    statuses=frozenset({400, 500}),
    phrases=("should not exceed max_num_tokens", "should not exceed max_seq_len", "`default_max_tokens`"),
)
_BLOCKS: Final = "nv_trt_llm_kv_cache_block_metrics"
_REQUESTS: Final = "nv_trt_llm_request_metrics"

TRTLLM: Final = EngineFamily(
    name="trtllm",
    title="TensorRT-LLM (trtllm-serve)",
    metrics="/prometheus/metrics",
    health="/health",
    version=(entry("/version#version"),),
    signals={
        SignalName.RUNNING: rule("trtllm_num_requests_running"),
        SignalName.WAITING: rule("trtllm_num_requests_waiting"),
        SignalName.KV_USAGE: rule("trtllm_kv_cache_utilization", by=Combine.MAX),
        SignalName.KV_CAPACITY_TOKENS: rule("trtllm_kv_cache_max_blocks * trtllm_kv_cache_tokens_per_block"),
        SignalName.PREFIX_HIT_RATE: rule("trtllm_kv_cache_hit_rate", by=Combine.MEAN),
        SignalName.PROMPT_TOKENS: rule("trtllm_prompt_tokens_total"),
        SignalName.CACHED_TOKENS: rule("trtllm_prompt_cached_tokens_total"),
        SignalName.GENERATION_TOKENS: rule("trtllm_generation_tokens_total"),
        SignalName.TTFT_SUM_S: rule("trtllm_time_to_first_token_seconds_sum"),
        SignalName.TTFT_COUNT: rule("trtllm_time_to_first_token_seconds_count"),
        SignalName.TPOT_SUM_S: rule("trtllm_time_per_output_token_seconds_sum"),
        SignalName.TPOT_COUNT: rule("trtllm_time_per_output_token_seconds_count"),
        SignalName.QUEUE_SUM_S: rule("trtllm_request_queue_time_seconds_sum"),
        SignalName.QUEUE_COUNT: rule("trtllm_request_queue_time_seconds_count"),
        SignalName.PREFILL_SUM_S: rule("trtllm_request_prefill_time_seconds_sum"),
        SignalName.DECODE_SUM_S: rule("trtllm_request_decode_time_seconds_sum"),
        SignalName.PREEMPTIONS: rule("trtllm_num_paused_requests"),
        SignalName.REJECTIONS: rule("trtllm_request_error_total"),
    },
    errors=(_TOO_LONG,),
    cached_tokens=Reports.ALWAYS,
    reasoning_tokens=Reports.NEVER,
    marks=Marks(metrics=("trtllm_",), owned_by=frozenset({"tensorrt_llm"})),
    flags=(
        Flag(
            mends=Lack.METRICS,
            add="Add return_perf_metrics: true",
            because="Without it in the file of --extra_llm_api_options there is no /prometheus/metrics, and load is "
            "known from our own counts only.",
        ),
    ),
)

TRITON: Final = EngineFamily(
    name="triton",
    title="Triton with the TensorRT-LLM backend",
    # Triton tells its figures at a port of their own.
    metrics=":8002/metrics",
    health="/v2/health/ready",
    version=(entry("/v2#version"),),
    signals={
        SignalName.RUNNING: rule(f'{_REQUESTS}{{request_type="scheduled"}}'),
        SignalName.WAITING: rule(f'{_REQUESTS}{{request_type="waiting"}}'),
        SignalName.KV_USAGE: rule(f'{_BLOCKS}{{kv_cache_block_type="fraction"}}', by=Combine.MAX),
        SignalName.KV_CAPACITY_TOKENS: rule(
            f'{_BLOCKS}{{kv_cache_block_type="max"}} * {_BLOCKS}{{kv_cache_block_type="tokens_per"}}'
        ),
    },
    errors=(_TOO_LONG,),
    marks=Marks(metrics=("nv_trt_llm_",), owned_by=frozenset({"Triton Inference Server"})),
    flags=(
        Flag(
            mends=Lack.METRICS,
            add="Add --allow-metrics=true --metrics-port=8002",
            because="Without them load is known from our own counts only; at another port, say so under `engines:` in "
            "the policy.",
        ),
    ),
)
