"""A receipt for people: where the request went, why, how fast, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from app.domain.ledger.receipt import HEDGE_LOST

View = Mapping[str, Any]

_LOST = ", as the other of two that were asked began to answer first"


def receipt_table(view: View) -> Table:
    """The receipt as `app.domain.ledger.view.receipt_view` gives it, in labelled lines."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in receipt_lines(view):
        table.add_row(label, Text(text))
    return table


def receipt_lines(view: View) -> Iterator[tuple[str, str]]:
    """Label and text of each line; a label that is empty goes on with the one before."""
    yield "receipt", str(view["id"])
    yield "at", f"{view['at']}, key {view['key']}, team {view['team']}, cost centre {view['cost_centre']}"
    if "shadow_of" in view:
        yield "copy", f"for a shadow, of request {view['shadow_of']}; nobody was shown its answer"
    yield "route", _route(view)
    for place, sentence in enumerate(view["why"]):
        yield "why" if place == 0 else "", str(sentence)
    several = len(view["attempts"]) > 1
    for number, attempt in enumerate(view["attempts"], start=1):
        if several:
            yield f"attempt {number}", _attempt(attempt)
        elif attempt["fault_message"]:
            yield "failed", str(attempt["fault_message"])
        yield "tokens", _tokens(attempt["usage"])
        yield "speed", _speed(attempt, streamed=view["stream"])
        yield "price", _price(attempt)
    queue = f"{_ms(view['waited_ms'])} in the gateway's queue and " if view.get("waited_ms") else ""
    yield (
        "took",
        f"{_in_all(view['duration_ms'])}, of which {queue}the gateway {_ms(view['overhead_ms'])} before the dispatch",
    )
    yield "charge", f"${view['charge_usd']}"
    yield from _corrections(view)
    if view["flags"]:
        yield "flags", ", ".join(view["flags"])
    yield "policy", str(view["policy"])


def _route(view: View) -> str:
    stream = ", streamed" if view["stream"] else ""
    target = f"{view['target']} ({_words(view['hosting'])})" if view["target"] else "no target"
    rule = f' by rule "{view["rule"]}"' if view["rule"] else ""
    status = "–" if view["status"] is None else view["status"]
    return f"{view['model']} → {target}{rule}: {view['outcome']}, status {status}, {view['endpoint']}{stream}"


def _corrections(view: View) -> Iterator[tuple[str, str]]:
    for place, one in enumerate(view.get("adjustments", ())):
        card = f", rate card {one['rate_card']}" if one["rate_card"] else ""
        yield "adjusted" if place == 0 else "", f"{_signed(one['amount_usd'])}: {one['reason']} (by {one['by']}{card})"
    if view.get("adjustments"):
        yield "corrected", f"${view['corrected_charge_usd']}: what reports and budgets count"


def _signed(amount: str) -> str:
    return f"-${amount[1:]}" if amount.startswith("-") else f"+${amount}"


def _attempt(attempt: View) -> str:
    fault = f": {attempt['fault_message']}" if attempt["fault_message"] else ""
    lost = not fault and HEDGE_LOST in attempt["flags"]
    return f"{attempt['target']} ({_words(attempt['hosting'])}): {attempt['outcome']}{fault}{_LOST if lost else ''}"


def _tokens(usage: View) -> str:
    reasoning = f" ({usage['reasoning_tokens']} reasoning)" if usage["reasoning_tokens"] else ""
    prompt = f"{usage['prompt_tokens']} prompt ({usage['cached_tokens']} cached)"
    return f"{prompt} + {usage['output_tokens']} output{reasoning}, source: {_words(usage['source'])}"


def _speed(attempt: View, *, streamed: bool) -> str:
    if attempt["ttft_ms"] is None:
        why = "no token came" if streamed else "first token and pace are measured on streams"
        return f"{_in_all(attempt['duration_ms'])} in all ({why})"
    pace = ""
    if attempt["tpot_ms"] is not None:
        pace = f", TPOT {_ms(attempt['tpot_ms'])}, {attempt['tokens_per_s']:.1f} tokens/s"
    return f"TTFT {_ms(attempt['ttft_ms'])}{pace}, {_in_all(attempt['duration_ms'])} in all"


def _price(attempt: View) -> str:
    prices = attempt["usd_per_million_tokens"]
    return (
        f"USD per million tokens: prompt {_plain(prices['prompt'])}, cached {_plain(prices['cached_prompt'])}, "
        f"output {_plain(prices['output'])} (rate card {attempt['rate_card']})"
    )


def _in_all(value: float) -> str:
    """A whole time; nobody saw the end of what was interrupted by the end of its process."""
    return _ms(value) if value else "–"


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def _plain(price: str) -> str:
    """A decimal without the zeros that say nothing."""
    return price.rstrip("0").rstrip(".") if "." in price else price


def _words(name: str) -> str:
    return name.replace("_", "-" if name == "self_hosted" else " ")
