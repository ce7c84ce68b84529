"""Spill: leaving self-hosted targets that are predicted to be slow, and what that may cost."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.money import Nanodollars, shown
from app.domain.routing.policy import Spill
from app.domain.routing.ranking import Contender
from app.domain.target import Hosting, TargetSeen


def reject_over_the_cap(contenders: Sequence[Contender], *, spill: Spill, spent: Nanodollars | None) -> None:
    """Managed targets are out once the rule has spent its cap at them within the hour."""
    if spill.most_per_hour is None or (spent or 0) < spill.most_per_hour:
        return
    for one in contenders:
        if one.rejected is None and one.target.hosting is Hosting.MANAGED:
            one.filter = "spill_cap"
            one.rejected = f"the rule has spent its ${shown(spill.most_per_hour)} of this hour at managed targets"


def hold_back_the_slow(contenders: Sequence[Contender], *, spill: Spill) -> None:
    """Self-hosted targets over the predicted time stand behind all others. They stay candidates: slow is better than
    nothing. A time that is not known holds nothing back; nor does one of an idle target that is over it even without
    the prompt: it was learned under load, and who is never asked is never seen to be fast again."""
    limit_ms = spill.predicted_ttft_ms
    if limit_ms is None:
        return
    for one in contenders:
        ms = one.predicted_ttft_ms
        slow = ms is not None and ms > limit_ms and one.target.hosting is Hosting.SELF_HOSTED
        if slow and one.rejected is None and not _is_doubtful(one.seen, limit_ms=limit_ms):
            one.filter = "spill"
            one.held_back = f"its first token is predicted after {ms:.0f} ms, over the rule's {limit_ms:.0f} ms"


def _is_doubtful(seen: TargetSeen, *, limit_ms: float) -> bool:
    return seen.is_idle and seen.predicted_ttft_ms is not None and seen.predicted_ttft_ms > limit_ms
