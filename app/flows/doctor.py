"""Every self-hosted target is looked at and tried out, and told what it is, what it lacks and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from app.domain.diagnosis import Diagnosis, diagnosed
from app.domain.engine import Health
from app.domain.errors import SetupError
from app.domain.routing.policy import Policy
from app.domain.target import Hosting, Target
from app.ports.engines import EngineProbe


async def examine(
    targets: Sequence[Target],
    probe: EngineProbe,
    *,
    has_credential: Callable[[str], bool],
    with_request: bool,
    progress: Callable[[str], None],
) -> list[Diagnosis]:
    """One diagnosis a target, in their order; all are looked at at once. `with_request`: those that answer get a small
    chat, which `progress` says beforehand."""
    async with asyncio.TaskGroup() as group:
        looks = [
            group.create_task(
                _examined(target, probe, has_credential=has_credential, with_request=with_request, progress=progress)
            )
            for target in targets
        ]
    return [look.result() for look in looks]


def patients(policy: Policy, name: str | None) -> list[Target]:
    """The self-hosted targets of the policy, or the one of this name. Raises SetupError."""
    homes = {each.name: each for each in policy.targets.values() if each.hosting is Hosting.SELF_HOSTED}
    if name is None:
        if not homes:
            left_out = not_examined(policy)
            raise SetupError(
                "the policy has no self-hosted target: there is nothing to examine"
                + (f" ({left_out})" if left_out else "")
            )
        return list(homes.values())
    if name not in homes:
        known = ", ".join(sorted(homes)) or "none"
        why = ", but a managed one, which is not examined" if name in policy.targets else ""
        raise SetupError(f'"{name}" is not a self-hosted target of the policy{why}; those are: {known}')
    return [homes[name]]


def not_examined(policy: Policy) -> str:
    """Which targets of the policy are left out, and why, in a line; empty: none is."""
    managed = sorted(each.name for each in policy.targets.values() if each.hosting is Hosting.MANAGED)
    return f"managed targets are not examined: {', '.join(managed)}" if managed else ""


async def _examined(
    target: Target,
    probe: EngineProbe,
    *,
    has_credential: Callable[[str], bool],
    with_request: bool,
    progress: Callable[[str], None],
) -> Diagnosis:
    reading = await probe.look(target)
    trial = None
    if with_request and reading.health is not Health.AWAY:
        progress(f"{target.name}: sending one small chat, some hundred tokens at most (--no-request leaves it out)")
        trial = await probe.try_out(target)
    is_present = target.credential is None or has_credential(target.credential)
    return diagnosed(target, reading, trial, has_credential=is_present)
