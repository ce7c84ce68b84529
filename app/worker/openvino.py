"""OpenVINO GenAI as an engine. Imported only inside the engine process: the import alone loads 100 MB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import openvino
import openvino_genai as genai

from app.worker.messages import Ready, Sampling
from app.worker.prefix_account import PrefixAccount
from app.worker.scheduler import PROMPT_TOKENS_A_STEP, EngineUnfit, Progress

_PROBE_TOKENS: Final = 256
#: Below this, dividing by the temperature leaves the numbers that the engine computes with; vLLM has the same floor.
_TEMPERATURE_LEAST: Final = 0.01

Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    weights: Path
    max_num_seqs: int
    threads: int
    cache_gb: int


#: A cache that rounds makes an answer depend on what is computed beside it: a seed would not make the same one twice.
KV_PRECISION: Final = "f32"


class OpenVinoPipeline:
    """One model, loaded. Call `warm_up` before anything else."""

    def __init__(self, settings: EngineSettings, *, step_tokens: int | None = None, cache_blocks: int = 0) -> None:
        """Loads and compiles: seconds. `step_tokens` and `cache_blocks` are for tests of the account."""
        self._step_tokens = step_tokens or PROMPT_TOKENS_A_STEP + settings.max_num_seqs
        scheduling = genai.SchedulerConfig()
        scheduling.enable_prefix_caching = True
        scheduling.max_num_seqs = settings.max_num_seqs
        scheduling.max_num_batched_tokens = self._step_tokens
        if cache_blocks:
            scheduling.num_kv_blocks = cache_blocks
        else:
            scheduling.cache_size = settings.cache_gb
        self._pipeline = genai.ContinuousBatchingPipeline(
            str(settings.weights),
            scheduling,
            "CPU",
            {"INFERENCE_NUM_THREADS": settings.threads, "KV_CACHE_PRECISION": KV_PRECISION},
        )
        self._tokenizer = self._pipeline.get_tokenizer()
        self._eos = self._tokenizer.get_eos_token_id()
        self._bytes = _token_bytes(self._tokenizer)
        self._special = _special_tokens(self._tokenizer, self._bytes)
        self.text_tokens_most = len(self.encode("a " * 100_000, add_special_tokens=False))

    @property
    def vocabulary(self) -> int:
        return len(self._bytes)

    @property
    def cache_used(self) -> float:
        return float(self._pipeline.get_metrics().cache_usage) / 100.0

    def warm_up(self, report: Report) -> tuple[PrefixAccount, Ready]:
        """Run two small requests, learn from them how large the cache is, and open its account.

        Raises EngineUnfit when the cache cannot be understood.
        """
        report("warming up", 0.85)
        one, many = [self._eos], [1 + token % (self.vocabulary - 1) for token in range(_PROBE_TOKENS)]
        one_block, many_blocks = self._share_used_by(0, one), self._share_used_by(1, many)
        if one_block <= 0 or many_blocks < one_block:
            raise EngineUnfit("the engine does not tell how much of its cache is used: install openvino-genai 2026.4")
        blocks, block_tokens = round(1 / one_block), round(_PROBE_TOKENS * one_block / many_blocks)
        account = PrefixAccount(blocks=blocks, block_tokens=block_tokens, step_tokens=self._step_tokens)
        for number, tokens in enumerate((one, many)):
            account.admit(number, tokens)
            for _ in range(-(-len(tokens) // self._step_tokens)):
                account.begin_step()
                account.end_step()
            account.release(number)
        return account, Ready(
            engine_version=str(genai.get_version()),
            chat_template=self._tokenizer.get_original_chat_template(),
            bos_token=self._tokenizer.get_bos_token(),
            eos_token=self._tokenizer.get_eos_token(),
            cache_blocks=blocks,
            block_tokens=block_tokens,
        )

    def encode(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        """At most `text_tokens_most` tokens: the engine cuts longer texts without a word."""
        if not text:
            return ()
        ids = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).input_ids
        return tuple(ids.data[0].tolist())

    def decode(self, tokens: Sequence[int]) -> str:
        """Special tokens included. Every token must be in the vocabulary."""
        return b"".join(self._bytes[token] for token in tokens).decode(errors="replace")

    def knows(self, tokens: Sequence[int]) -> bool:
        return all(0 <= token < len(self._bytes) for token in tokens)

    def token_bytes(self, token: int, *, skip_special: bool) -> bytes:
        return b"" if skip_special and token in self._special else self._bytes[token]

    def begin(self, number: int, tokens: Sequence[int], sampling: Sampling, *, max_tokens: int) -> OpenVinoRequest:
        ids = openvino.Tensor(np.array([tokens], dtype=np.int64))
        config = _config(sampling, max_tokens=max_tokens, eos=self._eos)
        try:
            return OpenVinoRequest(self._pipeline.add_request(number, ids, config))
        except RuntimeError as fault:
            raise ValueError(str(fault)) from fault

    def step(self) -> None:
        """One token for every answer in progress; holds the interpreter for as long as it takes."""
        self._pipeline.step()

    def _share_used_by(self, number: int, tokens: Sequence[int]) -> float:
        """The share of the cache that a prompt takes. Its one token of answer never gets into the cache."""
        request = self.begin(number, tokens, Sampling(temperature=0.0, ignore_eos=True), max_tokens=1)
        while request.progress() is Progress.RUNNING:
            self.step()
        return self.cache_used


class OpenVinoRequest:
    """A request inside the pipeline."""

    def __init__(self, handle: genai.py_openvino_genai.GenerationHandle) -> None:
        self._handle = handle
        self._full_length = False

    def new_tokens(self) -> list[int]:
        tokens: list[int] = []
        while self._handle.can_read():
            for output in self._handle.read().values():
                tokens.extend(output.generated_ids)
                self._full_length = output.finish_reason == genai.GenerationFinishReason.LENGTH
        return tokens

    def progress(self) -> Progress:
        status = self._handle.get_status()
        if status == genai.GenerationStatus.RUNNING:
            return Progress.RUNNING
        if status == genai.GenerationStatus.IGNORED:
            return Progress.OUT_OF_MEMORY
        return Progress.FULL_LENGTH if self._full_length else Progress.STOPPED

    def cancel(self) -> None:
        self._handle.cancel()


def _config(sampling: Sampling, *, max_tokens: int, eos: int) -> genai.GenerationConfig:
    """Stop strings and stop tokens are the scheduler's: the engine would hold back more text, and loses them with
    `ignore_eos`."""
    config = genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.min_new_tokens = sampling.min_tokens
    config.eos_token_id = eos
    config.stop_token_ids = {eos}
    config.ignore_eos = sampling.ignore_eos
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.repetition_penalty = sampling.repetition_penalty
    if sampling.temperature > 0:
        config.do_sample = True
        config.temperature = max(sampling.temperature, _TEMPERATURE_LEAST)
        config.top_p = sampling.top_p
        config.min_p = sampling.min_p
        config.rng_seed = sampling.seed
        if sampling.top_k:
            config.top_k = sampling.top_k
    if sampling.json_schema is not None:
        config.structured_output_config = genai.StructuredOutputConfig(json_schema=sampling.json_schema)
    return config


def _token_bytes(tokenizer: genai.Tokenizer) -> list[bytes]:
    vocabulary: dict[bytes, int] = tokenizer.get_vocab()
    bytes_of = [b""] * (max(vocabulary.values()) + 1)
    for token_bytes, token in vocabulary.items():
        bytes_of[token] = token_bytes
    return bytes_of


def _special_tokens(tokenizer: genai.Tokenizer, bytes_of: Sequence[bytes]) -> frozenset[int]:
    """The tokens that the tokenizer itself leaves out of a text; all are written <so>."""
    named = [token for token, text in enumerate(bytes_of) if text.startswith(b"<") and text.endswith(b">")]
    return frozenset(token for token in named if not tokenizer.decode([token]))
