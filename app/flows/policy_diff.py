"""What differs between two policies, in the words of the language: targets, prices, budgets, and the rules by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, Final

from app.domain.engine import EngineFamily
from app.domain.figures import in_digits
from app.domain.money import Nanodollars, shown
from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.policy import Policy, Preference, Route, Rule, Shadow, Spill, Timeouts
from app.domain.target import Machine

#: How the language calls what the rules call otherwise.
_WORDS: Final = {
    "kind": "engine or provider",
    "in_flight_most": "limits.in_flight",
    "waiting_most": "limits.waiting",
    "requests_per_minute": "limits.requests_per_minute",
    "tokens_per_minute": "limits.tokens_per_minute",
    "marginal_ppm": "marginal_usd_per_hour",
    "rate_card": "price",
    "price_list": "prices by day",
    "amount": "usd",
    "output_tokens_default": "output_tokens.default",
    "output_tokens_most": "output_tokens.most",
    "keeps_sessions": "affinity: session",
    "waits": "wait",
    "most_per_hour": "max_usd_per_hour",
    "most_per_day": "max_usd_per_day",
    "share_ppm": "share",
    "warn_at_ppm": "warn_at",
}
#: Fields that are said otherwise, or follow from others.
_UNSAID: Final = frozenset(
    {"name", "family", "rules", "reads_fleet", "reads_budgets", "prefer", "weights", "per_second", "written_at"}
)
_MONEY: Final = frozenset({"amount", "most_per_hour", "most_per_day"})
_MILLIONTHS_OF_A_PERCENT: Final = 10_000


class Kind(StrEnum):
    """What became of a part of the policy."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. `old` and `new` are as people write them; None: not there."""

    kind: Kind
    #: "target", "engine", "model", "rule", "budget", "machine", or "policy" for what stands once.
    what: str
    name: str
    #: Of a rule: its model.
    model: str | None = None
    #: The key that changed; None: the whole part was added, removed or moved.
    key: str | None = None
    old: str | None = None
    new: str | None = None

    def __str__(self) -> str:
        where = "" if self.model is None else f"model {self.model}: "
        named = f'{self.what} "{self.name}"' if self.what == "rule" else f"{self.what} {self.name}".strip()
        match self.kind:
            case Kind.ADDED:
                return f"{where}{named} is new: {self.new}"
            case Kind.REMOVED:
                return f"{where}{named} is gone: {self.old}"
            case Kind.MOVED:
                return f"{where}{named} moved from {self.old} to {self.new}"
            case Kind.CHANGED:
                return f"{where}{named}: {self.key} {self.old or 'none'} → {self.new or 'none'}"


def policy_changes(old: Policy, new: Policy) -> tuple[Change, ...]:
    """From `old` to `new`, in the order of the files: targets, engines, machines, budgets, models with their rules.
    Empty when they decide alike, however differently they are written."""
    return (
        *_changes("policy", {"": {"timezone": str(old.timezone)}}, {"": {"timezone": str(new.timezone)}}),
        *_changes("target", _all(old.targets), _all(new.targets)),
        *_changes("engine", *_engines(old, new)),
        *_changes("machine", _machines(old), _machines(new)),
        *_changes("speed of target", _all(old.given_rates, without="target"), _all(new.given_rates, without="target")),
        *_changes("budget", _all(old.budgets), _all(new.budgets)),
        *_changes("model", _all(old.routes, without="model"), _all(new.routes, without="model")),
        *(
            change
            for model in dict.fromkeys((*old.routes, *new.routes))
            for change in _rules(old.routes.get(model), new.routes.get(model), model=model)
        ),
    )


def change_view(change: Change) -> dict[str, object]:
    """A change as a JSON-ready mapping."""
    return {
        "kind": change.kind.value,
        "what": change.what,
        "name": change.name,
        "model": change.model,
        "key": change.key,
        "old": change.old,
        "new": change.new,
        "says": str(change),
    }


#: A part of a policy as people write it: key → value. What stands at its default is not there.
Described = Mapping[str, str]


def _changes(
    what: str, old: Mapping[str, Described], new: Mapping[str, Described], *, model: str | None = None
) -> Iterator[Change]:
    """By name: what is gone and what changed in the order of `old`, then what is new in the order of `new`."""
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            yield Change(kind=Kind.REMOVED, what=what, name=name, model=model, old=_in_a_line(before))
            continue
        for key in dict.fromkeys((*before, *after)):
            if before.get(key) != after.get(key):
                yield Change(
                    kind=Kind.CHANGED,
                    what=what,
                    name=name,
                    model=model,
                    key=key,
                    old=before.get(key),
                    new=after.get(key),
                )
    for name, after in new.items():
        if name not in old:
            yield Change(kind=Kind.ADDED, what=what, name=name, model=model, new=_in_a_line(after))


def _in_a_line(described: Described) -> str:
    return ", ".join(f"{key} {value}" for key, value in described.items())


def _rules(old: Route | None, new: Route | None, *, model: str) -> Iterator[Change]:
    before, after = _by_name(old), _by_name(new)
    yield from _changes("rule", before, after, model=model)
    yield from _moves(list(before), list(after), model=model)


def _by_name(route: Route | None) -> Mapping[str, Described]:
    """Should a name stand twice, the later ones are told apart by their number."""
    named: dict[str, Described] = {}
    for rule in () if route is None else route.rules:
        name, number = rule.name, 1
        while name in named:
            number += 1
            name = f"{rule.name} #{number}"
        named[name] = _rule(rule)
    return named


