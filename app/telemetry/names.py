"""Every metric's name, meaning, unit and buckets, on one page; nothing else in the house spells them.

`gen_ai_…` are OpenTelemetry's GenAI conventions (Development, semantic-conventions-genai as of 2026-11) in Prometheus
spelling. They may still move: a new edition of the conventions changes this page alone.

The gateway is the *client* of a target (one attempt, `gen_ai_client_…`) and the *server* of its caller (one request
with all its attempts, `gen_ai_server_…`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CONVENTIONS: Final = "gen_ai 2026-11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric as it is exposed. Histograms have buckets; their labels are given without `le`."""

    name: str
    help: str
    type: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


OPERATION: Final = "gen_ai_operation_name"
PROVIDER: Final = "gen_ai_provider_name"
MODEL: Final = "gen_ai_request_model"
TOKEN_TYPE: Final = "gen_ai_token_type"  # noqa: S105
TARGET: Final = "target"
HOSTING: Final = "hosting"

#: What every figure about an attempt or a request is labelled with; bounded by the policy's own names.
ROUTE_LABELS: Final = (OPERATION, PROVIDER, MODEL, TARGET, HOSTING)

_DURATION_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN_BUCKETS: Final = (
    *(0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0),
)
_EACH_TOKEN_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1),
    *(0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
_TOKEN_BUCKETS: Final = tuple(float(4**power) for power in range(14))
_OVERHEAD_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
_RATIO_BUCKETS: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
_LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

CLIENT_DURATION: Final = Family(
    name="gen_ai_client_operation_duration_seconds",
    help="One attempt at one target, from dispatch to its end.",
    type="histogram",
    labels=ROUTE_LABELS,
    buckets=_DURATION_BUCKETS,
)
CLIENT_FIRST_CHUNK: Final = Family(
    name="gen_ai_client_operation_time_to_first_chunk_seconds",
    help="From dispatch to the target's first event with content.",
    type="histogram",
    labels=ROUTE_LABELS,
    buckets=_FIRST_TOKEN_BUCKETS,
)
CLIENT_EACH_CHUNK: Final = Family(
    name="gen_ai_client_operation_time_per_output_chunk_seconds",
    help="Between events with content: each attempt's mean, counted once for every event after its first.",
    type="histogram",
    labels=ROUTE_LABELS,
    buckets=_EACH_TOKEN_BUCKETS,
)
SERVER_DURATION: Final = Family(
    name="gen_ai_server_request_duration_seconds",
    help="One request as its caller saw it, all attempts included.",
    type="histogram",
    labels=ROUTE_LABELS,
    buckets=_DURATION_BUCKETS,
)
SERVER_FIRST_TOKEN: Final = Family(
    name="gen_ai_server_time_to_first_token_seconds",
    help="From the caller's request to its first content, failed attempts included; complete streams only.",
    type="histogram",
    labels=ROUTE_LABELS,
    buckets=_FIRST_TOKEN_BUCKETS,
)
SERVER_EACH_TOKEN: Final = Family(
    name="gen_ai_server_time_per_output_token_seconds",
    help="Each complete stream's mean time per output token after the first.",
    type="histogram",
    labels=ROUTE_LABELS,
    buckets=_EACH_TOKEN_BUCKETS,
)
TOKENS: Final = Family(
    name="gen_ai_client_token_usage",
    help="Tokens of one attempt by type; cached ones are a part of the input.",
    type="histogram",
    labels=(*ROUTE_LABELS, TOKEN_TYPE),
    buckets=_TOKEN_BUCKETS,
)
REQUESTS: Final = Family(
    name="breakeven_requests_total",
    help="Settled requests by outcome; target and hosting are those of the final attempt.",
    type="counter",
    labels=(*ROUTE_LABELS, "outcome"),
)
ATTEMPTS: Final = Family(
    name="breakeven_attempts_total",
    help="Settled attempts by outcome and fault.",
    type="counter",
    labels=(*ROUTE_LABELS, "outcome", "error_type"),
)
DISPATCHED: Final = Family(
    name="breakeven_dispatched_total",
    help="Attempts begun.",
    type="counter",
    labels=(TARGET,),
)
FALLBACKS: Final = Family(
    name="breakeven_fallbacks_total",
    help="Attempts after a request's first, by the target they came to.",
    type="counter",
    labels=ROUTE_LABELS,
)
HEDGES: Final = Family(
    name="breakeven_hedges_total",
    help="Second attempts beside a first that was slow to begin, by the target they came to and by whose answer the "
    "caller has: first, hedge, neither.",
    type="counter",
    labels=(MODEL, TARGET, "result"),
)
USAGE_MISSING: Final = Family(
    name="breakeven_usage_missing_total",
    help="Attempts that worked and whose usage is an estimate because the target did not report it.",
    type="counter",
    labels=ROUTE_LABELS,
)
CHARGE: Final = Family(
    name="breakeven_charge_nanodollars_total",
    help="Charges since this process started, 1 USD = 1e9. Reports read the ledger, never this.",
    type="counter",
    labels=ROUTE_LABELS,
)
OVERHEAD: Final = Family(
    name="breakeven_overhead_seconds",
    help="The gateway's own part of a request before its first dispatch.",
    type="histogram",
    buckets=_OVERHEAD_BUCKETS,
)
TTFT_ERROR: Final = Family(
    name="breakeven_ttft_prediction_error_ratio",
    help="Real over predicted time to the first token, of requests' first attempts: above 1 it came later.",
    type="histogram",
    labels=(TARGET,),
    buckets=_RATIO_BUCKETS,
)
QUEUE_WAIT: Final = Family(
    name="breakeven_queue_wait_seconds",
    help="In the gateway's own queue for a full target, of those who were in it, however it ended.",
    type="histogram",
    labels=(TARGET,),
    buckets=_FIRST_TOKEN_BUCKETS,
)
QUEUE_ENDED: Final = Family(
    name="breakeven_queue_ended_total",
    help="Requests that met a full target and were to wait for it, by what became of that: sent, or gone without a "
    "place (full, timeout, rests, stops, left).",
    type="counter",
    labels=(TARGET, "result"),
)
QUEUED: Final = Family(
    name="breakeven_queue_length",
    help="Requests that wait now in the gateway's own queue for a full target.",
    type="gauge",
    labels=(TARGET,),
)
LOOP_LAG: Final = Family(
    name="breakeven_event_loop_lag_seconds",
    help="How much later than asked for the event loop woke its watcher.",
    type="histogram",
    buckets=_LAG_BUCKETS,
)
IN_FLIGHT: Final = Family(
    name="breakeven_requests_in_flight",
    help="Attempts in flight now.",
    type="gauge",
    labels=(TARGET,),
)
RESTING: Final = Family(
    name="breakeven_target_resting",
    help="1 while a target's circuit, or its credential's, is open: nothing is sent there but a probe now and then.",
    type="gauge",
    labels=(TARGET,),
)
SHED: Final = Family(
    name="breakeven_requests_shed_total",
    help="Requests answered 503 at once because this process had no room for them, or no time.",
    type="counter",
)
RETRIES_REFUSED: Final = Family(
    name="breakeven_retries_refused_total",
    help="Further attempts that were not made because the retry budget was used up.",
    type="counter",
)
SPOOL_DEPTH: Final = Family(
    name="breakeven_spool_depth", help="Final receipts not yet known to be in Postgres.", type="gauge"
)
SPOOL_REFUSING: Final = Family(
    name="breakeven_spool_refusing",
    help="1 while new work is refused because a record of it could not be kept, 0 otherwise.",
    type="gauge",
)
SPOOL_QUARANTINED: Final = Family(
    name="breakeven_spool_quarantined",
    help="Records kept aside because they are damaged or Postgres refuses them.",
    type="gauge",
)
SHIPPED: Final = Family(name="breakeven_shipped_receipts_total", help="Receipts booked in Postgres.", type="counter")
POSTGRES_UP: Final = Family(
    name="breakeven_postgres_up", help="1 if Postgres answered when last asked, 0 if not.", type="gauge"
)
POLICY: Final = Family(
    name="breakeven_policy_info", help="1 for the policy in force.", type="gauge", labels=("digest",)
)
POLICY_RELOADS: Final = Family(
    name="breakeven_policy_reloads_total",
    help="Edits of the policy since this process started: accepted ones were swapped in, refused ones were not.",
    type="counter",
    labels=("result",),
)
POLICY_REFUSED: Final = Family(
    name="breakeven_policy_refused",
    help="1 while the policy files, or the pinned revision, may not go live; what was in force before stays.",
    type="gauge",
)
SHADOWS: Final = Family(
    name="breakeven_shadow_copies_total",
    help="Copies for shadows, by what became of them: an outcome, or why they were not sent "
    "(crowded, capped, unfit, no_room).",
    type="counter",
    labels=("result",),
)
LOG_DROPPED: Final = Family(
    name="breakeven_log_lines_dropped_total",
    help="Log lines dropped because the sink did not take them in time.",
    type="counter",
)
BUDGET_REFUSALS: Final = Family(
    name="breakeven_budget_refusals_total",
    help="Requests answered 402, by the budget that had no room.",
    type="counter",
    labels=("budget",),
)
LIMIT_REFUSALS: Final = Family(
    name="breakeven_limit_refusals_total",
    help="Requests answered 429 by our own limits, by whose limit it was (key, team) and of what (requests, tokens).",
    type="counter",
    labels=("limit",),
)
BUDGET_USED: Final = Family(
    name="breakeven_budget_used_ratio",
    help="The part of a budget that is spent in its present period; above 1 when it is overspent.",
    type="gauge",
    labels=("budget",),
)
ALERTS: Final = Family(
    name="breakeven_alerts_total",
    help="Alerts of budgets: raised, delivered, failed (attempts), dead (given up).",
    type="counter",
    labels=("result",),
)
