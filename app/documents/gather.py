"""Several pages, one policy: entries of the same kind brought together, each remembering where it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

from app.documents.budgets import WrittenBudget
from app.documents.engines import EngineName, WrittenEngine
from app.documents.nearest import mend_for
from app.documents.page import Entry, Mark, Page, Path, Scalar, Table
from app.documents.policy import WrittenDefaults, WrittenModel, WrittenTarget
from app.documents.rates import WrittenMachinePrice, WrittenTargetRates
from app.documents.shape import shaped, shaped_word
from app.documents.words import ModelName, TargetName, Written
from app.domain.findings import Finding, Severity

_W = TypeVar("_W", bound=Written)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed(Generic[_W]):
    """An entry and where it is written. `written` is None when its shape is wrong; the name is taken all the same."""

    page: Page
    path: tuple[str | int, ...]
    written: _W | None

    @property
    def name(self) -> str:
        """The entry's name."""
        return str(self.path[-1])

    @property
    def name_mark(self) -> Mark:
        """Where its name stands."""
        return self.page.key_mark(self.path)

    def finding(
        self,
        code: str,
        message: str,
        *,
        below: Path = (),
        at_key: bool = False,
        mend: str = "",
        severity: Severity = Severity.ERROR,
    ) -> Finding:
        """A finding at the value (or its key) `below` the entry; at the entry's name when nothing is below."""
        path = (*self.path, *below)
        at = self.page.key_mark(path) if at_key or not below else self.page.mark(path)
        return self.page.finding(code, message, at=at, mend=mend, severity=severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Everything that was written, by name."""

    targets: dict[str, Placed[WrittenTarget]] = field(default_factory=dict)
    models: dict[str, Placed[WrittenModel]] = field(default_factory=dict)
    machine_prices: dict[str, Placed[WrittenMachinePrice]] = field(default_factory=dict)
    target_rates: dict[str, Placed[WrittenTargetRates]] = field(default_factory=dict)
    budgets: dict[str, Placed[WrittenBudget]] = field(default_factory=dict)
    engines: dict[str, Placed[WrittenEngine]] = field(default_factory=dict)
    defaults: Placed[WrittenDefaults] | None = None
    timezone: tzinfo = UTC
    #: False when a part of a page could not be understood: what seems to be missing may be written there.
    complete: bool = True

    @property
    def usual(self) -> WrittenDefaults:
        """What `defaults` say; nothing when no file has any."""
        return (self.defaults and self.defaults.written) or WrittenDefaults()


#: Where entries stand, and what they are.
_SECTIONS: Mapping[tuple[str, ...], tuple[str, Any, type[Written]]] = {
    ("targets",): ("targets", TargetName, WrittenTarget),
    ("models",): ("models", ModelName, WrittenModel),
    ("budgets",): ("budgets", TargetName, WrittenBudget),
    ("engines",): ("engines", EngineName, WrittenEngine),
    ("rates", "machines"): ("machine_prices", TargetName, WrittenMachinePrice),
    ("rates", "targets"): ("target_rates", TargetName, WrittenTargetRates),
}
_TOP_KEYS = ("targets", "models", "defaults", "engines", "rates", "budgets", "timezone", "scenarios")
_RATES_KEYS = ("machines", "targets")


def gather(pages: Sequence[Page]) -> tuple[Gathered, tuple[Finding, ...]]:
    """The entries of all pages in the order given, and every fault of shape. Of a name given twice the first stands."""
    gathering = _Gathering()
    for page in pages:
        gathering.take(page)
    return gathering.gathered(), tuple(gathering.findings)


class _Gathering:
    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._complete = True
        self._entries: dict[str, dict[str, Placed[Any]]] = {kind: {} for kind, _, _ in _SECTIONS.values()}
        self._defaults: Placed[WrittenDefaults] | None = None
        self._timezone: tuple[Page, Mark, tzinfo | None] | None = None

    def gathered(self) -> Gathered:
        """What was taken so far."""
        zone = self._timezone[2] if self._timezone is not None else None
        return Gathered(**self._entries, defaults=self._defaults, timezone=zone or UTC, complete=self._complete)

    def take(self, page: Page) -> None:
        """Add one page's entries."""
        for path, _ in self._tables(page, (), _TOP_KEYS):
            if path == ("timezone",):
                self._take_timezone(page)
            elif path == ("defaults",):
                self._take_defaults(page)
            elif path == ("rates",):
                for below, _ in self._tables(page, path, _RATES_KEYS):
                    self._take_section(page, below)
            elif path == ("scenarios",):
                continue  # a list, read by `scenario`
            else:
                self._take_section(page, path)

    def _tables(
        self, page: Page, path: tuple[str, ...], known: Sequence[str]
    ) -> Iterator[tuple[tuple[str, ...], Entry]]:
        """The known entries of the mapping at `path`; a finding for each other."""
        for key, entry in self._entries_at(page, path).items():
            if key in known:
                yield (*path, key), entry
                continue
            self._complete = False
            where = ".".join(path) or "the file"
            message = f'unknown key "{key[:60]}" in {where}'
            self.findings.append(
                page.finding("unknown-key", message, at=entry.mark, mend=mend_for(key, known, what="keys"))
            )

    def _entries_at(self, page: Page, path: tuple[str, ...]) -> Mapping[str, Entry]:
        node = page.node(path)
        if isinstance(node, Table):
            return node.entries
        if node is not None and not (isinstance(node, Scalar) and node.value is None):
            self._complete = False
            where = ".".join(path) or "the file"
            mend = "begin with a key such as `targets:`" if not path else "write names, each with what it stands for"
            self.findings.append(
                page.finding("shape", f"{where} must be a mapping of keys to values", at=node.mark, mend=mend)
            )
        return {}

    def _take_section(self, page: Page, path: tuple[str, ...]) -> None:
        kind, name_kind, model = _SECTIONS[path]
        taken = self._entries[kind]
        for name, entry in self._entries_at(page, path).items():
            if name in taken:
                first = taken[name]
                where = f"{first.page.file}:{first.name_mark.line}"
                message = f'"{name[:60]}" is already written in {where}'
                self.findings.append(
                    page.finding("duplicate-name", message, at=entry.mark, mend="give it another name, or remove one")
                )
                continue
            self.findings.extend(shaped_word(page, (*path, name), name, name_kind))
            written, faults = shaped(page, (*path, name), model)
            self.findings.extend(faults)
            taken[name] = Placed(page=page, path=(*path, name), written=written)

    def _take_defaults(self, page: Page) -> None:
        path = ("defaults",)
        if self._defaults is not None:
            where = f"{self._defaults.page.file}:{self._defaults.name_mark.line}"
            message = f"the defaults are already written in {where}"
            self.findings.append(
                page.finding("duplicate-name", message, at=page.key_mark(path), mend="write them in one place")
            )
            return
        if self._entries_at(page, path):
            written, faults = shaped(page, path, WrittenDefaults)
            self.findings.extend(faults)
            self._defaults = Placed(page=page, path=path, written=written)

    def _take_timezone(self, page: Page) -> None:
        at = page.key_mark(("timezone",))
        if self._timezone is not None:
            first_page, first, _ = self._timezone
            message = f"the timezone is already written in {first_page.file}:{first.line}"
            self.findings.append(page.finding("duplicate-name", message, at=at, mend="keep one of them"))
            return
        node = page.node(("timezone",))
        value = node.value if isinstance(node, Scalar) else None
        zone = _zone(value) if isinstance(value, str) else None
        if zone is None:
            message = f'"{str(value)[:60]}" is no timezone' if isinstance(value, str) else "the timezone must be text"
            mend = "write a name of the IANA database such as Europe/Berlin, or UTC"
            self.findings.append(page.finding("timezone", message, at=page.mark(("timezone",)), mend=mend))
        self._timezone = (page, at, zone)


def _zone(name: str) -> tzinfo | None:
    """The zone from the machine's time zone database; None when it has none of that name."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return None
