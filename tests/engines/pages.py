"""What engines' pages of figures look like on the wire, with the values that the suite expects to find."""

from __future__ import annotations

import json

TEXT = "text/plain; version=0.0.4; charset=utf-8"
JSON = "application/json"


def page(value: object) -> tuple[str, str]:
    return JSON, json.dumps(value)


def histogram(name: str, labels: str, *, total: float, count: int) -> str:
    """A family of buckets, as the official library writes it."""
    comma = "," if labels else ""
    return "\n".join(
        [
            f"# HELP {name} Histogram.",
            f"# TYPE {name} histogram",
            f'{name}_bucket{{{labels}{comma}le="0.1"}} 1.0',
            f'{name}_bucket{{{labels}{comma}le="+Inf"}} {count}.0',
            f"{name}_count{{{labels}}} {count}.0" if labels else f"{name}_count {count}.0",
            f"{name}_sum{{{labels}}} {total}" if labels else f"{name}_sum {total}",
        ]
    )


_V0 = 'engine="0",model_name="m"'
_V1 = 'engine="1",model_name="m"'

#: vLLM 0.33 with two data-parallel ranks; a counter has `_total` and a gauge `_created` beside it.
VLLM = f"""\
# HELP python_info Python platform information
# TYPE python_info gauge
python_info{{implementation="CPython",major="3",minor="12"}} 1.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{{_V0}}} 3.0
vllm:num_requests_running{{{_V1}}} 4.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{{_V0}}} 0.0
vllm:num_requests_waiting{{{_V1}}} 2.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{{{_V0},reason="capacity"}} 0.0
vllm:num_requests_waiting_by_reason{{{_V1},reason="deferred"}} 2.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{{_V0}}} 0.25
vllm:kv_cache_usage_perc{{{_V1}}} 0.75
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{{block_size="16",engine="0",kv_cache_size_tokens="46592",num_gpu_blocks="2912"}} 1.0
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{{{_V0}}} 805.0
# TYPE vllm:prefix_cache_queries_created gauge
vllm:prefix_cache_queries_created{{{_V0}}} 1.76e+09
vllm:prefix_cache_hits_total{{{_V0}}} 768.0
vllm:prompt_tokens_total{{{_V0}}} 1000.0
vllm:prompt_tokens_total{{{_V1}}} 500.0
vllm:prompt_tokens_cached_total{{{_V0}}} 768.0
vllm:generation_tokens_total{{{_V0}}} 200.0
vllm:num_preemptions_total{{{_V0}}} 1.0
vllm:admission_rejections_total{{model_name="m",reason="max_num_queued_reqs"}} 5.0
vllm:admission_rejections_total{{model_name="m",reason="max_num_queued_tokens"}} 1.0
vllm:estimated_flops_per_gpu_total{{{_V0}}} 0.0
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_sum{{{_V0}}} 44.0
{histogram("vllm:time_to_first_token_seconds", _V0, total=2.5, count=10)}
{histogram("vllm:inter_token_latency_seconds", _V0, total=4.0, count=200)}
{histogram("vllm:request_time_per_output_token_seconds", _V0, total=0.5, count=10)}
{histogram("vllm:request_queue_time_seconds", _V0, total=1.5, count=10)}
{histogram("vllm:request_prefill_time_seconds", _V0, total=0.75, count=10)}
{histogram("vllm:request_decode_time_seconds", _V0, total=3.0, count=10)}
"""
#: --disable-log-stats: the page is there, and none of its figures is.
VLLM_BARE = 'python_info{implementation="CPython",major="3",minor="12"} 1.0\n'

_S = 'engine_type="unified",model_name="m",tp_rank="0"'
SGLANG = f"""\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{{_S}}} 7.0
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{{{_S}}} 2.0
# TYPE sglang:token_usage gauge
sglang:token_usage{{{_S}}} 0.75
sglang:full_token_usage{{{_S}}} 0.8
sglang:max_total_num_tokens{{{_S}}} 46592.0
sglang:cache_hit_rate{{{_S}}} 0.5
sglang:prompt_tokens_total{{{_S}}} 1500.0
sglang:generation_tokens_total{{{_S}}} 200.0
sglang:cached_tokens_total{{{_S},cache_source="device"}} 700.0
sglang:cached_tokens_total{{{_S},cache_source="host"}} 68.0
sglang:num_retracted_requests_total{{{_S}}} 1.0
sglang:num_aborted_requests_total{{{_S}}} 6.0
{histogram("sglang:time_to_first_token_seconds", _S, total=2.5, count=10)}
{histogram("sglang:inter_token_latency_seconds", _S, total=4.0, count=200)}
{histogram("sglang:request_time_per_output_token_seconds", _S, total=0.5, count=10)}
{histogram("sglang:queue_time_seconds", _S, total=1.5, count=10)}
"""
_RANK = {"max_total_num_tokens": 23296, "max_running_requests": 16, "cache_hit_rate": 0.5, "gen_throughput": 100.5}
SGLANG_LOADS = {
    "dp_rank_count": 2,
    "loads": [
        {"dp_rank": 0, "num_running_reqs": 3, "num_waiting_reqs": 0, "token_usage": 0.25, **_RANK},
        {"dp_rank": 1, "num_running_reqs": 4, "num_waiting_reqs": 2, "token_usage": 0.75, **_RANK},
    ],
}

