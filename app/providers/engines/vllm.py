"""vLLM 0.33, read in its source, and 0.32, run (`tests/vllm`), November 2026; older names stand behind the newer ones.
Gauges carry `engine`, one series a data-parallel rank."""

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

VLLM: Final = EngineFamily(
    name="vllm",
    title="vLLM",
    metrics="/metrics",
    health="/health",
    version=(entry("/version#version"),),
    signals={
        SignalName.RUNNING: rule("vllm:num_requests_running"),
        SignalName.WAITING: rule("vllm:num_requests_waiting"),
        SignalName.KV_USAGE: rule("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", by=Combine.MAX),
        # Blocks times their size would be wrong for hybrid and sparse models.
        SignalName.KV_CAPACITY_TOKENS: rule("vllm:cache_config_info[kv_cache_size_tokens]"),
        SignalName.PREFIX_QUERIES: rule("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        SignalName.PREFIX_HITS: rule("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        SignalName.PROMPT_TOKENS: rule("vllm:prompt_tokens_total"),
        SignalName.CACHED_TOKENS: rule("vllm:prompt_tokens_cached_total"),
        SignalName.GENERATION_TOKENS: rule("vllm:generation_tokens_total"),
        SignalName.TTFT_SUM_S: rule("vllm:time_to_first_token_seconds_sum"),
        SignalName.TTFT_COUNT: rule("vllm:time_to_first_token_seconds_count"),
        # What was called the time per output token was the time between two tokens.
        SignalName.ITL_SUM_S: rule(
            "vllm:inter_token_latency_seconds_sum",
            "vllm:time_per_output_token_seconds_sum",
        ),
        SignalName.ITL_COUNT: rule(
            "vllm:inter_token_latency_seconds_count",
            "vllm:time_per_output_token_seconds_count",
        ),
        SignalName.TPOT_SUM_S: rule("vllm:request_time_per_output_token_seconds_sum"),
        SignalName.TPOT_COUNT: rule("vllm:request_time_per_output_token_seconds_count"),
        SignalName.QUEUE_SUM_S: rule("vllm:request_queue_time_seconds_sum"),
        SignalName.QUEUE_COUNT: rule("vllm:request_queue_time_seconds_count"),
        SignalName.PREFILL_SUM_S: rule("vllm:request_prefill_time_seconds_sum"),
        SignalName.DECODE_SUM_S: rule("vllm:request_decode_time_seconds_sum"),
        SignalName.PREEMPTIONS: rule("vllm:num_preemptions_total"),
        SignalName.REJECTIONS: rule("vllm:admission_rejections_total"),
    },
    cached_tokens=Reports.IF_TOLD,
    reasoning_tokens=Reports.IF_TOLD,
    sooner=Sooner.LOWER,
    on_abort=OnAbort.STOPS,
    when_full=WhenFull.REFUSES_IF_TOLD,
    # It refuses the first as long as the second has its default.
    continues={"continue_final_message": True, "add_generation_prompt": False},
    marks=Marks(metrics=("vllm:",), owned_by=frozenset({"vllm"})),
    flags=(
        Flag(
            mends=Lack.METRICS,
            add="Remove --disable-log-stats",
            because="It takes all figures away, so that load is known from our own counts only.",
        ),
        Flag(
            mends=Lack.CACHED_TOKENS,
            add="Add --enable-prompt-tokens-details",
            because="Without it cached prompt tokens are not reported, so that they are charged as computed ones.",
        ),
        Flag(
            mends=Lack.STREAM_USAGE,
            add="Add --enable-force-include-usage",
            because="Without usage a stream is booked by an estimate. The flag puts it into every chunk, though the "
            "gateway asks for it at the end alone: see first whether something on the way drops the question.",
        ),
        Flag(
            mends=Lack.TIMINGS,
            add="Add --enable-per-request-metrics",
            because="It tells queue, first token and generation apart for each request.",
        ),
        Flag(
            mends=Lack.REQUEST_ID,
            add="Add --enable-request-id-headers",
            because="It joins a receipt and the engine's log.",
        ),
        Flag(
            mends=Lack.QUEUE_LIMIT,
            add="Add --max-num-queued-reqs N",
            because="Without it the queue has no end, and who waits there is not sent elsewhere (about "
            "data-parallel size x max_num_seqs, and the depth you want).",
        ),
    ),
)
