r"""Interval arithmetic for products of weights and slopes, rounded outward. NumPy only.

An interval matrix [low, high] times a matrix ``W = W⁺ − W⁻`` of non-negative parts is

    Σ_j x_j W_ji ≤ Σ_j high_j W⁺_ji − Σ_j low_j W⁻_ji,        ≥ Σ_j low_j W⁺_ji − Σ_j high_j W⁻_ji.

Terms of either sign are summed apart. A sum of n non-negative products has a relative error of γ_n, and is zero exactly
where every product is: where the terms of an end have one sign so has the end, whatever is charged, and a network whose
paths from an input to an output all have one sign is proved monotone without a margin.

The slopes ``W_ℓ D_{ℓ−1} W_{ℓ−1} ⋯ D_0 W_0`` of a network, D_k diagonal with entries among the slopes of its units, are
enclosed from the outputs (``B_ℓ = W_ℓ``, ``B_k = (B_{k+1} D_k) W_k``) and from the inputs; both hold, so the smaller
ends do. For one hidden layer, and for activations with least slope zero, each entry is as small as slopes of the units
that are free of each other allow, in one layer at a time; with one output and one hidden layer there is no smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from certnet.core.validation import Float
from certnet.proofs.rounding import gamma

__all__ = ["Intervals", "UnitSlopes", "slopes_of_products"]

UnitSlopes = Sequence[tuple[Float, Float]]
"""Of every hidden layer the least and the greatest slopes of its units, each (n_k,)."""

_MINUTE = 2.0**-1000  # more than what underflows in a sum
_SAFE = 2.0**-480  # products of numbers above it do not underflow


@dataclass(frozen=True, eq=False)
class Intervals:
    """Matrices A with ``low ≤ A ≤ high``, entry by entry; both ends (m, n)."""

    low: Float
    high: Float

    @classmethod
    def exactly(cls, A: Float) -> Intervals:
        return cls(A, A)

    @property
    def T(self) -> Intervals:
        return Intervals(self.low.T, self.high.T)

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())

    def meet(self, other: Intervals) -> Intervals:
        """What lies within both."""
        return Intervals(np.maximum(self.low, other.low), np.minimum(self.high, other.high))

    def times(self, W: Float) -> Intervals:
        """``A W`` for W (n, d)."""
        signs = np.vstack(_parts(W))
        (low_up, low_down), (high_up, high_down) = _parts(self.low), _parts(self.high)
        most_up, most_down = _sums([high_up, low_down], signs), _sums([high_down, low_up], signs)
        least_up, least_down = _sums([low_up, high_down], signs), _sums([low_down, high_up], signs)
        return Intervals(
            _difference(least_up.low, least_down.high, -np.inf), _difference(most_up.high, most_down.low, np.inf)
        )

    def sloped(self, least: Float, most: Float) -> Intervals:
        """``A diag(s)`` for all s (n,) with ``least ≤ s ≤ most``."""
        ends = [(x, s) for x in (self.low, self.high) for s in (least, most)]
        low = np.min([_product(x, s, -np.inf) for x, s in ends], axis=0)
        return Intervals(low, np.max([_product(x, s, np.inf) for x, s in ends], axis=0))


def slopes_of_products(weights: Sequence[Float], slopes: UnitSlopes) -> Intervals | None:
    """Ends (m, d) of all ``W_ℓ D_{ℓ−1} ⋯ D_0 W_0``; None where numbers overflow.

    Parameters
    ----------
    weights : sequence of ℓ + 1 ndarray, shapes (n_{k+1}, n_k)
    slopes : sequence of ℓ pairs (least, most) of ndarray, shape (n_{k+1},)
    """
    with np.errstate(all="ignore"):  # what overflows is refused below
        from_outputs = Intervals.exactly(weights[-1])
        for W, (least, most) in zip(weights[-2::-1], slopes[::-1]):
            from_outputs = from_outputs.sloped(least, most).times(W)
        from_inputs = Intervals.exactly(weights[0].T)
        for W, (least, most) in zip(weights[1:], slopes):
            from_inputs = from_inputs.sloped(least, most).times(W.T)
    if not (from_outputs.finite and from_inputs.finite):
        return None
    return from_outputs.meet(from_inputs.T)


def _parts(A: Float) -> tuple[Float, Float]:
    """A⁺ and A⁻."""
    return np.maximum(A, 0.0), np.maximum(-A, 0.0)


def _sums(parts: list[Float], signs: Float) -> Intervals:
    """Ends of ``(A_1, A_2) B`` for non-negative matrices; zero exactly where every product is."""
    A = np.hstack(parts)
    total = A @ signs
    k = gamma(len(signs) + 8)
    low, high = total * (1.0 - k), total * (1.0 + k)
    smallest = [X[X > 0.0].min(initial=np.inf) for X in (A, signs)]
    if min(smallest) < _SAFE:
        some = (A > 0.0).astype(np.float64) @ (signs > 0.0).astype(np.float64) > 0.0
        low, high = np.maximum(low - _MINUTE, 0.0), np.where(some, high + _MINUTE, 0.0)
    return Intervals(low, high)


def _difference(a: Float, b: Float, toward: float) -> Float:
    """``a − b``, rounded toward an infinity; exact where one of them is zero."""
    found = a - b
    return np.where((a == 0.0) | (b == 0.0), found, np.nextafter(found, toward))


def _product(x: Float, s: Float, toward: float) -> Float:
    """``x s``, rounded toward an infinity, but never across zero; exact for s = 0 and ±1."""
    found = x * s
    moved = np.nextafter(found, toward)
    across = np.sign(x) * np.sign(s) * np.sign(toward) < 0.0
    moved = np.where(across, np.maximum(moved, 0.0) if toward < 0.0 else np.minimum(moved, 0.0), moved)
    return np.where((x == 0.0) | (s == 0.0) | (np.abs(s) == 1.0), found, moved)
