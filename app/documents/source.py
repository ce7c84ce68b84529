"""YAML text to nodes that remember their place, refusing what surprises. The only user of the YAML library.

What is read is the part of YAML on which versions 1.1 and 1.2 agree, and less: no anchors, aliases, tags, merge keys
or second documents; no `yes` and `on` that mean true to one reader and text to another. A number is written in decimal
digits and kept exact. Everything else is text.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import yaml

from app.documents.page import THE_WHOLE, Entry, Listing, Mark, Node, Page, Scalar, Table, mark_at, plain
from app.domain.findings import Finding

#: Larger files are not read.
MOST_BYTES = 1_000_000
#: A policy nests seven deep.
MOST_DEPTH = 20
#: Nodes a file may hold: some two thousand targets or rules.
MOST_NODES = 50_000

#: libyaml where it is there; the events are the same.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_FOREIGN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]|\r(?!\n)")
_TAB_INDENT = re.compile(r"^[ ]*\t", re.MULTILINE)

_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,2})?")
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DOUBTFUL_TRUTH = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def read(*, file: str, text: str) -> tuple[Page | None, tuple[Finding, ...]]:
    """The page, and every fault found in reading it; no page when the text is not YAML at all.

    A page that comes with findings is still whole enough to be checked further. Never raises for any text.
    """
    text = text.removeprefix("\ufeff")
    blank = Page(file=file, text=text, root=None)
    fault = _unreadable(blank)
    if fault is not None:
        return None, (fault,)
    composer = _Composer(blank)
    try:
        root = composer.compose()
    except yaml.MarkedYAMLError as error:
        return None, (*composer.findings, _syntax_finding(blank, error))
    except _GivenUp:
        return None, tuple(composer.findings)
    return Page(file=file, text=text, root=root), tuple(composer.findings)


def _unreadable(page: Page) -> Finding | None:
    """What forbids to parse the text at all."""
    size = len(page.text.encode("utf-8", "surrogatepass"))
    if size > MOST_BYTES:
        return page.finding(
            "too-large",
            f"the file has {size:,} bytes; at most {MOST_BYTES:,} are read",
            at=THE_WHOLE,
            mend="split it: files are merged",
        )
    foreign = _FOREIGN.search(page.text)
    if foreign is not None:
        return page.finding("not-text", _foreign_sentence(foreign.group()), at=mark_at(page.text, foreign.start()))
    tab = _TAB_INDENT.search(page.text)
    if tab is not None:
        at = mark_at(page.text, tab.end() - 1)
        return page.finding("tab", "a tab stands in the indentation", at=at, mend="indent with spaces")
    return None


def _foreign_sentence(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"byte 0x{code - 0xDC00:02x} is not UTF-8; save the file as UTF-8"
    return f"the character U+{code:04X} may not stand in a policy; remove it"


class _GivenUp(Exception):
    """A limit is reached; the finding is already noted."""


class _Composer:
    """Builds the tree from the parser's events. Without recursion, so that depth is a limit and not a crash."""

    def __init__(self, page: Page) -> None:
        self.findings: list[Finding] = []
        self._page = page
        self._open: list[_Open] = []
        self._root: Node | None = None
        self._documents = 0
        self._nodes = 0

    def compose(self) -> Node | None:
        """The root of the page. Raises yaml.MarkedYAMLError and _GivenUp."""
        for event in yaml.parse(self._page.text, Loader=_LOADER):
            match event:
                case yaml.DocumentStartEvent():
                    self._saw_document(event)
                case yaml.AliasEvent():
                    self._fault("alias", "aliases are not read here", event, mend="write the value out")
                    self._place(self._scalar(event, value="", style=""))
                case yaml.ScalarEvent():
                    self._saw_node(event)
                    self._place(self._scalar(event, value=self._value(event), style=event.style or ""))
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._saw_node(event)
                    self._opened(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._place(self._open.pop().closed())
        return self._root

    def _saw_document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            self._fault("second-document", "a second document begins here", event, mend="put it into a file of its own")
            raise _GivenUp

    def _saw_node(self, event: Any) -> None:
        """What any node may not carry, and the limits."""
        self._nodes += 1
        if self._nodes > MOST_NODES:
            self._fault("too-large", f"the file has more than {MOST_NODES:,} values", event, mend="split the file")
            raise _GivenUp
        if event.anchor is not None:
            self._fault("anchor", f'the anchor "&{event.anchor}" is not read here', event, mend="write values out")
        if event.tag is not None:
            self._fault("tag", f'"{event.tag[:60]}" is read as a tag; tags are not read here', event, mend=_TAG_MEND)

    def _opened(self, event: Any) -> None:
        if len(self._open) >= MOST_DEPTH:
            self._fault("too-deep", f"the file nests deeper than {MOST_DEPTH} levels", event)
            raise _GivenUp
        mark = _mark(event.start_mark)
        if isinstance(event, yaml.SequenceStartEvent):
            self._open.append(_OpenListing(mark))
        else:
            self._open.append(_OpenTable(mark, self))

    def _place(self, node: Node) -> None:
        if self._open:
            self._open[-1].take(node)
        else:
            self._root = node

    def _scalar(self, event: Any, *, value: str | int | Decimal | bool | None, style: str) -> Scalar:
        return Scalar(mark=_mark(event.start_mark), value=value, begins=event.start_mark.index, style=style)

    def _value(self, event: Any) -> str | int | Decimal | bool | None:
        """A plain scalar's meaning; quoted and block scalars are text."""
        text: str = event.value
        if event.style or event.tag is not None:
            return text
        if text.lower() in _DOUBTFUL_TRUTH:
            meant = _DOUBTFUL_TRUTH[text.lower()]
            self._fault(
                "doubtful-truth",
                f"`{text}` means {meant} to some readers of YAML and the word itself to others",
                event,
                mend=f'write {meant}, or "{text}" in quotes if the word is meant',
            )
            return text
        return _meaning(text)

    def _fault(self, code: str, message: str, event: Any, *, mend: str = "") -> None:
        self.findings.append(self._page.finding(code, message, at=_mark(event.start_mark), mend=mend))

    def key_fault(self, code: str, message: str, *, at: Mark, mend: str) -> None:
        """A fault of a key of a mapping."""
        self.findings.append(self._page.finding(code, message, at=at, mend=mend))


_TAG_MEND = "put text that begins with `!` into quotes, remove the tag otherwise"


class _OpenListing:
    """A sequence whose end has not come yet."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._items: list[Node] = []

    def take(self, node: Node) -> None:
        self._items.append(node)

    def closed(self) -> Listing:
        return Listing(mark=self._mark, items=tuple(self._items))


class _OpenTable:
    """A mapping whose end has not come yet. Of a key given twice the first stands."""

    def __init__(self, mark: Mark, composer: _Composer) -> None:
        self._mark = mark
        self._composer = composer
        self._entries: dict[str, Entry] = {}
        self._key: Node | None = None

    def take(self, node: Node) -> None:
        if self._key is None:
            self._key = node
            return
        key, self._key = self._key, None
        name = self._name_of(key)
        if name is not None:
            self._entries[name] = Entry(mark=key.mark, node=node)

    def closed(self) -> Table:
        return Table(mark=self._mark, entries=self._entries)

    def _name_of(self, key: Node) -> str | None:
        if isinstance(key, Scalar) and isinstance(key.value, Decimal):
            key = replace(key, value=str(key.value))  # a part of something, such as a step of a budget
        if not isinstance(key, Scalar) or not isinstance(key.value, str):
            value = plain(key)
            shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
            mend = f'write "{shown}": in quotes' if isinstance(key, Scalar) else "keys are single words"
            self._composer.key_fault("key", "a key must be text", at=key.mark, mend=mend)
            return None
        if key.value == "<<":
            self._composer.key_fault("merge", "`<<` does not merge here", at=key.mark, mend="write the keys out")
            return None
        if key.value in self._entries:
            first = self._entries[key.value].mark
            message = f'the key "{key.value[:60]}" stands here twice, first in line {first.line}'
            self._composer.key_fault("duplicate-key", message, at=key.mark, mend="keep one of them")
            return None
        return key.value


_Open = _OpenListing | _OpenTable


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _meaning(text: str) -> str | int | Decimal | bool | None:
    if text in _NOTHING:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return Decimal(text)
    return text


#: The YAML library's words → ours, and what to do. The first whose words occur in the problem holds.
_SYNTAX: tuple[tuple[str, str, str], ...] = (
    (
        "mapping values are not allowed",
        "a `:` stands where none is expected",
        "put text with `: ` into quotes, or mend the indentation",
    ),
    ("expected ',' or '}'", "this `{` is not closed, or a comma is missing in it", "close it with `}`"),
    ("expected ',' or ']'", "this `[` is not closed, or a comma is missing in it", "close it with `]`"),
    ("expected node content", "a value is missing, or what was opened before is not closed", "complete it"),
    ("unexpected end of stream", "the quotes opened here are not closed", "close them"),
    ("cannot start any token", "a value may not begin with this character", "put it into quotes"),
    ("could not find expected ':'", "a key without `:`", "write `key: value`, or indent the line further"),
    (
        "expected key",
        "this line fits neither the list nor the mapping it stands in",
        "mend the indentation, or put the whole value into quotes",
    ),
    ("expected '-' indicator", "this line fits neither the list nor the mapping it stands in", "mend the indentation"),
    ("unknown escape", "an unknown escape in double quotes", "use single quotes, or double the backslash"),
    ("<document start>", "the document has already ended here", "remove what closes it too early"),
    (
        "sequence entries are not allowed",
        "a `- ` stands where no list can begin",
        "begin the list on a line of its own",
    ),
)

#: For these the library's context says where it began, which is where the mend is.
_BEGINS_EARLIER = ("expected ',' or", "unexpected end of stream")


def _syntax_finding(page: Page, error: yaml.MarkedYAMLError) -> Finding:
    problem = error.problem or "not YAML"
    earlier = any(words in problem for words in _BEGINS_EARLIER) and error.context_mark is not None
    mark = error.context_mark if earlier else error.problem_mark or error.context_mark
    at = THE_WHOLE if mark is None else _mark(mark)
    for words, message, mend in _SYNTAX:
        if words in problem:
            return page.finding("yaml", message, at=at, mend=mend)
    return page.finding("yaml", f"not YAML: {problem}", at=at, mend="mend the line, or put the value into quotes")
