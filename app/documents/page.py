"""A page: one written document as a tree whose every part remembers where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.domain.findings import Finding, Severity

#: Keys and indexes from the root of a page: ("models", "chat", "rules", 0, "when").
Path = Sequence[str | int]


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A position. `line` and `column` count from 1; (0, 0) stands for the page as a whole."""

    line: int
    column: int


THE_WHOLE = Mark(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One value. `begins` is its offset in the page's text; `style` is YAML's quote or block sign, "" when plain."""

    mark: Mark
    value: str | int | Decimal | bool | None
    begins: int
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A YAML sequence."""

    mark: Mark
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A key, where the key stands, and what it leads to."""

    mark: Mark
    node: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A YAML mapping; every key is text and stands there once."""

    mark: Mark
    entries: Mapping[str, Entry]


Node = Scalar | Listing | Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One file, read. `root` is None for a file that says nothing."""

    file: str
    text: str
    root: Node | None

    def node(self, path: Path) -> Node | None:
        """The node at `path`, or None when the page has none there."""
        found = self.root
        for step in path:
            found = _below(found, step)
            if found is None:
                return None
        return found

    def mark(self, path: Path) -> Mark:
        """Where the value at `path` stands; of its nearest written parent where the page has none there."""
        found, marked = self.root, THE_WHOLE
        for step in path:
            found = _below(found, step)
            if found is None:
                return marked
            marked = found.mark
        return marked

    def key_mark(self, path: Path) -> Mark:
        """Where the key stands that leads to `path`; the mark of the value where there is no key, as in a list."""
        parent = self.node(path[:-1]) if path else None
        if isinstance(parent, Table) and path[-1] in parent.entries:
            return parent.entries[str(path[-1])].mark
        return self.mark(path)

    def mark_within(self, path: Path, *, offset: int) -> Mark:
        """Where the character `offset` of the text at `path` stands on the page, whatever its YAML style.

        Text with escapes has no such place; then it is where the text begins.
        """
        node = self.node(path)
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            return self.mark(path)
        place = _place_of(self.text, node, offset=offset)
        return node.mark if place is None else mark_at(self.text, place)

    def finding(
        self, code: str, message: str, *, at: Mark, mend: str = "", severity: Severity = Severity.ERROR
    ) -> Finding:
        """A finding on this page."""
        return Finding(
            file=self.file, line=at.line, column=at.column, severity=severity, code=code, message=message, mend=mend
        )


def plain(node: Node | None) -> object:
    """The node as plain values: dict, list, str, int, Decimal, bool, None."""
    match node:
        case Table(entries=entries):
            return {key: plain(entry.node) for key, entry in entries.items()}
        case Listing(items=items):
            return [plain(item) for item in items]
        case Scalar(value=value):
            return value
        case None:
            return None


def mark_at(text: str, offset: int) -> Mark:
    """Line and column of an offset. Lines end with a line feed."""
    line_begins = text.rfind("\n", 0, offset) + 1
    return Mark(text.count("\n", 0, offset) + 1, offset - line_begins + 1)


def _below(node: Node | None, step: str | int) -> Node | None:
    match node:
        case Table(entries=entries) if step in entries:
            return entries[str(step)].node
        case Listing(items=items) if isinstance(step, int) and 0 <= step < len(items):
            return items[step]
    return None


def _place_of(text: str, scalar: Scalar, *, offset: int) -> int | None:
    """Folding changes white space only, so the n-th other character of the value is the n-th other of the source."""
    begins = scalar.begins + (1 if scalar.style in ("'", '"') else 0)
    if scalar.style in ("|", ">"):
        begins = text.find("\n", begins) + 1
    written = _inked(text, begins=begins)
    after_last = begins
    for place, character in _inked(str(scalar.value), begins=0):
        there, same = next(written, (0, ""))
        if same != character:
            return None
        if place >= offset:
            return there if place == offset else after_last
        after_last = there + 1
    return after_last


def _inked(text: str, *, begins: int) -> Iterator[tuple[int, str]]:
    for place in range(begins, len(text)):
        if not text[place].isspace():
            yield place, text[place]
