"""An archive of policies over fakes, for tests of what looks policies and past decisions up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.documents.compile import digest_of
from app.domain.errors import PolicyInvalid
from app.domain.ledger.receipt import Receipt
from app.flows.policy_archive import Compiler, PolicyArchive
from app.ports import Revision
from app.storage.receipt_json import encode
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.policy_history import MemoryPolicyHistory
from tests.makers import NOON

TARGETS = """\
targets:
  home:
    hosting: self_hosted
    engine: vllm
    url: http://127.0.0.1:8001/v1
    model: m
    can: [chat, completions]
    machine: {type: l4, count: 1}
  api:
    hosting: managed
    provider: openai
    model: gpt-5-mini
    can: [chat, tools]
    credential: env:OPENAI_API_KEY
rates:
  machines:
    l4: {usd_per_hour: 0.80}
  targets:
    home: {measured: {prefill_tokens_per_s: 9000, decode_tokens_per_s: 1500}}
    api:
      usd_per_million_tokens: {prompt: 0.25, cached_prompt: 0.025, completion: 2.00}
"""
MODELS = """\
models:
  chat:
    rules:
      - name: legal stays home
        when: caller.team == "legal"
        use: [home]
      - name: everybody
        use: [home, api]
"""
FILES: Mapping[str, str] = {"models.yaml": MODELS, "targets.yaml": TARGETS}
#: Everybody but legal goes to the hosted target first.
TURNED: Mapping[str, str] = {"models.yaml": MODELS.replace("[home, api]", "[api, home]"), "targets.yaml": TARGETS}
#: A rule names a target that nobody wrote down.
BROKEN: Mapping[str, str] = {"models.yaml": MODELS.replace("[home, api]", "[home, apo]"), "targets.yaml": TARGETS}


class NoonClock:
    """It is always noon."""

    def monotonic_s(self) -> float:
        return 0.0

    def unix_us(self) -> int:
        return int(NOON.timestamp()) * 1_000_000


@dataclass(slots=True)
class MemoryShelf:
    """`ports.Shelf` with these files; `fault` is what reading them raises."""

    files: Mapping[str, str] = field(default_factory=lambda: FILES)
    fault: PolicyInvalid | None = None

    def look(self) -> object:
        return (self.files, self.fault)

    def read(self) -> Mapping[str, str]:
        if self.fault is not None:
            raise self.fault
        return self.files

    def author(self) -> str:
        return "Ada"


@dataclass(slots=True, kw_only=True)
class Cellar:
    """What an archive rests on, for tests to change under it."""

    history: MemoryPolicyHistory = field(default_factory=MemoryPolicyHistory)
    ledger: MemoryLedgerBook = field(default_factory=MemoryLedgerBook)
    shelf: MemoryShelf = field(default_factory=MemoryShelf)

    def archive(self) -> PolicyArchive:
        return PolicyArchive(
            history=self.history, shelf=self.shelf, ledger=self.ledger, clock=NoonClock(), compiled=Compiler()
        )

    async def remember(self, files: Mapping[str, str], *, in_force: bool = True, seen_at_s: float = 0.0) -> str:
        """The digest of a revision that is in the history from now on."""
        digest = digest_of(files)
        moment = NOON.timestamp() + seen_at_s
        await self.history.remember(
            Revision(
                digest=digest,
                files=files,
                author="Ada",
                seen_at_s=moment,
                in_force_at_s=moment if in_force else None,
                findings=() if in_force else ("models.yaml:8:1: error: no good",),
            )
        )
        return digest

    async def book(self, receipts: Iterable[Receipt]) -> None:
        await self.ledger.book([encode(receipt) for receipt in receipts])
