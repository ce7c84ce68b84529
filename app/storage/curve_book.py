"""What was learned of self-hosted targets in Postgres: one row a target, and the most answers win."""

# ruff: noqa: S608  (what is put together here is our own names)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any, Final

from app.domain.capacity.learned import HALF_LIFE_S, Identity, LearnedCurve
from app.domain.capacity.line import WEIGHT_MOST, Line
from app.domain.capacity.service_curve import CurveFit
from app.ports.curves import KeptCurve
from app.storage.columns import LINE, LINES
from app.storage.engine import Database

_IDENTITY: Final = ("url", "model", "kind")
_GIVEN: Final = ("target", *_IDENTITY, "engine_version", *LINES, "output_tokens", "ttft_ms")
_SAME: Final = f"({', '.join(f'was.{name}' for name in _IDENTITY)}) = ({', '.join(f'excluded.{n}' for n in _IDENTITY)})"
_CHANGED: Final = tuple(name for name in _GIVEN if name not in ("target", "engine_version"))

_KEEP: Final = f"""
insert into service_curve as was ({", ".join(_GIVEN)})
values ({", ".join(f"${number}" for number in range(1, len(_GIVEN) + 1))})
on conflict (target) do update
   set {", ".join(f"{name} = excluded.{name}" for name in _CHANGED)}, learned_at = now(),
       engine_version = case when {_SAME} and excluded.engine_version = '' then was.engine_version
                             else excluded.engine_version end
 where not {_SAME}
    or was.prefill_weight > {WEIGHT_MOST}
    or (was.engine_version <> excluded.engine_version and '' not in (was.engine_version, excluded.engine_version))
    or excluded.prefill_weight >= was.prefill_weight * power(
           0.5, greatest(0, extract(epoch from now() - was.learned_at)::double precision) / {HALF_LIFE_S})
"""
_FORGET: Final = "delete from service_curve where learned_at < now() - interval '30 days'"
_KEPT: Final = f"""
select {", ".join(_GIVEN)}, greatest(0, extract(epoch from now() - learned_at)::double precision) as age_s
  from service_curve order by target
"""


class PostgresCurveBook:
    """`ports.curves.CurveBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, curves: Sequence[LearnedCurve]) -> None:
        """Each in a statement of its own, so that nobody waits for two rows."""
        async with self._database.connection() as connection:
            # First, as a power of too old an age is an error to Postgres.
            await connection.execute(_FORGET)
            for curve in curves:
                await connection.execute(_KEEP, *_values(curve))

    async def kept(self) -> Sequence[KeptCurve]:
        """All of them, by target."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_KEPT)
        return tuple(KeptCurve(curve=_curve(row), age_s=row["age_s"]) for row in rows)


def _values(curve: LearnedCurve) -> tuple[object, ...]:
    of, fit = curve.of, curve.fit
    lines = (*astuple(fit.steps), *astuple(fit.prefill))
    return (of.target, of.url, of.model, of.kind, curve.engine_version, *lines, fit.output_tokens, curve.ttft_ms)


def _curve(row: Mapping[str, Any]) -> LearnedCurve:
    return LearnedCurve(
        of=Identity(target=row["target"], url=row["url"], model=row["model"], kind=row["kind"]),
        fit=CurveFit(steps=_line(row, "steps"), prefill=_line(row, "prefill"), output_tokens=row["output_tokens"]),
        engine_version=row["engine_version"],
        ttft_ms=row["ttft_ms"],
    )


def _line(row: Mapping[str, Any], name: str) -> Line:
    return Line(**{part: row[f"{name}_{part}"] for part in LINE})
