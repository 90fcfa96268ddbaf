"""Decimals that keep their side."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from certnet.core.digits import above, below

positive = st.floats(min_value=1e-300, max_value=1e300)


@given(positive, st.integers(1, 12))
def test_sides_and_digits(value, digits):
    up, down = Fraction(above(value, digits)), Fraction(below(value, digits))
    assert down <= Fraction(value) <= up
    assert up - down <= Fraction(value) * Fraction(10) ** (1 - digits)


def test_forms():
    assert above(0.0) == "0"
    assert above(2.0) == "2"
    assert above(0.86650000001, 5) == "0.86651"
    assert below(0.86650999999, 5) == "0.86650"
    assert above(1.23456e-9, 3) == "1.24e-9"
