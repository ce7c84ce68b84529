"""What a rule asks of its targets: spill, waiting, sessions, shadows, and whether any of them can do what it is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from app.documents.condition_terms import Binary, Field, Junction, Literal, Name, Term
from app.documents.conditions import CelCondition
from app.documents.defaults import with_defaults
from app.documents.gather import Gathered, Placed
from app.documents.nearest import mend_for
from app.documents.policy import WrittenModel, WrittenPreference, WrittenRule, WrittenTarget
from app.domain.findings import Finding, Severity
from app.domain.routing.policy import Route

#: What a condition asks for → what a target must be able to do for it.
_FEATURES = {
    "has_tools": "tools",
    "has_images": "images",
    "has_audio": "audio",
    "json_schema": "json_schema",
}


def lint_rules(gathered: Gathered) -> Iterator[Finding]:
    """Faults of rules that can be seen without their targets."""
    for placed in gathered.models.values():
        if placed.written is None:
            continue
        whole = with_defaults(placed.written, gathered.usual)
        for index, (own, rule) in enumerate(zip(placed.written.rules, whole.rules, strict=True)):
            yield from _spill_alone(placed, index, own, waits=bool(rule.wait))
            yield from _nothing_to_choose(placed, index, own)
            yield from _shadow_alone(placed, index, own)


def lint_rule_links(gathered: Gathered, conditions: Mapping[tuple[str, int], CelCondition]) -> Iterator[Finding]:
    """Faults between rules and their targets. Only asked when every file could be read.

    A rule with a target that is unknown or has the wrong shape is left alone.
    """
    for name, placed in gathered.models.items():
        if placed.written is None:
            continue
        for index, rule in enumerate(placed.written.rules):
            yield from _shadow_target(placed, index, rule, gathered)
            targets = _targets(rule, gathered)
            if targets:
                yield from _spill_sides(placed, index, rule, targets)
                yield from _wait_for_what(placed, index, rule, targets)
                yield from _asked_for(placed, index, rule, targets, conditions.get((name, index)))
        yield from _queue_for_nobody(placed, with_defaults(placed.written, gathered.usual))
        yield from _context(placed, with_defaults(placed.written, gathered.usual), gathered)


# ── a rule alone ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _spill_alone(placed: Placed[WrittenModel], index: int, rule: WrittenRule, *, waits: bool) -> Iterator[Finding]:
    if rule.spill is None:
        return
    below = ("rules", index, "spill")
    if rule.spill.predicted_ttft_ms is None and rule.spill.max_usd_per_hour is None:
        message = "this spill says neither when nor for how much"
        mend = "write `predicted_ttft_ms`, `max_usd_per_hour` or both"
        yield placed.finding("spill", message, below=below, at_key=True, mend=mend)
    if waits:
        message = "a rule that waits for a full target does not spill to another"
        mend = "remove `wait` or `spill`" if rule.wait else "the defaults say `wait: true`: add `wait: false` here"
        yield placed.finding("spill", message, below=below, at_key=True, mend=mend)


def _nothing_to_choose(placed: Placed[WrittenModel], index: int, rule: WrittenRule) -> Iterator[Finding]:
    if len(set(rule.use)) > 1:
        return
    said = "does nothing where a rule has one target only"
    balanced = isinstance(rule.prefer, WrittenPreference) and rule.prefer.usd_per_second is not None
    if rule.prefer == "fastest" or balanced:
        word = "usd_per_second" if balanced else "fastest"
        yield _caution(placed, index, "prefer", f"`{word}` {said}", mend="remove it, or use another target too")
    if rule.affinity == "session":
        yield _caution(placed, index, "affinity", f"`affinity` {said}", mend="remove it, or use another target too")


def _shadow_alone(placed: Placed[WrittenModel], index: int, rule: WrittenRule) -> Iterator[Finding]:
    if rule.shadow is not None and rule.shadow.target in rule.use:
        message = f'"{rule.shadow.target}" answers this rule itself, so a copy to it tells nothing'
        mend = "name a target that is not in `use`"
        yield placed.finding("shadow", message, below=("rules", index, "shadow", "target"), mend=mend)


# ── a rule and its targets ───────────────────────────────────────────────────────────────────────────────────────────


def _targets(rule: WrittenRule, gathered: Gathered) -> Mapping[str, WrittenTarget]:
    """The targets by name; empty when one of them is not there or not understood."""
    found = {name: placed.written for name in rule.use if (placed := gathered.targets.get(name)) and placed.written}
    return found if len(found) == len(set(rule.use)) else {}


def _shadow_target(
    placed: Placed[WrittenModel], index: int, rule: WrittenRule, gathered: Gathered
) -> Iterator[Finding]:
    if rule.shadow is None:
        return
    below = ("rules", index, "shadow", "target")
    name = rule.shadow.target
    if name not in gathered.targets:
        message = f'the shadow of rule "{rule.name}" names the target "{name}", which no file has'
        mend = mend_for(name, gathered.targets, what="targets")
        yield placed.finding("unknown-target", message, below=below, mend=mend)
        return
    target = gathered.targets[name].written
    if target is not None and target.hosting == "managed" and rule.shadow.max_usd_per_day is None:
        message = f'nothing bounds what the copies to "{name}" cost'
        yield _caution(placed, index, "shadow", message, mend="add `max_usd_per_day`")


def _spill_sides(
    placed: Placed[WrittenModel], index: int, rule: WrittenRule, targets: Mapping[str, WrittenTarget]
) -> Iterator[Finding]:
    missing = {"self_hosted", "managed"} - {target.hosting for target in targets.values()}
    if rule.spill is not None and missing:
        kind = missing.pop().replace("_", "-")
        message = f'rule "{rule.name}" spills, but has no {kind} target: spill goes from self-hosted to managed ones'
        mend = f"add a {kind} target to `use`, or remove `spill`"
        yield placed.finding("spill", message, below=("rules", index, "spill"), at_key=True, mend=mend)


def _wait_for_what(
    placed: Placed[WrittenModel], index: int, rule: WrittenRule, targets: Mapping[str, WrittenTarget]
) -> Iterator[Finding]:
    if rule.wait and all(target.limits.in_flight is None for target in targets.values()):
        message = "no target of this rule is ever full, so there is nothing to wait for"
        yield _caution(placed, index, "wait", message, mend="give one of them `limits: {in_flight: …}`, or remove it")


def _queue_for_nobody(placed: Placed[WrittenModel], whole: WrittenModel) -> Iterator[Finding]:
    if placed.written is None or placed.written.timeouts.queue_s is None or any(rule.wait for rule in whole.rules):
        return
    message = "`queue_s` does nothing: no rule of this model waits for full targets"
    yield placed.finding(
        "queue",
        message,
        below=("timeouts", "queue_s"),
        at_key=True,
        mend="remove it, or give a rule `wait: true`",
        severity=Severity.WARNING,
    )


def _asked_for(
    placed: Placed[WrittenModel],
    index: int,
    rule: WrittenRule,
    targets: Mapping[str, WrittenTarget],
    when: CelCondition | None,
) -> Iterator[Finding]:
    """What every request of the rule asks for, by its `when`, and none of its targets serves."""
    parts = () if when is None else _conjuncts(when.term)
    abilities = {ability for target in targets.values() for ability in target.can}
    for wanted in dict.fromkeys(_abilities(parts)):
        if wanted not in abilities:
            message = (
                f'the `when` asks for {wanted}, which no target of rule "{rule.name}" can: each request is refused'
            )
            yield _caution(
                placed, index, "use", message, mend=f"add `{wanted}` to the `can` of one of them", code="capability"
            )
    for data_class in dict.fromkeys(_data_classes(parts)):
        if all(
            target.data_classes is not None and data_class not in target.data_classes for target in targets.values()
        ):
            message = f'the `when` asks for the data class "{data_class}", which no target of rule "{rule.name}" takes'
            mend = f"add {data_class} to the `data_classes` of one of them"
            yield placed.finding("data-class", message, below=("rules", index, "use"), at_key=True, mend=mend)


def _conjuncts(term: Term) -> Sequence[Term]:
    if isinstance(term, Junction) and term.operator == "&&":
        return [part for each in term.parts for part in _conjuncts(each)]
    return (term,)


def _abilities(parts: Sequence[Term]) -> Iterator[str]:
    for part in parts:
        field = _field_of_request(part)
        if field in _FEATURES:
            yield _FEATURES[field]
    yield from _texts_equal_to("endpoint", parts)


def _data_classes(parts: Sequence[Term]) -> Iterator[str]:
    yield from _texts_equal_to("data_class", parts)


def _texts_equal_to(field: str, parts: Sequence[Term]) -> Iterator[str]:
    """The texts that the field of the request must equal."""
    for part in parts:
        if isinstance(part, Binary) and part.operator == "==":
            for one, other in ((part.left, part.right), (part.right, part.left)):
                if _field_of_request(one) == field and isinstance(other, Literal) and other.kind == "string":
                    yield other.text[1:-1]


def _field_of_request(term: Term) -> str:
    if isinstance(term, Field) and isinstance(term.of, Name) and term.of.name == "request":
        return term.name
    return ""


def _context(placed: Placed[WrittenModel], whole: WrittenModel, gathered: Gathered) -> Iterator[Finding]:
    """Answers as long as the model allows leave no room for a prompt."""
    output = whole.output_tokens
    tokens = output.most or output.default or Route(model="", rules=()).output_tokens_default
    key = "most" if output.most is not None else "default"
    used = {name for rule in whole.rules for name in rule.use}
    small = {
        name: target.context_tokens
        for name in sorted(used & set(gathered.targets))
        if (target := gathered.targets[name].written) and (target.context_tokens or tokens + 1) <= tokens
    }
    if not small:
        return
    contexts = " and ".join(f'of "{name}" ({context})' for name, context in small.items())
    message = f"{tokens} output tokens ({key}) leave no room for a prompt in the context {contexts}"
    mend = f"write `output_tokens: {{{key}: …}}` below that, or leave the target out"
    below = ("output_tokens", key) if placed.page.node((*placed.path, "output_tokens", key)) else ()
    yield placed.finding("context", message, below=below, mend=mend)


def _caution(placed: Placed[WrittenModel], index: int, key: str, message: str, *, mend: str, code: str = "") -> Finding:
    return placed.finding(
        code or key, message, below=("rules", index, key), at_key=True, mend=mend, severity=Severity.WARNING
    )
