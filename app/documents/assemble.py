"""From entries without a fault to the values that decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType

from app.documents.budgets import WrittenBudget
from app.documents.conditions import CelCondition, preparing
from app.documents.defaults import with_defaults
from app.documents.engine_tables import NO_FAMILIES, engine_families
from app.documents.gather import Gathered, Placed
from app.documents.policy import (
    PROVIDER_URLS,
    Prefer,
    WrittenHedge,
    WrittenModel,
    WrittenPreference,
    WrittenRule,
    WrittenShadow,
    WrittenSpill,
    WrittenTarget,
    WrittenTimeouts,
)
from app.documents.price_lists import NO_CATALOGUE, PriceFault, price_list
from app.documents.rates import WrittenMachinePrice, WrittenTargetRates
from app.domain.budget import Budget, Every, Mode, PastStep
from app.domain.engine import EngineFamily
from app.domain.money import ZERO, Nanodollars, from_dollars
from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.self_host import MeasuredRates, standard_card
from app.domain.routing.policy import (
    KeptAnswers,
    Policy,
    Preference,
    Recovery,
    Route,
    Rule,
    Shadow,
    Spill,
    Timeouts,
)
from app.domain.target import Capability, Hosting, Machine, Target
from app.ports.prices import Catalogue

#: What stands for the engine's version in rates that the policy gives.
GIVEN = "given in the policy"

_MILLION = 1_000_000
#: What a model is that says nothing: the product's defaults.
_USUAL = Route(model="", rules=())


def assembled(
    gathered: Gathered,
    *,
    conditions: Mapping[tuple[str, int], CelCondition],
    digest: str,
    catalogue: Catalogue = NO_CATALOGUE,
    families: Mapping[str, EngineFamily] = NO_FAMILIES,
) -> Policy:
    """The policy. `gathered` has no errors; `conditions` has every `when`, by model and place of its rule; `families`
    are the engines that the product knows."""
    machines = {name: placed.written for name, placed in gathered.machine_prices.items() if placed.written}
    prices = {name: machine.usd_per_hour for name, machine in machines.items()}
    rates = {name: placed.written for name, placed in gathered.target_rates.items() if placed.written}
    targets = {name: placed.written for name, placed in gathered.targets.items() if placed.written}
    given = {
        name: _given_rates(name, model=target.model, rates=rates[name])
        for name, target in targets.items()
        if name in rates and rates[name].measured is not None
    }
    engines = {name: placed.written for name, placed in gathered.engines.items() if placed.written}
    known = engine_families(engines, families)
    budgets = {name: _budget(name, placed.written) for name, placed in gathered.budgets.items() if placed.written}
    routes = {
        name: _route(placed, with_defaults(placed.written, gathered.usual), conditions)
        for name, placed in gathered.models.items()
        if placed.written
    }
    return Policy(
        digest=digest,
        targets=MappingProxyType(
            {
                name: _target(
                    name,
                    target,
                    rate_card=_standard_card(target, given.get(name), prices),
                    prices=_price_list(target, rates.get(name), catalogue),
                    marginal_ppm=_marginal_ppm(target, machines),
                    family=None if target.engine is None else known.get(target.engine),
                )
                for name, target in targets.items()
            }
        ),
        routes=MappingProxyType(routes),
        timezone=gathered.timezone,
        budgets=MappingProxyType(budgets),
        degrading=tuple(budget for budget in budgets.values() if budget.past),
        machine_usd_per_hour=MappingProxyType(prices),
        given_rates=MappingProxyType(given),
        queued=_queued(routes.values(), targets),
    )


def _queued(routes: Iterable[Route], targets: Mapping[str, WrittenTarget]) -> tuple[str, ...]:
    """Targets that may be full while a rule waits for them."""
    waited_for = {name for route in routes for rule in route.rules if rule.waits for name in rule.use}
    return tuple(sorted(name for name in waited_for if targets[name].limits.in_flight is not None))


def _target(
    name: str,
    written: WrittenTarget,
    *,
    rate_card: RateCard | None,
    prices: tuple[DatedCard, ...],
    marginal_ppm: int,
    family: EngineFamily | None,
) -> Target:
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
        waiting_most=written.limits.waiting,
        requests_per_minute=written.limits.requests_per_minute,
        tokens_per_minute=written.limits.tokens_per_minute,
        data_classes=None if written.data_classes is None else frozenset(written.data_classes),
        marginal_ppm=marginal_ppm,
        credential=written.credential,
        machine=None if machine is None else Machine(type=machine.type, count=machine.count),
        family=family,
        rate_card=prices[-1].card if prices else rate_card,
        price_list=() if prices == (*_for_ever(prices),) else prices,
    )


def _price_list(target: WrittenTarget, rates: WrittenTargetRates | None, catalogue: Catalogue) -> tuple[DatedCard, ...]:
    if Hosting(target.hosting) is Hosting.SELF_HOSTED:
        return ()
    prices = price_list(target, rates, catalogue=catalogue)
    assert not isinstance(prices, PriceFault), "lint refuses prices with a fault"
    return prices


def _for_ever(prices: tuple[DatedCard, ...]) -> Iterator[DatedCard]:
    """Those that neither begin nor end."""
    return (dated for dated in prices if dated.valid_from is None and dated.valid_to is None)


def _standard_card(
    target: WrittenTarget, given: MeasuredRates | None, prices: Mapping[str, Decimal]
) -> RateCard | None:
    """The price of our own machine as far as the policy knows it; None where it is measured when it starts."""
    if given is None or target.machine is None:
        return None
    usd_per_hour = prices[target.machine.type] * target.machine.count
    return standard_card(usd_per_hour=usd_per_hour, rates=given, origin=f"policy, {GIVEN}")


def _marginal_ppm(target: WrittenTarget, machines: Mapping[str, WrittenMachinePrice]) -> int:
    """What one more request really costs, in millionths of its standard charge."""
    if target.machine is None:
        return 0
    machine = machines[target.machine.type]
    return round(machine.marginal_usd_per_hour / machine.usd_per_hour * _MILLION)


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
    whens = [
        conditions[placed.name, index] for index in range(len(written.rules)) if (placed.name, index) in conditions
    ]
    return Route(
        model=placed.name,
        rules=tuple(
            _rule(placed, index, rule, when=conditions.get((placed.name, index)))
            for index, rule in enumerate(written.rules)
        ),
        attempts=_USUAL.attempts if written.attempts is None else written.attempts,
        timeouts=_timeouts(written.timeouts),
        recovery=_USUAL.recovery if written.recovery is None else Recovery(written.recovery),
        kept_answers=_USUAL.kept_answers if written.kept_answers is None else KeptAnswers(written.kept_answers),
        hedge_after_s=_hedge_after_s(written.hedge),
        output_tokens_default=_output_default(written),
        output_tokens_most=written.output_tokens.most,
        reads_fleet=tuple(sorted({name for when in whens for name in when.reads_fleet})),
        reads_budgets=tuple(sorted({name for when in whens for name in when.reads_budgets})),
        prepare=preparing(whens),
    )


def _hedge_after_s(written: WrittenHedge | None) -> float | None:
    return None if written is None or written.after_ms is None else float(written.after_ms / 1000)


def _output_default(written: WrittenModel) -> int:
    """As written; otherwise the product's default, but not over what the model allows."""
    if written.output_tokens.default is not None:
        return written.output_tokens.default
    usual = _USUAL.output_tokens_default
    return usual if written.output_tokens.most is None else min(usual, written.output_tokens.most)


