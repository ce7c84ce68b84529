"""The policy from the shelf: read, compiled, or refused with every finding."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from app.documents.compile import Compiled, compile_policy
from app.documents.nearest import mend_for
from app.domain.errors import PolicyInvalid
from app.domain.routing.policy import Policy
from app.providers.credentials import NamedCredentials
from app.providers.engines.families import FAMILIES
from app.settings import Settings
from app.storage.price_catalogue import PackagedCatalogue
from app.storage.shelf import PolicyShelf


def read_policy(settings: Settings) -> Compiled:
    """The compiled policy of this directory, with its warnings. Raises PolicyInvalid."""
    return compile_here(PolicyShelf(settings.policies).read())


def compile_here(files: Mapping[str, str]) -> Compiled:
    """`compile_policy` with the list prices that are installed here and the engines that the product knows. Raises
    PolicyInvalid."""
    return compile_policy(files, catalogue=PackagedCatalogue(), families=FAMILIES)


def unknown_models(settings: Settings, models: Collection[str]) -> Mapping[str, str]:
    """Those of `models` that the policy of this directory does not have, each with what to write instead. None where no
    valid policy lies there: that is for others to tell."""
    try:
        routes = read_policy(settings).policy.routes
    except PolicyInvalid:
        return {}
    return {model: mend_for(model, routes, what="models") for model in sorted(models) if model not in routes}


def absent_credentials(policy: Policy, settings: Settings, *, models: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Credentials that are not set in this environment, asked for as a gateway asks for them, by reference: each with
    the targets that need it, of those that rules of these models use or copy to."""
    credentials = NamedCredentials(os.environ, directory=settings.credentials)
    rules = [rule for model in sorted(models) for rule in policy.routes[model].rules]
    names = {name for rule in rules for name in rule.use}
    names |= {rule.shadow.target for rule in rules if rule.shadow is not None}
    needed: dict[str, tuple[str, ...]] = {}
    for name in sorted(names):
        reference = policy.targets[name].credential
        if reference is not None and not credentials.is_present(reference):
            needed[reference] = (*needed.get(reference, ()), name)
    return needed
