"""The families that the product knows, by the word that a policy has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from app.domain.engine import EngineFamily, Marks, Reports, Sooner, WhenFull
from app.providers.engines.llamacpp import LLAMACPP
from app.providers.engines.others import DYNAMO, LMDEPLOY, NIM, OLLAMA, OPENAI_COMPATIBLE, TGI
from app.providers.engines.sglang import SGLANG
from app.providers.engines.tensorrt import TRITON, TRTLLM
from app.providers.engines.vllm import VLLM

#: The worker of this product: vLLM's routes and metric names, and nothing that has to be told.
OPENVINO: Final = replace(
    VLLM,
    name="openvino",
    title="the OpenVINO worker",
    cached_tokens=Reports.ALWAYS,
    reasoning_tokens=Reports.NEVER,
    sooner=Sooner.NONE,
    when_full=WhenFull.REFUSES,
    step_tokens=448,  # `worker.scheduler.PROMPT_TOKENS_A_STEP`: a test holds the two together
    continues=None,
    marks=Marks(metrics=("breakeven_worker:",), owned_by=frozenset({"breakeven-worker"})),
    flags=(),
)

FAMILIES: Final[Mapping[str, EngineFamily]] = MappingProxyType(
    {
        family.name: family
        for family in (
            VLLM,
            SGLANG,
            TRTLLM,
            TRITON,
            LLAMACPP,
            OPENVINO,
            TGI,
            LMDEPLOY,
            OLLAMA,
            NIM,
            DYNAMO,
            OPENAI_COMPATIBLE,
        )
    }
)