TRTLLM = f"""\
# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{{model_name="m"}} 7.0
trtllm_num_requests_waiting{{model_name="m"}} 2.0
trtllm_kv_cache_utilization{{model_name="m"}} 0.75
trtllm_kv_cache_max_blocks{{model_name="m"}} 1456.0
trtllm_kv_cache_tokens_per_block{{model_name="m"}} 32.0
trtllm_kv_cache_used_blocks{{model_name="m"}} 1092.0
trtllm_kv_cache_hit_rate{{model_name="m"}} 0.5
trtllm_prompt_tokens_total{{model_name="m"}} 1500.0
trtllm_prompt_cached_tokens_total{{model_name="m"}} 768.0
trtllm_generation_tokens_total{{model_name="m"}} 200.0
trtllm_num_paused_requests{{model_name="m"}} 1.0
trtllm_request_error_total{{model_name="m"}} 6.0
{histogram("trtllm_time_to_first_token_seconds", 'model_name="m"', total=2.5, count=10)}
{histogram("trtllm_time_per_output_token_seconds", 'model_name="m"', total=0.5, count=10)}
{histogram("trtllm_request_queue_time_seconds", 'model_name="m"', total=1.5, count=10)}
{histogram("trtllm_request_prefill_time_seconds", 'model_name="m"', total=0.75, count=10)}
{histogram("trtllm_request_decode_time_seconds", 'model_name="m"', total=3.0, count=10)}
"""

_T = 'model="tensorrt_llm",version="1"'
TRITON = f"""\
# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{{{_T},request_type="waiting"}} 2
nv_trt_llm_request_metrics{{{_T},request_type="context"}} 0
nv_trt_llm_request_metrics{{{_T},request_type="scheduled"}} 7
nv_trt_llm_request_metrics{{{_T},request_type="max"}} 64
nv_trt_llm_request_metrics{{{_T},request_type="active"}} 9
# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type="fraction",{_T}}} 0.75
nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type="tokens_per",{_T}}} 32
nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type="used",{_T}}} 1092
nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type="max",{_T}}} 1456
# TYPE nv_inference_count counter
nv_inference_count{{model="tensorrt_llm",version="1"}} 12
"""

#: Written by hand in its C++: no labels.
LLAMACPP = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 1500
# TYPE llamacpp:prompt_seconds_total counter
llamacpp:prompt_seconds_total 0.75
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 200
llamacpp:tokens_predicted_seconds_total 3.0
llamacpp:n_decode_total 210
# TYPE llamacpp:predicted_tokens_seconds gauge
llamacpp:predicted_tokens_seconds 66.6
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
llamacpp:requests_deferred 5
"""
LLAMACPP_SLOTS = [
    {"id": 0, "n_ctx": 4096, "is_processing": True, "id_task": 12},
    {"id": 1, "n_ctx": 4096, "is_processing": True, "id_task": 13},
    {"id": 2, "n_ctx": 4096, "is_processing": False, "id_task": -1},
]

LMDEPLOY = f"""\
# TYPE lmdeploy:num_requests_running gauge
lmdeploy:num_requests_running{{engine="0",model_name="m"}} 7.0
lmdeploy:num_requests_waiting{{engine="0",model_name="m"}} 2.0
lmdeploy:num_api_requests_waiting{{model_name="m"}} 9.0
lmdeploy:gpu_cache_usage_perc{{engine="0",model_name="m"}} 0.75
lmdeploy:prefix_cache_hit_rate{{engine="0",model_name="m"}} 0.5
lmdeploy:prompt_tokens_total{{model_name="m"}} 1500.0
lmdeploy:cached_tokens_total{{model_name="m"}} 768.0
lmdeploy:generation_tokens_total{{model_name="m"}} 200.0
lmdeploy:num_requests_failed{{model_name="m"}} 6.0
{histogram("lmdeploy:time_to_first_token_seconds", 'model_name="m"', total=2.5, count=10)}
{histogram("lmdeploy:iter_token_latency", 'model_name="m"', total=4.0, count=200)}
{histogram("lmdeploy:time_per_output_token_seconds", 'model_name="m"', total=0.5, count=10)}
{histogram("lmdeploy:request_queue_time_seconds", 'model_name="m"', total=1.5, count=10)}
{histogram("lmdeploy:request_prefill_time_seconds", 'model_name="m"', total=0.75, count=10)}
{histogram("lmdeploy:request_decode_time_seconds", 'model_name="m"', total=3.0, count=10)}
"""

TGI = f"""\
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 7
# TYPE tgi_queue_size gauge
tgi_queue_size 2
tgi_batch_current_max_tokens 12000
tgi_batch_max_total_tokens 16000
tgi_request_failure{{err="overloaded"}} 6
tgi_request_failure{{err="validation"}} 40
{histogram("tgi_request_input_length", "", total=1500, count=10)}
{histogram("tgi_request_generated_tokens", "", total=200, count=10)}
{histogram("tgi_request_mean_time_per_token_duration", "", total=0.5, count=10)}
{histogram("tgi_request_queue_duration", "", total=1.5, count=10)}
"""

NIM = f"""\
# TYPE num_requests_running gauge
num_requests_running{{model_name="m"}} 7.0
num_requests_waiting{{model_name="m"}} 2.0
num_request_max{{model_name="m"}} 64.0
gpu_cache_usage_perc{{model_name="m"}} 0.75
{histogram("time_to_first_token_seconds", 'model_name="m"', total=2.5, count=10)}
{histogram("time_per_output_token_seconds", 'model_name="m"', total=4.0, count=200)}
"""

DYNAMO = f"""\
# TYPE dynamo_frontend_queued_requests gauge
dynamo_frontend_queued_requests{{model="m"}} 2
# TYPE dynamo_frontend_requests_total counter
dynamo_frontend_requests_total{{model="m",status="success"}} 10
dynamo_frontend_model_rejection_total{{model="m"}} 6
dynamo_frontend_worker_active_decode_blocks{{worker_id="1"}} 1092
{histogram("dynamo_frontend_time_to_first_token_seconds", 'model="m"', total=2.5, count=10)}
"""
