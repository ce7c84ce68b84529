"""Has every target a price? One that is not known is never taken for zero."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from app.documents.gather import Gathered, Placed
from app.documents.nearest import mend_for
from app.documents.policy import WrittenTarget
from app.documents.price_lists import NO_CATALOGUE, PriceFault, price_list
from app.documents.rates import WrittenMachinePrice, WrittenTargetRates
from app.documents.words import MOST_USD_PER_MILLION
from app.domain.findings import Finding, Severity
from app.ports.prices import Catalogue


def lint_rates(gathered: Gathered, *, catalogue: Catalogue = NO_CATALOGUE) -> Iterator[Finding]:
    """Faults between prices and what they are of. Only asked when every file could be read."""
    for target in gathered.targets.values():
        if target.written is None:
            continue
        if target.written.hosting == "managed":
            yield from _managed_price(target, target.written, gathered, catalogue)
        else:
            yield from _machine_price(target, target.written, gathered)
    yield from _machines(gathered)
    for name, rates in gathered.target_rates.items():
        if name not in gathered.targets:
            message = f'prices are given for "{name}", which is no target'
            yield rates.finding("unknown-target", message, mend=mend_for(name, gathered.targets, what="targets"))
        elif rates.written is not None:
            target_written = gathered.targets[name].written
            yield from _fitting(rates, rates.written, target_written)
            yield from _too_dear(rates, rates.written, target_written, gathered)


def _machines(gathered: Gathered) -> Iterator[Finding]:
    understood = all(placed.written is not None for placed in gathered.targets.values())
    used = {
        target.written.machine.type for target in gathered.targets.values() if target.written and target.written.machine
    }
    for name, placed in gathered.machine_prices.items():
        if placed.written is not None:
            yield from _marginal(placed, placed.written)
        if understood and name not in used:
            message = f'no target runs on the machine "{name}"'
            yield placed.finding("unused-price", message, mend="remove its price", severity=Severity.WARNING)


def _marginal(placed: Placed[WrittenMachinePrice], price: WrittenMachinePrice) -> Iterator[Finding]:
    if price.marginal_usd_per_hour > price.usd_per_hour:
        message = (
            f"the marginal {price.marginal_usd_per_hour:f} USD are over the {price.usd_per_hour:f} of the whole hour"
        )
        mend = "write what of `usd_per_hour` the machine costs only while it works"
        yield placed.finding("range", message, below=("marginal_usd_per_hour",), mend=mend)


def _managed_price(
    target: Placed[WrittenTarget], written: WrittenTarget, gathered: Gathered, catalogue: Catalogue
) -> Iterator[Finding]:
    rates = gathered.target_rates.get(target.name)
    if rates is not None and rates.written is None:
        return  # its shape is wrong, and that was told
    cards = price_list(written, None if rates is None else rates.written, catalogue=catalogue)
    if isinstance(cards, PriceFault):
        assert rates is not None, "only what is written can be at fault"
        yield rates.finding("price", cards.message, below=cards.below, mend=cards.mend)
    elif not cards:
        message = f'the price of the managed target "{target.name}" is not known'
        add = f"add rates.targets.{target.name}.usd_per_million_tokens: {{prompt: …, cached_prompt: …, completion: …}}"
        yield target.finding("unpriced", message, mend=f"{add}, or .catalogue: a name of `breakeven price list`")


def _machine_price(target: Placed[WrittenTarget], written: WrittenTarget, gathered: Gathered) -> Iterator[Finding]:
    machine = written.machine
    if machine is not None and machine.type not in gathered.machine_prices:
        message = f'the price of the machine "{machine.type}" is not known'
        mend = mend_for(machine.type, gathered.machine_prices, what="machines with a price")
        add = f"add rates.machines.{machine.type}: {{usd_per_hour: …}}"
        yield target.finding("unpriced", message, below=("machine", "type"), mend=f"{add}; {mend}")


def _too_dear(
    rates: Placed[WrittenTargetRates], written: WrittenTargetRates, target: WrittenTarget | None, gathered: Gathered
) -> Iterator[Finding]:
    """A speed so low that a token costs more than any price may."""
    machine = target.machine if target is not None else None
    price = gathered.machine_prices.get(machine.type) if machine is not None else None
    if written.measured is None or machine is None or price is None or price.written is None:
        return
    usd_per_hour = price.written.usd_per_hour * machine.count
    for key in ("prefill_tokens_per_s", "decode_tokens_per_s"):
        tokens_per_s: Decimal = getattr(written.measured, key)
        usd_per_million = usd_per_hour * 1_000_000 / (3600 * tokens_per_s)
        if usd_per_million > MOST_USD_PER_MILLION:
            message = f"{tokens_per_s:f} tokens per second make a million tokens cost over {MOST_USD_PER_MILLION:,} USD"
            mend = "give the speed with many requests at once"
            yield rates.finding("range", message, below=("measured", key), mend=mend)


def _fitting(
    rates: Placed[WrittenTargetRates], written: WrittenTargetRates, target: WrittenTarget | None
) -> Iterator[Finding]:
    """Prices by the token are of managed targets, speeds of self-hosted ones."""
    if target is None:
        return
    if target.hosting == "self_hosted":
        message = f'"{rates.name}" is self-hosted: its tokens are priced by its machine and its speed'
        mend = "remove it; price the machine under rates.machines"
        for key in sorted(written.model_fields_set - {"measured"}):
            yield rates.finding("misplaced", message, below=(key,), at_key=True, mend=mend)
    if target.hosting == "managed" and written.measured is not None:
        message = f'"{rates.name}" is managed: it is priced by the token, not by speed'
        yield rates.finding("misplaced", message, below=("measured",), at_key=True, mend="remove it")
