"""Prices in Postgres: every card by its digest, and every price by who had it from when to when. Append-only."""

from __future__ import annotations

import json
from collections.abc import Sequence

from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.ports.prices import PriceRow, PriceSource
from app.storage.engine import Database
from app.storage.rate_card_json import card_from_json, list_as_json

_KEEP_CARDS = """
insert into rate_card (digest, list, origin, first_seen_s)
select distinct on (digest) digest, list, origin, first_seen_s
  from jsonb_to_recordset($1::jsonb) as seen (digest text, list jsonb, origin text, first_seen_s bigint)
 order by digest, first_seen_s
    on conflict (digest) do nothing
"""
_KEEP_PRICES = """
insert into price (name, model, source, digest, valid_from, valid_to, origin, first_seen_s)
select name, model, source, digest, valid_from, valid_to, origin, first_seen_s
  from jsonb_to_recordset($1::jsonb)
    as seen (name text, model text, source text, digest text, valid_from date, valid_to date, origin text,
             first_seen_s bigint)
 order by name, source, digest, valid_from
    on conflict on constraint price_once do nothing
returning id
"""
_FIND = "select list, origin from rate_card where digest = $1"
_ROWS = """
select p.name, p.model, p.source, p.valid_from, p.valid_to, p.origin, p.first_seen_s, c.list
  from price p join rate_card c using (digest)
 where ($1::text is null or p.source = $1) and ($2::text is null or p.name = $2)
 order by p.name, p.first_seen_s desc, p.id desc
"""


class PostgresPriceBook:
    """`ports.prices.PriceBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, rows: Sequence[PriceRow]) -> int:
        """In one transaction: the cards, then the rows that name them. Of two at once, the first stays."""
        if not rows:
            return 0
        text = json.dumps([_written(row) for row in rows])
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_KEEP_CARDS, text)
            return len(await connection.fetch(_KEEP_PRICES, text))

    async def find(self, digest: str) -> RateCard | None:
        """The card of that digest, as it was first seen."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_FIND, digest)
        return card_from_json(json.loads(rows[0]["list"]), origin=rows[0]["origin"]) if rows else None

    async def rows(self, *, source: PriceSource | None = None, name: str | None = None) -> Sequence[PriceRow]:
        """By name, the newest seen first within it."""
        async with self._database.connection() as connection:
            found = await connection.fetch(_ROWS, None if source is None else source.value, name)
        return tuple(
            PriceRow(
                name=row["name"],
                model=row["model"],
                source=PriceSource(row["source"]),
                dated=DatedCard(
                    card=card_from_json(json.loads(row["list"]), origin=row["origin"]),
                    valid_from=row["valid_from"],
                    valid_to=row["valid_to"],
                ),
                first_seen_s=row["first_seen_s"],
            )
            for row in found
        )


def _written(row: PriceRow) -> dict[str, object]:
    card, begins, ends = row.dated.card, row.dated.valid_from, row.dated.valid_to
    return {
        "name": row.name,
        "model": row.model,
        "source": row.source.value,
        "digest": card.digest,
        "list": list_as_json(card),
        "origin": card.origin,
        "valid_from": None if begins is None else begins.isoformat(),
        "valid_to": None if ends is None else ends.isoformat(),
        "first_seen_s": row.first_seen_s,
    }
