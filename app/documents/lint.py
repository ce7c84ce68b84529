"""What a schema cannot see: names that lead nowhere, rules that never match, places that are not safe to speak to.

What rules ask of their targets is in `lint_rules`, prices in `lint_rates`, budgets in `lint_budgets`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from app.documents.addresses import fault_of_address
from app.documents.defaults import with_defaults
from app.documents.gather import Gathered, Placed
from app.documents.nearest import mend_for, nearest
from app.documents.page import Scalar
from app.documents.policy import (
    PROVIDER_URLS,
    WrittenDefaults,
    WrittenModel,
    WrittenPreference,
    WrittenRule,
    WrittenTarget,
)
from app.domain.findings import Finding, Severity
from app.domain.routing.policy import Timeouts

#: What a target must be able to do to be of use to a rule.
_ENDPOINTS = frozenset({"chat", "completions"})
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[A-Za-z0-9_][A-Za-z0-9._-]*")


def lint_targets(gathered: Gathered) -> Iterator[Finding]:
    """Faults of targets, each on its own."""
    for placed in gathered.targets.values():
        yield from _credential(placed)
        if placed.written is None:
            continue
        hosted = _self_hosted if placed.written.hosting == "self_hosted" else _managed
        yield from hosted(placed, placed.written)
        yield from _address(placed, placed.written)
        yield from _repeated(placed, ("can",), list(placed.written.can))
        yield from _repeated(placed, ("data_classes",), placed.written.data_classes or [])


def lint_models(gathered: Gathered) -> Iterator[Finding]:
    """Faults of models, each on its own, and of the defaults."""
    if gathered.defaults is not None:
        yield from _bounds(gathered.defaults, gathered.usual, gathered.usual)
        yield from _hedge(gathered.defaults, gathered.usual, gathered.usual)
    for placed in gathered.models.values():
        if placed.written is None:
            continue
        yield from _rule_names(placed, placed.written)
        yield from _rule_order(placed, placed.written)
        whole = with_defaults(placed.written, gathered.usual)
        yield from _bounds(placed, placed.written, whole)
        yield from _hedge(placed, placed.written, whole)
        yield from _hedge_with_nowhere_to_go(placed, placed.written)
        for index, rule in enumerate(placed.written.rules):
            yield from _repeated(placed, ("rules", index, "use"), rule.use)
            if isinstance(rule.prefer, WrittenPreference):
                yield from _preference(placed, index, rule.prefer)
                yield from _weights(placed, index, rule, rule.prefer.weighted)


def lint_links(gathered: Gathered) -> Iterator[Finding]:
    """Faults between entries. Only asked when every file could be read, or it would miss what is written there."""
    used: set[str] = set()
    for placed in gathered.models.values():
        for index, rule in enumerate(placed.written.rules if placed.written else ()):
            used.update(rule.use)
            used.update([rule.shadow.target] if rule.shadow else ())
            yield from _unknown_targets(placed, index, rule, gathered)
            yield from _no_endpoint(placed, index, rule, gathered)
    # A name that leads nowhere is meant to be one of the others: these are not told as unused too.
    astray = not used <= set(gathered.targets)
    if astray or any(placed.written is None for placed in gathered.models.values()):
        return
    for name, target in gathered.targets.items():
        if name not in used:
            message = f'no rule uses the target "{name}"'
            mend = "name it in a rule's `use`, or remove it"
            yield target.finding("unused-target", message, mend=mend, severity=Severity.WARNING)


# ── targets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _self_hosted(placed: Placed[WrittenTarget], target: WrittenTarget) -> Iterator[Finding]:
    name = placed.name
    if target.engine is None:
        yield placed.finding("missing", f'the self-hosted target "{name}" names no engine', mend="add `engine: vllm`")
    if target.provider is not None:
        message = "a provider is of managed targets"
        yield placed.finding("misplaced", message, below=("provider",), at_key=True, mend="write `engine:` instead")
    if target.url is None:
        yield placed.finding("missing", f'the self-hosted target "{name}" has no url', mend="add `url: http://…/v1`")
    if target.machine is None:
        message = f'the self-hosted target "{name}" names no machine, so it has no price'
        yield placed.finding("unpriced", message, mend="add `machine: {type: …, count: 1}` and its price to the rates")


def _managed(placed: Placed[WrittenTarget], target: WrittenTarget) -> Iterator[Finding]:
    name = placed.name
    if target.provider is None:
        message = f'the managed target "{name}" names no provider'
        yield placed.finding("missing", message, mend="add `provider: openai`, or openai_compatible with a `url`")
    if target.engine is not None:
        message = "an engine is of self-hosted targets"
        yield placed.finding("misplaced", message, below=("engine",), at_key=True, mend="write `provider:` instead")
    if target.machine is not None:
        message = "a machine is of self-hosted targets; a managed one is priced by the token"
        yield placed.finding("misplaced", message, below=("machine",), at_key=True, mend="remove it")
    if target.url is None and target.provider is not None and target.provider not in PROVIDER_URLS:
        message = f'the managed target "{name}" has no url'
        yield placed.finding("missing", message, mend="add `url: https://…/v1`")
    if target.url is None and target.provider in PROVIDER_URLS and target.credential is None:
        message = f'the managed target "{name}" has no credential'
        yield placed.finding("missing", message, mend="add `credential: env:OPENAI_API_KEY`")


def _address(placed: Placed[WrittenTarget], target: WrittenTarget) -> Iterator[Finding]:
    fault = None if target.url is None else fault_of_address(target.url)
    if fault is not None:
        yield placed.finding("url", fault.message, below=("url",), mend=fault.mend)


def _credential(placed: Placed[WrittenTarget]) -> Iterator[Finding]:
    """Told whatever else is wrong with the target. What is written is never repeated: it may be the secret itself."""
    node = placed.page.node((*placed.path, "credential"))
    written = node.value if isinstance(node, Scalar) else None
    if isinstance(written, str) and not _REFERENCE.fullmatch(written):
        message = "a credential is written by reference, never by value"
        mend = "write env: and the name of an environment variable, as in env:OPENAI_API_KEY"
        if written.startswith("file:"):
            message = "a credential's file is a name below the directory BREAKEVEN_CREDENTIALS, not a path"
            mend = "write file: and a name of letters, digits, `.`, `_` and `-`, as in file:openai-key"
        yield placed.finding("credential", message, below=("credential",), mend=mend)


def _repeated(
    placed: Placed[WrittenTarget] | Placed[WrittenModel], below: tuple[str | int, ...], words: list[str]
) -> Iterator[Finding]:
    for index, word in enumerate(words):
        if word in words[:index]:
            yield placed.finding("repeated", f'"{word}" is written twice', below=(*below, index), mend="remove one")


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rule_names(placed: Placed[WrittenModel], model: WrittenModel) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, rule in enumerate(model.rules):
        if rule.name in first:
            line = placed.page.mark((*placed.path, "rules", first[rule.name], "name")).line
            message = f'the rule of line {line} is called "{rule.name}" too'
            mend = "receipts tell rules apart by name; rename one"
            yield placed.finding("duplicate-name", message, below=("rules", index, "name"), mend=mend)
        first.setdefault(rule.name, index)


def _rule_order(placed: Placed[WrittenModel], model: WrittenModel) -> Iterator[Finding]:
    for index, rule in enumerate(model.rules):
        if rule.when is None and index + 1 < len(model.rules):
            following = model.rules[index + 1].name
            message = f'"{following}" and what follows is never reached: "{rule.name}" has no `when` and always matches'
            mend = "move the rule without `when` to the end"
            yield placed.finding("unreachable", message, below=("rules", index + 1), mend=mend)
            return
    if model.rules[-1].when is not None:
        message = "the last rule has a `when`: a request that matches no rule is refused"
        mend = "end the rules with one that has no `when`"
        below = ("rules", len(model.rules) - 1, "when")
        yield placed.finding("no-last-rule", message, below=below, at_key=True, mend=mend, severity=Severity.WARNING)


def _bounds(
    placed: Placed[WrittenModel] | Placed[WrittenDefaults],
    own: WrittenModel | WrittenDefaults,
    whole: WrittenModel | WrittenDefaults,
) -> Iterator[Finding]:
    """What is written here against what counts here: `whole` has the defaults too."""
    default, most = own.output_tokens.default, whole.output_tokens.most
    if default is not None and most is not None and default > most:
        message = f"the default of {default} output tokens is over the most of {most}"
        yield placed.finding("bounds", message, below=("output_tokens", "default"), mend="lower one or raise the other")
    total_s = whole.timeouts.total_s
    for key in ("connect_s", "first_token_s", "idle_s", "queue_s"):
        part_s = getattr(own.timeouts, key)
        if total_s is not None and part_s is not None and part_s > total_s:
            message = f"{key} of {part_s} s is never reached: total_s ends the request after {total_s} s"
            yield placed.finding("bounds", message, below=("timeouts", key), mend="lower it, or raise total_s")


def _hedge(
    placed: Placed[WrittenModel] | Placed[WrittenDefaults],
    own: WrittenModel | WrittenDefaults,
    whole: WrittenModel | WrittenDefaults,
) -> Iterator[Finding]:
    """What a hedge that counts here cannot go with. Told where the hedge is written, or else what it cannot go with;
    where both are the defaults', there alone."""
    if whole.hedge is None or whole.hedge.after_ms is None:
        return
    none = "leave the hedge out" if own.hedge is not None else "write `hedge: {}` here, so that there is none"
    faults: list[tuple[tuple[str, ...], object, str, str]] = []
    if whole.recovery in ("restart", "continue"):
        message = f"a hedge does not go with `recovery: {whole.recovery}`: two tellings of an answer cannot race"
        faults.append((("recovery",), own.recovery, message, f"write `recovery: error` or `buffer`, or {none}"))
    if whole.attempts == 1:
        message = "a hedge is a second attempt, and `attempts: 1` allows one only"
        faults.append((("attempts",), own.attempts, message, f"write `attempts: 2` or more, or {none}"))
    first_token_s = whole.timeouts.first_token_s or Timeouts().first_token_s
    if whole.hedge.after_ms >= 1000 * first_token_s:
        after_ms = f"{whole.hedge.after_ms.normalize():f}"
        message = f"a hedge after {after_ms} ms is never made: first_token_s ends the attempt after {first_token_s} s"
        mend = f"hedge sooner, raise first_token_s, or {none}"
        faults.append((("timeouts", "first_token_s"), own.timeouts.first_token_s, message, mend))
    for other, written, message, mend in faults:
        if own.hedge is not None or written is not None:
            below = ("hedge", "after_ms") if own.hedge is not None else other
            yield placed.finding("hedge", message, below=below, mend=mend)


