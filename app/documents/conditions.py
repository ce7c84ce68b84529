"""Conditions: CEL that is compiled once, when the policy is read. The only user of the CEL library.

What a request can still do to a checked condition (an index past a list's end, a division by a field that is zero, a
number past 2⁶³) makes it *not hold*, as an error does in any CEL host; it is counted, never raised. So does a signal of
the fleet or of a budget that is not known, which is ordinary and not counted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

from app.documents.condition_checker import Checked, Read, check
from app.documents.condition_kinds import BOOL, DOUBLE, INT, NAMES, SIGNALS, STRING, Kind
from app.documents.condition_parser import parse
from app.documents.condition_reads import Reads, flattened
from app.documents.condition_terms import Fault, Term, Unreadable

if TYPE_CHECKING:
    from cel import Program


def _cel_library() -> Any:
    """The compiled half of the library alone: its package also imports a command line (0.2 s and 25 MB) at import.

    It is listed as loaded, as it may be loaded once a process only; so `import cel` elsewhere finds this one.
    """
    loaded = sys.modules.get("cel.cel")
    if loaded is not None:
        return loaded
    package = find_spec("cel")
    where = None if package is None else PathFinder.find_spec("cel.cel", package.submodule_search_locations)
    if where is None or where.loader is None:
        raise ImportError("common-expression-language is not installed: install the gateway's requirements again")
    library = module_from_spec(where)
    where.loader.exec_module(library)
    sys.modules["cel.cel"] = library
    return library


_CEL = _cel_library()

#: What the library raises: it maps CEL's errors to Python's.
_CEL_ERRORS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
#: Of these the request is the cause, not the condition.
_OF_THE_REQUEST = (ArithmeticError, IndexError)
#: Classes of Unicode, case folding, and counted repetitions of two digits or more: 100 µs and up, others 10 µs.
_SLOW_PATTERN = re.compile(r"\\\\?[wWdDsSbBpP]|\(\?[a-z]*i|\{[0-9]{2,}|\{[0-9],[0-9]{2,}")
_WHERE = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n]+)")


class CelCondition:
    """A `when` ready to be asked. Costs about a microsecond: only the fields it reads are handed to the library."""

    __slots__ = ("_program", "_source", "cautions", "last_trouble", "places", "reads", "term", "troubles")

    def __init__(self, *, source: str, program: Program, term: Term, checked: Checked, reads: Reads) -> None:
        self._source = source
        self._program = program
        #: As it was read, for those who reason about it.
        self.term = term
        #: Every place that reads a field, in the order of the text.
        self.places = checked.reads
        self.reads = reads
        #: What is not wrong, but hardly meant.
        self.cautions = tuple(_cautions(checked))
        #: How often it could not be answered and so did not hold, since the policy was read. Signals that are not known
        #: do not count.
        self.troubles = 0
        #: What the library said the last time.
        self.last_trouble = ""

    def __repr__(self) -> str:
        return f"CelCondition({self._source!r})"

    @property
    def source(self) -> str:
        """The text as written."""
        return self._source

    @property
    def reads_fleet(self) -> frozenset[str]:
        """The targets that it looks at."""
        return frozenset(place.of for place in self.places if place.room == "fleet")

    @property
    def reads_budgets(self) -> frozenset[str]:
        """The budgets that it looks at."""
        return frozenset(place.of for place in self.places if place.room == "budget")

    def holds(self, names: Mapping[str, object]) -> bool:
        """True when the condition is true of these names (`names_for_conditions`, or what `preparing` made of them).

        Never raises: what cannot be answered for this request does not hold, and adds one to `troubles`, unless a
        signal that it reads is not known.
        """
        ready = names if type(names) is _Ready else _Ready(names, self.reads)
        try:
            return self._program.execute(ready.world) is True
        except _CEL_ERRORS as error:
            if self.reads.signals_are_known(ready.values_by_alias):
                self.troubles += 1
                self.last_trouble = f"{type(error).__name__}: {error}"
            return False

    def trial(self, names: Mapping[str, object]) -> str | None:
        """Why the library cannot evaluate it for any request such as this one; None when it can."""
        try:
            answer = self._program.execute(_Ready(names, self.reads).world)
        except _OF_THE_REQUEST:
            return None
        except _CEL_ERRORS as error:
            return str(error)
        return None if isinstance(answer, bool) else f"it gives {answer!r} instead of true or false"


class _Ready(dict[str, object]):
    """The names of one request as the library takes them, for any number of conditions.

    Values are converted when a condition asks for them: most end at their first comparison.
    """

    __slots__ = ("values_by_alias", "world")

    def __init__(self, names: Mapping[str, object], reads: Reads) -> None:
        super().__init__(names)
        self.values_by_alias = reads.values(names)
        self.world = _CEL.Context()
        self.world.set_variable_resolver(self.values_by_alias.get)


def preparing(conditions: Iterable[CelCondition]) -> Callable[[Mapping[str, object]], Mapping[str, object]] | None:
    """What makes a request's names ready for all of these conditions at once; None when they read nothing.

    The names it gives answer these conditions only.
    """
    reads = Reads()
    for condition in conditions:
        reads |= condition.reads
    return (lambda names: _Ready(names, reads)) if reads else None


def compile_condition(text: str) -> CelCondition | tuple[Fault, ...]:
    """The condition, or every fault that keeps it from being one. Never raises for any text."""
    try:
        term = parse(text)
    except Unreadable as unreadable:
        return (unreadable.fault,)
    checked = check(term, text=text)
    faults = checked.faults or _refused_patterns(checked)
    if faults:
        return faults
    return _compiled(text, term, checked)


def _compiled(text: str, term: Term, checked: Checked) -> CelCondition | tuple[Fault, ...]:
    try:
        _CEL.compile(text)
        flat, reads = flattened(text, term, checked.reads)
        program = _CEL.compile(flat)
    except Exception as error:
        return (_refusal(text, str(error)),)
    condition = CelCondition(source=text, program=program, term=term, checked=checked, reads=reads)
    for names in sample_names(checked.reads):
        trouble = condition.trial(names)
        if trouble is not None:
            return (Fault(offset=0, message=f"the condition cannot be evaluated: {trouble}"),)
    return condition


def sample_names(places: Iterable[Read] = ()) -> tuple[Mapping[str, Mapping[str, object]], ...]:
    """Names such as a request gives, of the right types: of one that says nothing, and of one that says something.

    Of the fleet and the budgets they have every field of those that `places` read.
    """
    empty: dict[Kind, object] = {BOOL: False, INT: 0, DOUBLE: 0.0, STRING: ""}
    full: dict[Kind, object] = {BOOL: True, INT: 1, DOUBLE: 1.5, STRING: "x"}
    signals = {(place.room, place.of) for place in places if place.of}
    return tuple(
        {
            **{room: _sample(fields, values, items=values is full) for room, fields in NAMES.items()},
            **{
                room: {name: _sample(fields, values, items=False) for where, name in signals if where == room}
                for room, fields in SIGNALS.items()
                if signals
            },
        }
        for values in (empty, full)
    )


def _sample(fields: Mapping[str, Kind], values: Mapping[Kind, object], *, items: bool) -> Mapping[str, object]:
    return {field: values.get(kind, [values[STRING]] if items else []) for field, kind in fields.items()}


def _cautions(checked: Checked) -> Iterator[Fault]:
    if not checked.reads:
        message = "the condition looks at nothing of the request, so it is always the same"
        yield Fault(offset=0, message=message, mend="leave `when` out, or remove the rule")
    for pattern in checked.patterns:
        if _SLOW_PATTERN.search(pattern.text):
            message = (
                "this pattern is slow: it is built anew for every request, with all of Unicode or many repetitions"
            )
            mend = "write [0-9] and [A-Za-z0-9_] for the classes, or use startsWith, endsWith or contains"
            yield Fault(offset=pattern.begins, message=message, mend=mend)


def _refused_patterns(checked: Checked) -> tuple[Fault, ...]:
    """Patterns of `matches` that are no regular expressions (RE2's kind: no look-around, no back-references)."""
    faults = []
    for pattern in checked.patterns:
        try:
            _CEL.compile(f'"".matches({pattern.text})').execute()
        except Exception as error:
            said = str(error).partition(". Check function")[0].splitlines() or ["it cannot be read"]
            reason = said[-1].removeprefix("error:").strip(" .")
            message = f"the pattern is no regular expression: {reason}"
            faults.append(Fault(offset=pattern.begins, message=message, mend="patterns are written as in RE2"))
    return tuple(faults)


def _refusal(text: str, said: str) -> Fault:
    """The library's own refusal, where our reading found nothing: an unknown escape, mostly."""
    found = _WHERE.search(said)
    if found is None:
        return Fault(offset=0, message="CEL cannot read the condition")
    line, column, reason = int(found[1]), int(found[2]), found[3]
    before = sum(len(one) + 1 for one in text.split("\n")[: line - 1])
    return Fault(offset=min(before + column - 1, len(text)), message=f"CEL cannot read the condition: {reason[:120]}")
