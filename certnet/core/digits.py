"""Bounds as decimals that keep their side: upper bounds rounded up, lower bounds rounded down."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

__all__ = ["above", "below"]


def above(value: float, digits: int = 6) -> str:
    """The shortest-looking decimal of ``digits`` significant digits that is at least ``value``."""
    return _rounded(value, digits, ROUND_CEILING)


def below(value: float, digits: int = 6) -> str:
    """The decimal of ``digits`` significant digits that is at most ``value``."""
    return _rounded(value, digits, ROUND_FLOOR)


def _rounded(value: float, digits: int, rounding: str) -> str:
    rounded = Context(prec=digits, rounding=rounding).create_decimal(Decimal(value))
    return f"{rounded:f}" if rounded == 0 or 1e-4 <= abs(rounded) < 1e9 else f"{rounded:e}"
