"""LMDeploy, TGI, Ollama, NIM, Dynamo, and whoever only speaks OpenAI's dialect. November 2026."""

from __future__ import annotations

from typing import Final

from app.domain.engine import (
    EngineFamily,
    Flag,
    Lack,
    Marks,
    OnAbort,
    Reports,
    Spelling,
    WhenFull,
)
from app.domain.errors import FaultKind
from app.domain.signals import Combine, SignalName, entry, rule

LMDEPLOY: Final = EngineFamily(
    name="lmdeploy",
    title="LMDeploy",
    metrics="/metrics",
    health="/health",
    signals={
        SignalName.RUNNING: rule("lmdeploy:num_requests_running"),
        SignalName.WAITING: rule("lmdeploy:num_requests_waiting"),
        SignalName.KV_USAGE: rule("lmdeploy:gpu_cache_usage_perc", by=Combine.MAX),
        SignalName.PREFIX_HIT_RATE: rule("lmdeploy:prefix_cache_hit_rate", by=Combine.MEAN),
        SignalName.PROMPT_TOKENS: rule("lmdeploy:prompt_tokens_total"),
        SignalName.CACHED_TOKENS: rule("lmdeploy:cached_tokens_total"),
        SignalName.GENERATION_TOKENS: rule("lmdeploy:generation_tokens_total"),
        SignalName.TTFT_SUM_S: rule("lmdeploy:time_to_first_token_seconds_sum"),
        SignalName.TTFT_COUNT: rule("lmdeploy:time_to_first_token_seconds_count"),
        SignalName.ITL_SUM_S: rule("lmdeploy:iter_token_latency_sum"),
        SignalName.ITL_COUNT: rule("lmdeploy:iter_token_latency_count"),
        SignalName.TPOT_SUM_S: rule("lmdeploy:time_per_output_token_seconds_sum"),
        SignalName.TPOT_COUNT: rule("lmdeploy:time_per_output_token_seconds_count"),
        SignalName.QUEUE_SUM_S: rule("lmdeploy:request_queue_time_seconds_sum"),
        SignalName.QUEUE_COUNT: rule("lmdeploy:request_queue_time_seconds_count"),
        SignalName.PREFILL_SUM_S: rule("lmdeploy:request_prefill_time_seconds_sum"),
        SignalName.DECODE_SUM_S: rule("lmdeploy:request_decode_time_seconds_sum"),
        SignalName.REJECTIONS: rule("lmdeploy:num_requests_failed"),
    },
    cached_tokens=Reports.ALWAYS,
    reasoning_tokens=Reports.ALWAYS,
    when_full=WhenFull.WAITS,
    marks=Marks(metrics=("lmdeploy:",), owned_by=frozenset({"lmdeploy"})),
    flags=(
        Flag(
            mends=Lack.METRICS,
            add="Add --enable-metrics",
            because="Without its figures load is known from our own counts only.",
        ),
    ),
)

TGI: Final = EngineFamily(
    name="tgi",
    title="Text Generation Inference",
    metrics="/metrics",
    health="/health",
    version=(entry("/info#version"),),
    context_keys=(),
    context=(entry("/info#max_total_tokens"),),
    signals={
        SignalName.RUNNING: rule("tgi_batch_current_size"),
        SignalName.WAITING: rule("tgi_queue_size"),
        SignalName.KV_USAGE: rule("tgi_batch_current_max_tokens / tgi_batch_max_total_tokens", by=Combine.MAX),
        SignalName.PROMPT_TOKENS: rule("tgi_request_input_length_sum"),
        SignalName.GENERATION_TOKENS: rule("tgi_request_generated_tokens_sum"),
        SignalName.TPOT_SUM_S: rule("tgi_request_mean_time_per_token_duration_sum"),
        SignalName.TPOT_COUNT: rule("tgi_request_mean_time_per_token_duration_count"),
        SignalName.QUEUE_SUM_S: rule("tgi_request_queue_duration_sum"),
        SignalName.QUEUE_COUNT: rule("tgi_request_queue_duration_count"),
        SignalName.REJECTIONS: rule('tgi_request_failure{err="overloaded"}'),
    },
    cached_tokens=Reports.NEVER,
    reasoning_tokens=Reports.NEVER,
    on_abort=OnAbort.STOPS,
    when_full=WhenFull.REFUSES,
    marks=Marks(metrics=("tgi_",)),
    legacy="It has been in maintenance only since December 2025; move its models to vLLM or SGLang.",
)

OLLAMA: Final = EngineFamily(
    name="ollama",
    title="Ollama",
    # No page of figures at all: load is what we count ourselves.
    health="/api/version",
    version=(entry("/api/version#version"),),
    context_keys=(),
    context=(entry("/api/ps#models[].context_length"),),
    cached_tokens=Reports.NEVER,
    reasoning_tokens=Reports.NEVER,
    on_abort=OnAbort.STOPS,
    when_full=WhenFull.REFUSES,
    marks=Marks(owned_by=frozenset({"library"})),
)

NIM: Final = EngineFamily(
    name="nim",
    title="NVIDIA NIM",
    metrics="/v1/metrics",
    health="/v1/health/ready",
    version=(entry("/v1/version#release"),),
    signals={
        SignalName.RUNNING: rule("num_requests_running"),
        SignalName.WAITING: rule("num_requests_waiting"),
        SignalName.SLOTS: rule("num_request_max"),
        SignalName.KV_USAGE: rule("gpu_cache_usage_perc", by=Combine.MAX),
        SignalName.TTFT_SUM_S: rule("time_to_first_token_seconds_sum"),
        SignalName.TTFT_COUNT: rule("time_to_first_token_seconds_count"),
        SignalName.ITL_SUM_S: rule("time_per_output_token_seconds_sum"),
        SignalName.ITL_COUNT: rule("time_per_output_token_seconds_count"),
    },
    marks=Marks(metrics=("num_requests_running", "num_request_max")),
)

DYNAMO: Final = EngineFamily(
    name="dynamo",
    title="NVIDIA Dynamo",
    metrics="/metrics",
    health="/health",
    signals={
        # Its front end does not say how many requests its workers work on.
        SignalName.WAITING: rule("dynamo_frontend_queued_requests"),
        SignalName.TTFT_SUM_S: rule("dynamo_frontend_time_to_first_token_seconds_sum"),
        SignalName.TTFT_COUNT: rule("dynamo_frontend_time_to_first_token_seconds_count"),
        SignalName.REJECTIONS: rule("dynamo_frontend_model_rejection_total"),
    },
    # 529 while every worker is busy; 503 means that there is none.
    errors=(Spelling(kind=FaultKind.OVERLOADED, statuses=frozenset({529})),),
    on_abort=OnAbort.STOPS,
    when_full=WhenFull.REFUSES,
    marks=Marks(metrics=("dynamo_frontend_",), owned_by=frozenset({"nvidia"})),
)

OPENAI_COMPATIBLE: Final = EngineFamily(
    name="openai_compatible",
    title="an OpenAI-compatible server",
    stream_usage=Reports.UNKNOWN,
)
