"""llama.cpp's `llama-server`, November 2026. With several models (router mode) its pages need the model's name, and
must not load it only because somebody looks."""

from __future__ import annotations

from typing import Final

from app.domain.engine import (
    EngineFamily,
    Flag,
    Lack,
    Marks,
    OnAbort,
    Reports,
    WhenFull,
)
from app.domain.signals import SignalName, entry, rule

_MODEL: Final = "?model={model}&autoload=false"
_SLOTS: Final = f"/slots{_MODEL}#[]"

LLAMACPP: Final = EngineFamily(
    name="llamacpp",
    title="llama.cpp (llama-server)",
    metrics=f"/metrics{_MODEL}",
    health="/health",
    version=(entry(f"/props{_MODEL}#build_info"),),
    # What its list of models has is what the model was trained with, not what a slot has.
    context_keys=(),
    context=(entry(f"/props{_MODEL}#default_generation_settings.n_ctx"), entry(f"{_SLOTS}.n_ctx")),
    signals={
        SignalName.RUNNING: rule("llamacpp:requests_processing", f"{_SLOTS}.is_processing"),
        SignalName.WAITING: rule("llamacpp:requests_deferred"),
        SignalName.SLOTS: rule(_SLOTS),
        SignalName.KV_CAPACITY_TOKENS: rule(f"{_SLOTS}.n_ctx"),
        SignalName.PROMPT_TOKENS: rule("llamacpp:prompt_tokens_total"),
        SignalName.GENERATION_TOKENS: rule("llamacpp:tokens_predicted_total"),
        SignalName.PREFILL_SUM_S: rule("llamacpp:prompt_seconds_total"),
        SignalName.DECODE_SUM_S: rule("llamacpp:tokens_predicted_seconds_total"),
    },
    cached_tokens=Reports.ALWAYS,
    on_abort=OnAbort.STOPS_UNVERIFIED,
    when_full=WhenFull.WAITS,
    marks=Marks(metrics=("llamacpp:",), owned_by=frozenset({"llamacpp"})),
    flags=(
        Flag(
            mends=Lack.METRICS,
            add="Add --metrics",
            because="Without it nobody knows how many requests wait there.",
        ),
        Flag(
            mends=Lack.SLOTS,
            add="Add --slots",
            because="Without it nobody knows how many requests it works on at once.",
        ),
    ),
)