def _moves(old: Sequence[str], new: Sequence[str], *, model: str) -> Iterator[Change]:
    """The fewest rules whose moving explains the new order; places are counted among all rules, from 1."""
    places = {name: place for place, name in enumerate(old)}
    shared = [name for name in new if name in places]
    stayed = _longest_rising([places[name] for name in shared])
    for name in shared:
        if places[name] not in stayed:
            before, after = f"place {places[name] + 1}", f"place {new.index(name) + 1}"
            yield Change(kind=Kind.MOVED, what="rule", name=name, model=model, old=before, new=after)


def _longest_rising(places: Sequence[int]) -> frozenset[int]:
    """The members of one longest rising run, members left out allowed: the rules that kept their order."""
    runs: list[tuple[int, ...]] = []
    best: tuple[int, ...] = ()
    for place in places:
        longest: tuple[int, ...] = ()
        for run in runs:
            if run[-1] < place and len(run) > len(longest):
                longest = run
        runs.append((*longest, place))
        if len(longest) >= len(best):
            best = runs[-1]
    return frozenset(best)


def _machines(policy: Policy) -> Mapping[str, Described]:
    return {name: {"usd_per_hour": f"${_digits(usd)}"} for name, usd in policy.machine_usd_per_hour.items()}


def _all(values: Mapping[str, Any], *, without: str = "") -> Mapping[str, Described]:
    return {name: _described(value, without=without) for name, value in values.items()}


def _engines(old: Policy, new: Policy) -> tuple[Mapping[str, Described], Mapping[str, Described]]:
    """The families that targets of both policies have: those of one alone come and go with its targets."""
    before, after = _families(old), _families(new)
    both = before.keys() & after.keys()
    return (
        {name: _family(family) for name, family in before.items() if name in both},
        {name: _family(family) for name, family in after.items() if name in both},
    )


def _families(policy: Policy) -> Mapping[str, EngineFamily]:
    return {target.kind: target.family for target in policy.targets.values() if target.family is not None}


def _family(family: EngineFamily) -> Described:
    """What `engines` can change of it."""
    errors = [
        f"{each.kind} {sorted(each.statuses)} {sorted(each.codes)} {list(each.phrases)}" for each in family.errors
    ]
    said = {
        "metrics": family.metrics,
        "health": family.health,
        "version": ", ".join(str(place) for place in family.version),
        **{f"signals.{name}": str(rule) for name, rule in family.signals.items()},
        "errors": "; ".join(errors),
        "priority": family.sooner.value,
    }
    return {key: each for key, each in said.items() if each}


def _rule(rule: Rule) -> Described:
    said = {"when": "always" if rule.when is None else rule.when.source}
    return {**said, "prefer": _prefer(rule), **_described(rule, without="when")}


def _prefer(rule: Rule) -> str:
    match rule.prefer:
        case Preference.WEIGHTED:
            return _text("weights", rule.weights)
        case Preference.BALANCED:
            return f"usd_per_second {shown(rule.per_second)}"
        case other:
            return other.value


def _described(value: Any, *, within: str = "", without: str = "") -> Described:
    """Every field that says something; those of a value inside it under its own key."""
    said: dict[str, str] = {}
    for field in (each for each in fields(value) if each.compare):
        held, key = getattr(value, field.name), within + _WORDS.get(field.name, field.name)
        unsaid = field.name in _UNSAID or field.name == without
        at_rest = field.name == "marginal_ppm" and held == 0
        if unsaid or at_rest or held is None or held is False or held in ((), {}) or callable(held):
            continue
        if isinstance(held, Timeouts | Spill | Shadow):
            said.update(_described(held, within=f"{key}."))
        else:
            said[key] = _text(field.name, held)
    return said


def _text(field: str, value: Any) -> str:
    """A value as people write it; the same for values that are equal."""
    match value:
        case True:
            said = "yes"
        case Enum():
            said = str(value.value)
        case int() if field in _MONEY:
            said = f"${shown(Nanodollars(value))}"
        case int() | tuple() if field.endswith("_ppm"):
            said = _percent_text(value) + (" of usd_per_hour" if field == "marginal_ppm" else "")
        case Decimal() | float():
            said = _digits(value)
        case Machine():
            said = f"{value.count} × {value.type}"
        case RateCard() | DatedCard():
            said = _price_text(value)
        case Mapping():
            said = "{" + ", ".join(f"{key}: {one}" for key, one in sorted(value.items())) + "}"
        case frozenset() | tuple():
            names = [_price_text(one) if isinstance(one, DatedCard) else str(one) for one in value]
            said = f"[{', '.join(sorted(names) if isinstance(value, frozenset) else names)}]"
        case _:
            said = str(value)
    return said


def _percent_text(ppm: int | tuple[int, ...]) -> str:
    if isinstance(ppm, tuple):
        return f"[{', '.join(map(_percent_text, ppm))}]"
    return f"{_digits(Decimal(ppm) / _MILLIONTHS_OF_A_PERCENT)} %"


def _price_text(price: RateCard | DatedCard) -> str:
    if isinstance(price, DatedCard):
        days = (("from", price.valid_from), ("to", price.valid_to))
        return " ".join([*(f"{word} {day}" for word, day in days if day), _price_text(price.card)])
    prices = (("prompt", price.prompt), ("cached prompt", price.cached_prompt), ("completion", price.output))
    said = f"{', '.join(f'{name} {_digits(usd)}' for name, usd in prices)} USD per million tokens"
    return said if price.terms is None else f"{said}, and what else the rate card {price.digest} says"


def _digits(number: Decimal | float) -> str:
    is_plain = not isinstance(number, Decimal) and "e" not in str(number)
    return str(number) if is_plain else in_digits(number, significant=None)
