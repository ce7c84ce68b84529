"""The worker's figures under vLLM's names, so that whoever reads vLLM's metrics reads these."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from app.worker.messages import Ready

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

#: vLLM's bucket bounds, in seconds.
TTFT_BUCKETS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    *(160.0, 640.0, 2560.0),
)
TOKEN_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
REQUEST_BUCKETS: Final = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0),
    *(1920.0, 7680.0),
)
FINISHED_REASONS: Final = ("stop", "length", "abort", "error", "repetition")
_LABELS: Final = ("model_name", "engine")


class Metrics:
    """All series of one worker; they exist from the start, at zero, so that absence always means a fault."""

    def __init__(self, model_name: str) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"model_name": model_name, "engine": "0"}
        self._model_name = model_name
        self.running = self._gauge("num_requests_running", "Answers in progress inside the engine.")
        self.waiting = self._gauge("num_requests_waiting", "Prompts that the engine has not begun to read.")
        self.cache_used = self._gauge("kv_cache_usage_perc", "The share of the key-value cache in use, 0 to 1.")
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens, cached ones included.")
        self.cached_tokens = self._counter("prompt_tokens_cached", "Prompt tokens that were not computed again.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens of answers.")
        self.prefix_queries = self._counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.")
        self.prefix_hits = self._counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.")
        self.preemptions = self._counter("num_preemptions", "Answers interrupted for lack of cache and taken up again.")
        self.ttft_s = self._histogram("time_to_first_token_seconds", "Arrival to first token.", TTFT_BUCKETS)
        self.itl_s = self._histogram("inter_token_latency_seconds", "From one token to the next.", TOKEN_BUCKETS)
        self.tpot_s = self._histogram(
            "request_time_per_output_token_seconds", "Mean time per token after the first.", TOKEN_BUCKETS
        )
        self.e2e_s = self._histogram("e2e_request_latency_seconds", "Arrival to last token.", REQUEST_BUCKETS)
        self.queue_s = self._histogram("request_queue_time_seconds", "Arrival to first computation.", REQUEST_BUCKETS)
        self.prefill_s = self._histogram(
            "request_prefill_time_seconds", "First computation to first token.", REQUEST_BUCKETS
        )
        self.decode_s = self._histogram("request_decode_time_seconds", "First token to last token.", REQUEST_BUCKETS)
        self.inference_s = self._histogram(
            "request_inference_time_seconds", "First computation to last token.", REQUEST_BUCKETS
        )
        success = self._count_by("request_success", "Answers by how they ended.", "finished_reason")
        self._success = {reason: success.labels(**self._labels, finished_reason=reason) for reason in FINISHED_REASONS}
        rejections = Counter(
            "vllm:admission_rejections", "Requests refused.", ("model_name", "reason"), registry=self._registry
        )
        self.rejected = rejections.labels(model_name=model_name, reason="max_num_queued_reqs")
        self._cache_config: Gauge | None = None
        self.account_drifts = self._own_counter(
            "prefix_account_drifts", "Steps after which the account of the prefix cache was not what the engine said."
        )
        self.engine_restarts = self._own_counter("engine_restarts", "Engines started after one had failed.")

    def finished(self, reason: str) -> None:
        self._success[reason].inc()

    def engine_ready(self, ready: Ready, *, context_tokens: int) -> None:
        """Say how large the cache is, once it is known."""
        if self._cache_config is not None:
            return
        tokens = ready.cache_blocks * ready.block_tokens
        facts = {
            "block_size": str(ready.block_tokens),
            "num_gpu_blocks": str(ready.cache_blocks),
            "kv_cache_size_tokens": str(tokens),
            "kv_cache_max_concurrency": f"{tokens / context_tokens:.3f}",
            "enable_prefix_caching": "True",
        }
        self._cache_config = Gauge(
            "vllm:cache_config_info", "The key-value cache, in labels.", ("engine", *facts), registry=self._registry
        )
        self._cache_config.labels(engine="0", **facts).set(1)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"vllm:{name}", what, _LABELS, registry=self._registry).labels(**self._labels)

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(f"vllm:{name}", what, _LABELS, registry=self._registry).labels(**self._labels)

    def _count_by(self, name: str, what: str, label: str) -> Counter:
        return Counter(f"vllm:{name}", what, (*_LABELS, label), registry=self._registry)

    def _own_counter(self, name: str, what: str) -> Counter:
        return Counter(f"breakeven_worker:{name}", what, _LABELS, registry=self._registry).labels(**self._labels)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        family = Histogram(f"vllm:{name}", what, _LABELS, registry=self._registry, buckets=buckets)
        return family.labels(**self._labels)
