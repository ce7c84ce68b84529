"""Small changes to what a rule does, each of which somebody could have made by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from app.domain.figures import in_digits
from app.domain.money import Nanodollars, shown
from app.domain.routing.policy import Preference, Rule, Shadow, Spill

_MILLION = 1_000_000
#: What could have been written instead.
_OTHERS: dict[Preference, tuple[Preference, ...]] = {
    Preference.LISTED: (Preference.CHEAPEST, Preference.FASTEST),
    Preference.CHEAPEST: (Preference.LISTED, Preference.FASTEST),
    Preference.FASTEST: (Preference.LISTED, Preference.CHEAPEST),
    Preference.BALANCED: (Preference.CHEAPEST, Preference.FASTEST),
    Preference.WEIGHTED: (Preference.LISTED,),
}


def changed_rules(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """Every single change but those of `when`: what changed, in words, and the rule with it.

    The order of `use` is changed where it counts: the other preferences sort by themselves.
    """
    yield from _use(rule)
    if len(rule.use) > 1:
        yield from _preference(rule)
        if rule.keeps_sessions:
            yield "`affinity` is removed", replace(rule, keeps_sessions=False)
    yield from _spill(rule)
    yield from _shadow(rule)
    if rule.waits:
        yield "`wait` is removed", replace(rule, waits=False)


def _use(rule: Rule) -> Iterator[tuple[str, Rule]]:
    use = rule.use
    if len(use) < 2:
        return
    for place, name in enumerate(use):
        yield f"`use` is without {name}", replace(rule, use=(*use[:place], *use[place + 1 :]))
    if rule.prefer is Preference.LISTED:
        for place, (name, following) in enumerate(pairwise(use)):
            swapped = (*use[:place], following, name, *use[place + 2 :])
            yield f"`use` lists {following} before {name}", replace(rule, use=swapped)


def _preference(rule: Rule) -> Iterator[tuple[str, Rule]]:
    for other in _OTHERS[rule.prefer]:
        yield f"`prefer: {rule.prefer.value}` became `{other.value}`", replace(rule, prefer=other)
    if rule.prefer is Preference.BALANCED:
        for word, amount in (("doubled", rule.per_second * 2), ("halved", rule.per_second // 2)):
            yield f"`usd_per_second` is {word}", replace(rule, per_second=Nanodollars(amount))
    if rule.prefer is Preference.WEIGHTED:
        for name, weight in rule.weights.items():
            for other_weight in (weight * 2, 0) if weight else (1,):
                changed = {**rule.weights, name: other_weight}
                if any(changed.values()):
                    yield f"the weight of {name} became {other_weight}", replace(rule, weights=changed)


def _spill(rule: Rule) -> Iterator[tuple[str, Rule]]:
    spill = rule.spill
    if spill is None:
        return
    ms, cap = spill.predicted_ttft_ms, spill.most_per_hour
    if ms is not None:
        for other_ms in (ms * 2, ms / 2):
            changed = _spilling(rule, predicted_ttft_ms=other_ms, cap=cap)
            yield f"`spill.predicted_ttft_ms` became {in_digits(other_ms, significant=6)}", changed
        yield "`spill.predicted_ttft_ms` is removed", _spilling(rule, predicted_ttft_ms=None, cap=cap)
    if cap is not None:
        for amount in (Nanodollars(cap * 2), Nanodollars(cap // 2)):
            changed = _spilling(rule, predicted_ttft_ms=ms, cap=amount)
            yield f"`spill.max_usd_per_hour` became {shown(amount)}", changed
        yield "`spill.max_usd_per_hour` is removed", _spilling(rule, predicted_ttft_ms=ms, cap=None)


def _spilling(rule: Rule, *, predicted_ttft_ms: float | None, cap: Nanodollars | None) -> Rule:
    return replace(rule, spill=Spill(predicted_ttft_ms=predicted_ttft_ms, most_per_hour=cap))


def _shadow(rule: Rule) -> Iterator[tuple[str, Rule]]:
    shadow = rule.shadow
    if shadow is None:
        return
    yield "`shadow` is removed", replace(rule, shadow=None)
    shares = {min(shadow.share_ppm * 2, _MILLION), shadow.share_ppm // 2} - {shadow.share_ppm}
    for share in sorted(shares):
        changed = Shadow(target=shadow.target, share_ppm=share, most_per_day=shadow.most_per_day)
        yield f"`shadow.share` became {in_digits(share / _MILLION, significant=6)}", replace(rule, shadow=changed)
