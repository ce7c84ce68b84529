"""Figures in sentences: plain digits, however small or large, as nobody reads 6e-05 at a glance. Money has its own."""

from __future__ import annotations

from decimal import Context, Decimal


def in_digits(number: float | Decimal, *, significant: int | None = 4) -> str:
    """The number in digits, without an exponent and without zeros that say nothing.

    `significant`: so many digits after those that are zero are kept, yet never fewer than stand before the point; None:
    all that it has. What is no number (not finite) is told by its name.
    """
    exact = number if isinstance(number, Decimal) else Decimal(repr(number))
    if not exact.is_finite():
        return str(number)
    if significant is not None and exact:
        exact = Context(prec=max(significant, exact.adjusted() + 1)).plus(exact)
    digits = f"{exact:f}"
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits == "-0" else digits
