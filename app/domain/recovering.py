"""A stream broke after its first byte: what may be done for its caller. Decides; whoever calls asks and passes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.errors import TargetFailure
from app.domain.routing.facts import Endpoint, RequestFacts
from app.domain.routing.policy import Recovery
from app.domain.target import Target
from app.domain.telling import Telling

#: Fields that give an answer a shape, or more than one text: what follows a beginning cannot be asked for then.
_SHAPING: Final = frozenset(
    {
        "best_of",
        "continue_final_message",
        "echo",
        "ebnf",
        "functions",
        "grammar",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "json_schema",
        "regex",
        "response_format",
        "structural_tag",
        "structured_outputs",
        "suffix",
        "tools",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recourse:
    """Ask the next of these targets: for the whole answer anew, or for what follows `prefix`."""

    order: tuple[str, ...]
    prefix: str = ""


def after_break(
    fault: TargetFailure,
    *,
    recovery: Recovery,
    telling: Telling,
    facts: RequestFacts,
    fields: Mapping[str, bytes],
    order: Sequence[str],
    targets: Mapping[str, Target],
) -> Recourse | None:
    """What may be tried after this break, by what the caller was told; None: the break stands.

    `fields` are the request's, of which only the names matter, and whether a completion has one text for a prompt.
    """
    if not fault.another_may_serve:
        return None
    if recovery is Recovery.RESTART:
        return None if telling.opaque or telling.overflowed else Recourse(order=tuple(order))
    if recovery is Recovery.CONTINUE:
        prefix = telling.plain_text
        able = tuple(name for name in order if can_continue(targets[name], facts.endpoint))
        if prefix and able and _is_plain(facts, fields):
            return Recourse(order=able, prefix=prefix)
    return None


def can_continue(target: Target, endpoint: Endpoint) -> bool:
    """A completion is gone on with anywhere: its prompt and its text are one. A chat needs an engine that is known to
    go on with a message of the assistant."""
    if endpoint is Endpoint.COMPLETIONS:
        return True
    return target.family is not None and target.family.continues is not None


def _is_plain(facts: RequestFacts, fields: Mapping[str, bytes]) -> bool:
    """One answer, of text and nothing else, to one prompt."""
    if facts.n != 1 or facts.has_tools or facts.json_schema or not _SHAPING.isdisjoint(fields):
        return False
    return facts.endpoint is Endpoint.CHAT or bytes(memoryview(fields["prompt"])[:1]) == b'"'