def _hedge_with_nowhere_to_go(placed: Placed[WrittenModel], model: WrittenModel) -> Iterator[Finding]:
    if model.hedge is None or model.hedge.after_ms is None or any(len(set(rule.use)) > 1 for rule in model.rules):
        return
    message = "this hedge is never made: it goes to another target, and no rule here uses more than one"
    mend = "add a target to the `use` of a rule, or leave the hedge out"
    yield placed.finding("hedge", message, below=("hedge",), at_key=True, mend=mend, severity=Severity.WARNING)


def _preference(placed: Placed[WrittenModel], index: int, prefer: WrittenPreference) -> Iterator[Finding]:
    written = sum(each is not None for each in (prefer.usd_per_second, prefer.weighted))
    if written != 1:
        message = "`prefer` takes either `usd_per_second` or `weighted`"
        mend = "keep one of them" if written else "write one of them, or a word: listed, cheapest, fastest"
        yield placed.finding("prefer", message, below=("rules", index, "prefer"), at_key=True, mend=mend)


def _weights(
    placed: Placed[WrittenModel], index: int, rule: WrittenRule, weights: Mapping[str, int] | None
) -> Iterator[Finding]:
    if weights is None:
        return
    below = ("rules", index, "prefer", "weighted")
    for name in weights:
        if name not in rule.use:
            message = f'the weight of "{name}" is of no use: the rule does not use that target'
            near = nearest(name, set(rule.use) - set(weights))
            mend = f'did you mean "{near}"?' if near else "remove it, or add the target to `use`"
            yield placed.finding("weights", message, below=(*below, name), at_key=True, mend=mend)
    for name in dict.fromkeys(rule.use):
        if name not in weights:
            yield placed.finding("weights", f'"{name}" has no weight', below=below, at_key=True, mend=f"add {name}: 1")
    if not any(weights.values()):
        message = "every weight is 0, so nothing can be drawn"
        yield placed.finding("weights", message, below=below, at_key=True, mend="give one target at least 1")


# ── between entries ──────────────────────────────────────────────────────────────────────────────────────────────────


def _unknown_targets(
    placed: Placed[WrittenModel], index: int, rule: WrittenRule, gathered: Gathered
) -> Iterator[Finding]:
    for place, name in enumerate(rule.use):
        if name not in gathered.targets:
            message = f'rule "{rule.name}" names the target "{name}", which no file has'
            mend = mend_for(name, gathered.targets, what="targets")
            yield placed.finding("unknown-target", message, below=("rules", index, "use", place), mend=mend)


def _no_endpoint(placed: Placed[WrittenModel], index: int, rule: WrittenRule, gathered: Gathered) -> Iterator[Finding]:
    targets = [gathered.targets[name].written for name in rule.use if name in gathered.targets]
    if len(targets) < len(rule.use) or any(target is None or _ENDPOINTS & set(target.can) for target in targets):
        return
    message = f'no target of rule "{rule.name}" serves chat or completions'
    mend = "add `chat` to the `can` of one of them"
    yield placed.finding("no-endpoint", message, below=("rules", index, "use"), at_key=True, mend=mend)
