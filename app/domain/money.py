"""Money: whole nanodollars, rounded once, half to even, here and nowhere else."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import NewType

#: 1 USD = 1,000,000,000 nanodollars. Fits a Postgres bigint up to 9.2 billion dollars.
Nanodollars = NewType("Nanodollars", int)

NANODOLLARS_PER_DOLLAR = 1_000_000_000
#: A price of 1 USD per million tokens is this many nanodollars per token.
NANODOLLARS_PER_TOKEN_AT_ONE_USD_PER_MILLION = 1_000

ZERO = Nanodollars(0)

#: Wide enough that no sum of products in this house is rounded before `rounded` does it.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def rounded(nanodollars: Decimal) -> Nanodollars:
    """The one rounding rule: to the nearest whole nanodollar, ties to even."""
    return Nanodollars(int(nanodollars.to_integral_value(rounding=ROUND_HALF_EVEN, context=EXACT)))


def rounded_quotient(numerator: int, denominator: int) -> Nanodollars:
    """`numerator / denominator` nanodollars by the same rule, in whole numbers. `denominator` is above zero."""
    whole, rest = divmod(numerator, denominator)
    double = 2 * rest
    if double > denominator or (double == denominator and whole & 1):
        whole += 1
    return Nanodollars(whole)


def from_dollars(usd: Decimal) -> Nanodollars:
    """A dollar amount in nanodollars, rounded by the one rule."""
    return rounded(EXACT.multiply(usd, Decimal(NANODOLLARS_PER_DOLLAR)))


def dollars(amount: Nanodollars) -> Decimal:
    """The exact dollar value; nine decimals, no rounding."""
    return EXACT.divide(Decimal(amount), Decimal(NANODOLLARS_PER_DOLLAR))


def shown(amount: Nanodollars) -> str:
    """The exact dollar value as people read it: plain digits, no exponent, at least two decimals."""
    whole, fraction = divmod(abs(amount), NANODOLLARS_PER_DOLLAR)
    kept = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"-{whole}.{kept}" if amount < 0 else f"{whole}.{kept}"
