"""From entries without a fault to the values that decide."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from app.documents.conditions import CelCondition
from app.documents.gather import Gathered, Placed
from app.documents.policy import (
    PROVIDER_URLS,
    WrittenModel,
    WrittenRule,
    WrittenTarget,
    WrittenTimeouts,
    WrittenWeights,
)
from app.documents.rates import WrittenTargetRates
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.self_host import MeasuredRates, standard_card
from app.domain.routing.policy import Policy, Preference, Route, Rule, Timeouts
from app.domain.target import Capability, Hosting, Machine, Target

#: What stands for the engine's version in rates that the policy gives.
GIVEN = "given in the policy"


def assembled(gathered: Gathered, *, conditions: Mapping[tuple[str, int], CelCondition], digest: str) -> Policy:
    """The policy. `gathered` has no errors; `conditions` has every `when`, by model and place of its rule."""
    prices = {name: placed.written.usd_per_hour for name, placed in gathered.machine_prices.items() if placed.written}
    rates = {name: placed.written for name, placed in gathered.target_rates.items() if placed.written}
    targets = {name: placed.written for name, placed in gathered.targets.items() if placed.written}
    given = {
        name: _given_rates(name, model=target.model, rates=rates[name])
        for name, target in targets.items()
        if name in rates and rates[name].measured is not None
    }
    return Policy(
        digest=digest,
        targets=MappingProxyType(
            {
                name: _target(name, target, rate_card=_rate_card(target, rates.get(name), given.get(name), prices))
                for name, target in targets.items()
            }
        ),
        routes=MappingProxyType(
            {
                name: _route(placed, placed.written, conditions)
                for name, placed in gathered.models.items()
                if placed.written
            }
        ),
        timezone=gathered.timezone,
        machine_usd_per_hour=MappingProxyType(prices),
        given_rates=MappingProxyType(given),
    )


def _target(name: str, written: WrittenTarget, *, rate_card: RateCard | None) -> Target:
    kind = written.engine or written.provider
    url = written.url or PROVIDER_URLS.get(written.provider or "")
    assert kind is not None
    assert url is not None, "lint refuses a target without either"
    machine = written.machine
    return Target(
        name=name,
        hosting=Hosting(written.hosting),
        kind=kind,
        url=url.rstrip("/"),
        model=written.model,
        can=frozenset(Capability(word) for word in written.can),
        context_tokens=written.context_tokens,
        in_flight_most=written.limits.in_flight,
        credential=written.credential,
        machine=None if machine is None else Machine(type=machine.type, count=machine.count),
        rate_card=rate_card,
    )


def _rate_card(
    target: WrittenTarget, rates: WrittenTargetRates | None, given: MeasuredRates | None, prices: Mapping[str, Decimal]
) -> RateCard | None:
    """The price as far as the policy knows it; None for a self-hosted target that is measured when it starts."""
    if rates is not None and rates.usd_per_million_tokens is not None:
        written = rates.usd_per_million_tokens
        return RateCard.of(prompt=written.prompt, cached_prompt=written.cached_prompt, output=written.completion)
    if given is None or target.machine is None:
        return None
    usd_per_hour = prices[target.machine.type] * target.machine.count
    return standard_card(usd_per_hour=usd_per_hour, rates=given, origin=f"policy, {GIVEN}")


def _given_rates(name: str, *, model: str, rates: WrittenTargetRates) -> MeasuredRates:
    assert rates.measured is not None
    return MeasuredRates(
        target=name,
        prefill_tokens_per_s=rates.measured.prefill_tokens_per_s,
        decode_tokens_per_s=rates.measured.decode_tokens_per_s,
        model=model,
        engine_version=GIVEN,
    )


def _route(
    placed: Placed[WrittenModel], written: WrittenModel, conditions: Mapping[tuple[str, int], CelCondition]
) -> Route:
    return Route(
        model=placed.name,
        rules=tuple(
            _rule(placed, index, rule, when=conditions.get((placed.name, index)))
            for index, rule in enumerate(written.rules)
        ),
        attempts=written.attempts,
        timeouts=_timeouts(written.timeouts),
        output_tokens_default=_output_default(written),
        output_tokens_most=written.output_tokens.most,
    )


def _output_default(written: WrittenModel) -> int:
    """As written; otherwise the product's default, but not over what the model allows."""
    if written.output_tokens.default is not None:
        return written.output_tokens.default
    usual = Route(model="", rules=()).output_tokens_default
    return usual if written.output_tokens.most is None else min(usual, written.output_tokens.most)


def _rule(placed: Placed[WrittenModel], index: int, written: WrittenRule, *, when: CelCondition | None) -> Rule:
    prefer = written.prefer
    line = placed.page.mark((*placed.path, "rules", index)).line
    return Rule(
        name=written.name,
        when=when,
        use=tuple(written.use),
        prefer=Preference.WEIGHTED if isinstance(prefer, WrittenWeights) else Preference(prefer),
        weights=MappingProxyType(dict(prefer.weighted) if isinstance(prefer, WrittenWeights) else {}),
        written_at=f"{placed.page.file}:{line}",
    )


def _timeouts(written: WrittenTimeouts) -> Timeouts:
    """What is written, over the product's defaults."""
    return Timeouts(**{key: float(seconds) for key, seconds in written if seconds is not None})
