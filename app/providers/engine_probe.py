"""Asks an engine what it is and how it does, over the one HTTP client: `ports.engines.EngineProbe`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from app.domain.engine import EngineFamily, EngineReading, EngineTrial, Health, ServedModel
from app.domain.signals import EngineSignals
from app.domain.target import Target
from app.ports import Clock, Credentials
from app.ports.deadline import Within
from app.providers.engine_site import EngineSite, PageFault, in_words
from app.providers.engine_trial import tried_out
from app.providers.engines.exposition import Exposition, ExpositionTooLarge
from app.providers.engines.families import FAMILIES
from app.providers.engines.figures import Pages, signals_of, unmet_pages, values_at
from app.providers.exchange import HttpClient, HttpFault
from app.providers.openai_native import OpenAiProvider

CONNECT_S: Final = 1.0
#: A page whole, its connection included.
PAGE_S: Final = 2.0

#: Engines remembered; a policy has far fewer targets.
_ENGINES_MOST: Final = 4096
_MODELS_MOST: Final = 1000
_MODELS: Final = "/v1/models"
_NAME_MOST: Final = 256


class HttpEngineProbe:
    """Keeps nothing but prepared destinations. Belongs to one event loop."""

    def __init__(
        self,
        http: HttpClient,
        credentials: Credentials,
        clock: Clock,
        *,
        families: Mapping[str, EngineFamily] = FAMILIES,
        page_s: float = PAGE_S,
    ) -> None:
        """`families`: whose marks are looked for. What is asked of a target is its own family's."""
        self._http = http
        self._credentials = credentials
        self._clock = clock
        self._families = families
        self._page_s = page_s
        self._brands = tuple(mark for family in families.values() for mark in family.marks.metrics)
        self._engines: dict[str, _Engine] = {}

    async def signals(self, target: Target) -> EngineSignals:
        engine = self._engine(target)
        seen = _Seen()
        metrics = await self._metrics(engine, seen)
        await self._read_pages(engine, unmet_pages(engine.family, metrics), seen)
        return self._signals(engine, metrics, seen)

    async def look(self, target: Target) -> EngineReading:
        engine = self._engine(target)
        family, seen = engine.family, _Seen()
        told = dict.fromkeys((*family.pages, *(place.page for place in (*family.version, *family.context))))
        async with asyncio.TaskGroup() as group:
            health = group.create_task(self._health(engine, seen))
            models = group.create_task(self._models(engine, seen))
            metrics = group.create_task(self._metrics(engine, seen, brands=self._brands))
            group.create_task(self._read_pages(engine, told, seen))
        cards = models.result()
        return EngineReading(
            at_s=self._clock.monotonic_s(),
            health=_health(health.result(), seen),
            signals=self._signals(engine, metrics.result(), seen),
            models=tuple(_model(card, family, seen.pages) for card in cards),
            version=_version(family, seen.pages),
            looks_like=self._looks_like(metrics.result(), cards),
            faults=tuple(seen.faults),
        )

    async def try_out(self, target: Target) -> EngineTrial:
        return await tried_out(target, OpenAiProvider(self._http, self._credentials), self._clock)

    def _engine(self, target: Target) -> _Engine:
        secret = None if target.credential is None else self._credentials.secret(target.credential)
        engine = self._engines.get(target.name)
        if engine is not None and engine.site.target is target and engine.site.secret == secret:
            return engine
        if len(self._engines) >= _ENGINES_MOST:
            self._engines.clear()
        family = target.family or EngineFamily(name=target.kind, title=target.kind)
        site = EngineSite(self._http, target, secret=secret, connect_s=min(CONNECT_S, self._page_s))
        engine = self._engines[target.name] = _Engine(site=site, family=family, wanted=family.metric_names)
        return engine

    async def _metrics(self, engine: _Engine, seen: _Seen, *, brands: Iterable[str] = ()) -> Exposition | None:
        """The page of metrics; None where there is none that can be read."""
        path = engine.family.metrics
        if path is None:
            return None
        exposition = Exposition(engine.wanted, brands=brands)
        try:
            async with Within(self._page_s):
                await engine.site.stream(path, exposition.feed)
                exposition.end()
        except ExpositionTooLarge as fault:
            seen.failed(engine, PageFault(f"{path} {fault}"))
        except (PageFault, TimeoutError, HttpFault) as fault:
            seen.failed(engine, self._in_time(path, fault))
        else:
            return exposition
        return None

    async def _read_pages(self, engine: _Engine, paths: Iterable[str], seen: _Seen) -> None:
        async with asyncio.TaskGroup() as group:
            for path in paths:
                group.create_task(self._read_page(engine, path, seen))

    async def _read_page(self, engine: _Engine, path: str, seen: _Seen) -> None:
        try:
            async with Within(self._page_s):
                seen.pages[path] = await engine.site.json(path)
        except (PageFault, TimeoutError, HttpFault) as fault:
            seen.failed(engine, self._in_time(path, fault))

    async def _models(self, engine: _Engine, seen: _Seen) -> list[dict[str, object]]:
        await self._read_page(engine, _MODELS, seen)
        return _cards(seen.pages.get(_MODELS))

    async def _health(self, engine: _Engine, seen: _Seen) -> Health | None:
        """What its page of health says; None: it has none, or does not say."""
        path = engine.family.health
        if path is None:
            return None
        try:
            async with Within(self._page_s):
                await engine.site.page(path)
        except (PageFault, TimeoutError, HttpFault) as fault:
            told = self._in_time(path, fault)
            seen.failed(engine, told)
            return Health.NOT_READY if told.status is not None and told.status >= 500 else None
        return Health.READY

    def _signals(self, engine: _Engine, metrics: Exposition | None, seen: _Seen) -> EngineSignals:
        pages = Pages(metrics=metrics, json=seen.pages, faults=tuple(seen.faults))
        return signals_of(engine.family, pages, at_s=self._clock.monotonic_s())

    def _looks_like(self, metrics: Exposition | None, cards: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
        brands = set() if metrics is None else metrics.seen_brands
        owners = {owner for card in cards if isinstance(owner := card.get("owned_by"), str)}
        return tuple(
            sorted(
                name
                for name, family in self._families.items()
                if not brands.isdisjoint(family.marks.metrics) or not owners.isdisjoint(family.marks.owned_by)
            )
        )

    def _in_time(self, path: str, fault: PageFault | TimeoutError | HttpFault) -> PageFault:
        if isinstance(fault, PageFault):
            return fault
        if isinstance(fault, HttpFault):
            return PageFault(f"{path}: {fault}")
        return PageFault(f"{path} does not answer within {self._page_s:g} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Engine:
    """A target's engine, and what is asked of it each time."""

    site: EngineSite
    family: EngineFamily
    wanted: frozenset[str]


@dataclass(slots=True, kw_only=True)
class _Seen:
    """One look: the JSON pages that were read, by path, and what could not be."""

    pages: dict[str, object] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    answers: int = 0

    def failed(self, engine: _Engine, fault: PageFault) -> None:
        self.answers += fault.status is not None
        self.faults.append(in_words(fault, engine.site.target, secret=engine.site.secret))


def _health(told: Health | None, seen: _Seen) -> Health:
    if told is not None:
        return told
    if _MODELS in seen.pages:
        return Health.READY
    return Health.UNKNOWN if seen.answers or seen.pages else Health.AWAY


def _cards(page: object) -> list[dict[str, object]]:
    """The entries of a list of models that have a name."""
    found = page.get("data") if isinstance(page, dict) else None
    cards = found if isinstance(found, list) else []
    return [card for card in cards[:_MODELS_MOST] if isinstance(card, dict) and isinstance(card.get("id"), str)]


def _model(card: Mapping[str, object], family: EngineFamily, pages: Mapping[str, object]) -> ServedModel:
    contexts = [card.get(key) for key in family.context_keys]
    contexts += [each for place in family.context for each in values_at(pages.get(place.page), place.keys)]
    known = [each for each in contexts if isinstance(each, int) and not isinstance(each, bool) and each > 0]
    return ServedModel(name=str(card["id"])[:_NAME_MOST], context_tokens=known[0] if known else None)


def _version(family: EngineFamily, pages: Mapping[str, object]) -> str | None:
    for place in family.version:
        for said in values_at(pages.get(place.page), place.keys):
            if isinstance(said, str) and said.strip():
                return said.strip()[:_NAME_MOST]
    return None