def _rule(placed: Placed[WrittenModel], index: int, written: WrittenRule, *, when: CelCondition | None) -> Rule:
    prefer, weights, per_second = _preference(written.prefer)
    line = placed.page.mark((*placed.path, "rules", index)).line
    return Rule(
        name=written.name,
        when=when,
        use=tuple(written.use),
        prefer=prefer,
        weights=MappingProxyType(weights),
        per_second=per_second,
        spill=None if written.spill is None else _spill(written.spill),
        keeps_sessions=written.affinity == "session",
        waits=bool(written.wait),
        shadow=None if written.shadow is None else _shadow(written.shadow),
        written_at=f"{placed.page.file}:{line}",
    )


def _preference(prefer: Prefer | None) -> tuple[Preference, dict[str, int], Nanodollars]:
    """How the rule orders, its weights, and what a second is worth."""
    if not isinstance(prefer, WrittenPreference):
        return Preference.LISTED if prefer is None else Preference(prefer), {}, ZERO
    if prefer.usd_per_second is not None:
        return Preference.BALANCED, {}, from_dollars(prefer.usd_per_second)
    return Preference.WEIGHTED, dict(prefer.weighted or {}), ZERO


def _spill(written: WrittenSpill) -> Spill:
    ms, usd = written.predicted_ttft_ms, written.max_usd_per_hour
    return Spill(
        predicted_ttft_ms=None if ms is None else float(ms),
        most_per_hour=None if usd is None else from_dollars(usd),
    )


def _shadow(written: WrittenShadow) -> Shadow:
    usd = written.max_usd_per_day
    return Shadow(
        target=written.target,
        share_ppm=int(written.share * _MILLION),
        most_per_day=None if usd is None else from_dollars(usd),
    )


def _budget(name: str, written: WrittenBudget) -> Budget:
    steps = (
        PastStep(
            from_ppm=int(Decimal(part) * _MILLION),
            only=tuple(step.only or ()),
            prefer_cheapest=step.prefer == "cheapest",
        )
        for part, step in written.past.items()
        if not isinstance(step, str)
    )
    return Budget(
        name=name,
        amount=from_dollars(written.usd),
        every=Every(written.every),
        team=written.of.team,
        cost_centre=written.of.cost_centre,
        key=written.of.key,
        model=written.of.model,
        tag=written.of.tag,
        mode=Mode(written.mode),
        warn_at_ppm=tuple(sorted(int(part * _MILLION) for part in written.warn_at)),
        past=tuple(sorted(steps, key=lambda step: step.from_ppm)),
    )


def _timeouts(written: WrittenTimeouts) -> Timeouts:
    """What is written, over the product's defaults."""
    return Timeouts(**{key: float(seconds) for key, seconds in written if seconds is not None})
