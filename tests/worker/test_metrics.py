"""app.worker.metrics: vLLM's names on the wire."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.worker.messages import Ready
from app.worker.metrics import REQUEST_BUCKETS, TOKEN_BUCKETS, TTFT_BUCKETS, Metrics

READY = Ready(engine_version="1", chat_template="", bos_token="", eos_token="", cache_blocks=2452, block_tokens=32)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize(
    "name",
    [
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:prompt_tokens_cached_total",
        "vllm:num_preemptions_total",
        "vllm:time_to_first_token_seconds_count",
        "vllm:inter_token_latency_seconds_count",
        "vllm:request_time_per_output_token_seconds_count",
        "vllm:e2e_request_latency_seconds_count",
        "vllm:request_queue_time_seconds_count",
        "vllm:request_prefill_time_seconds_count",
        "vllm:request_decode_time_seconds_count",
        "vllm:request_inference_time_seconds_count",
    ],
)
def test_every_series_is_there_from_the_start_at_zero(name: str) -> None:
    assert samples(Metrics("m"))[(name, frozenset({("engine", "0"), ("model_name", "m")}))] == 0.0


def test_rejections_have_a_reason_and_no_engine() -> None:
    labels = frozenset({("model_name", "m"), ("reason", "max_num_queued_reqs")})
    assert samples(Metrics("m"))[("vllm:admission_rejections_total", labels)] == 0.0


def test_ends_are_counted_by_reason() -> None:
    metrics = Metrics("m")
    metrics.finished("stop")
    seen = samples(metrics)
    for reason, count in (("stop", 1), ("length", 0), ("abort", 0), ("error", 0), ("repetition", 0)):
        labels = frozenset({("engine", "0"), ("model_name", "m"), ("finished_reason", reason)})
        assert seen[("vllm:request_success_total", labels)] == count


def test_names_that_vllm_no_longer_has_are_absent() -> None:
    text = Metrics("m").text().decode()
    assert "gpu_cache_usage_perc" not in text
    assert "vllm:time_per_output_token_seconds" not in text


@pytest.mark.parametrize(
    ("buckets", "first", "last"), [(TTFT_BUCKETS, 0.001, 2560), (TOKEN_BUCKETS, 0.01, 80), (REQUEST_BUCKETS, 0.3, 7680)]
)
def test_buckets_are_vllms(buckets: tuple[float, ...], first: float, last: float) -> None:
    assert (buckets[0], buckets[-1]) == (first, last)
    assert list(buckets) == sorted(buckets)


def test_the_size_of_the_cache_is_said_once_it_is_known() -> None:
    metrics = Metrics("m")
    assert "cache_config_info" not in metrics.text().decode()
    metrics.engine_ready(READY, context_tokens=8192)
    metrics.engine_ready(READY, context_tokens=8192)
    labels = dict(next(labels for name, labels in samples(metrics) if name == "vllm:cache_config_info"))
    assert labels["kv_cache_size_tokens"] == "78464"
    assert (labels["block_size"], labels["num_gpu_blocks"], labels["engine"]) == ("32", "2452", "0")
