"""SGLang 0.5.23, read in its source, November 2026. `/v1/loads` tells its load even where the metrics are off."""

from __future__ import annotations

from typing import Final

from app.domain.engine import (
    EngineFamily,
    Flag,
    Lack,
    Marks,
    OnAbort,
    Reports,
    Sooner,
    WhenFull,
)
from app.domain.signals import Combine, SignalName, entry, rule

_LOADS: Final = "/v1/loads?include=core#loads[]"

SGLANG: Final = EngineFamily(
    name="sglang",
    title="SGLang",
    metrics="/metrics",
    health="/health",
    version=(entry("/server_info#version"), entry("/get_server_info#version")),
    context=(entry("/server_info#context_length"),),
    signals={
        SignalName.RUNNING: rule("sglang:num_running_reqs", f"{_LOADS}.num_running_reqs"),
        SignalName.WAITING: rule("sglang:num_queue_reqs", f"{_LOADS}.num_waiting_reqs"),
        SignalName.SLOTS: rule(f"{_LOADS}.max_running_requests"),
        SignalName.KV_USAGE: rule("sglang:token_usage", f"{_LOADS}.token_usage", by=Combine.MAX),
        SignalName.KV_CAPACITY_TOKENS: rule("sglang:max_total_num_tokens", f"{_LOADS}.max_total_num_tokens"),
        SignalName.PREFIX_HIT_RATE: rule("sglang:cache_hit_rate", f"{_LOADS}.cache_hit_rate", by=Combine.MEAN),
        SignalName.PROMPT_TOKENS: rule("sglang:prompt_tokens_total"),
        SignalName.CACHED_TOKENS: rule("sglang:cached_tokens_total"),
        SignalName.GENERATION_TOKENS: rule("sglang:generation_tokens_total"),
        SignalName.TTFT_SUM_S: rule("sglang:time_to_first_token_seconds_sum"),
        SignalName.TTFT_COUNT: rule("sglang:time_to_first_token_seconds_count"),
        SignalName.ITL_SUM_S: rule("sglang:inter_token_latency_seconds_sum"),
        SignalName.ITL_COUNT: rule("sglang:inter_token_latency_seconds_count"),
        SignalName.TPOT_SUM_S: rule("sglang:request_time_per_output_token_seconds_sum"),
        SignalName.TPOT_COUNT: rule("sglang:request_time_per_output_token_seconds_count"),
        SignalName.QUEUE_SUM_S: rule("sglang:queue_time_seconds_sum"),
        SignalName.QUEUE_COUNT: rule("sglang:queue_time_seconds_count"),
        SignalName.PREEMPTIONS: rule("sglang:num_retracted_requests_total"),
        SignalName.REJECTIONS: rule("sglang:num_aborted_requests_total"),
    },
    cached_tokens=Reports.IF_TOLD,
    reasoning_tokens=Reports.ALWAYS,
    sooner=Sooner.LARGER,
    on_abort=OnAbort.STOPS,
    when_full=WhenFull.REFUSES_IF_TOLD,
    continues={"continue_final_message": True},
    marks=Marks(metrics=("sglang:",), owned_by=frozenset({"sglang"})),
    flags=(
        Flag(
            mends=Lack.METRICS,
            add="Add --enable-metrics",
            because="Without it only /v1/loads tells the load, and no times at all.",
        ),
        Flag(
            mends=Lack.CACHED_TOKENS,
            add="Add --enable-cache-report",
            because="Without it cached prompt tokens are not reported, so that they are charged as computed ones.",
        ),
        Flag(
            mends=Lack.QUEUE_LIMIT,
            add="Add --max-queued-requests N",
            because="Without it the queue has no end, and who waits there is not sent elsewhere.",
        ),
    ),
)
