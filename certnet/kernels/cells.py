"""Passes over the inequalities of an activation cell: n samples by k units, one byte of pattern each."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.kernels.compilation import compiled

__all__ = ["affine_sum", "aimed", "clipped_products", "finished", "pulled_residuals", "split"]

_FAST: Final = {"contract", "reassoc", "nsz"}


@compiled(fastmath=_FAST)
def split(z: Float, pattern: NDArray[np.uint8], directions: Float, out: Float) -> None:
    """Pre-activations z (n, k) to slacks in place (negated where inactive), and ``out += relu part · directionsᵀ``."""
    n, k = z.shape
    for i in range(n):
        for o in range(directions.shape[0]):
            total = 0.0
            for j in range(k):
                total += directions[o, j] * (pattern[i, j] * z[i, j])
            out[i, o] += total
        for j in range(k):
            z[i, j] *= 2.0 * pattern[i, j] - 1.0


@compiled(fastmath=_FAST)
def pulled_residuals(pull: Float, pattern: NDArray[np.uint8], z: Float) -> None:
    """``pull ← pattern · pull − S z`` in place, S the signs of the cell."""
    n, k = z.shape
    for i in range(n):
        for j in range(k):
            pull[i, j] = pattern[i, j] * pull[i, j] - (2.0 * pattern[i, j] - 1.0) * z[i, j]


@compiled(fastmath=_FAST)
def aimed(
    target: float, product: Float, inverse: Float, z: Float, pattern: NDArray[np.uint8], dz: Float, pull: Float
) -> None:
    """``dz = (target − product) / s − z``, the dual direction before the primal one is known, and ``pull = S dz``."""
    n, k = z.shape
    for i in range(n):
        for j in range(k):
            value = (target - product[i, j]) * inverse[i, j] - z[i, j]
            dz[i, j] = value
            pull[i, j] = (2.0 * pattern[i, j] - 1.0) * value


@compiled(fastmath=_FAST)
def finished(s: Float, inverse: Float, z: Float, ds: Float, dz: Float) -> tuple[float, float]:
    """``dz −= (z / s) ds``, and the longest steps that keep s and z positive (at most 10¹²)."""
    n, k = z.shape
    worst, worst_dual = 1e-12, 1e-12
    for i in range(n):
        primal, dual = 0.0, 0.0
        for j in range(k):
            step = ds[i, j] * inverse[i, j]
            value = dz[i, j] - z[i, j] * step
            dz[i, j] = value
            primal = max(primal, -step)
            dual = max(dual, -value / z[i, j])
        worst, worst_dual = max(worst, primal), max(worst_dual, dual)
    return 1.0 / worst, 1.0 / worst_dual


@compiled(fastmath=_FAST)
def affine_sum(s: Float, z: Float, ds: Float, dz: Float, product: Float) -> tuple[float, float, float]:
    """``Σ s dz, Σ z ds, Σ ds dz``; ``product = ds · dz``."""
    a, b, c = 0.0, 0.0, 0.0
    for i in range(s.shape[0]):
        for j in range(s.shape[1]):
            a += s[i, j] * dz[i, j]
            b += z[i, j] * ds[i, j]
            product[i, j] = ds[i, j] * dz[i, j]
            c += product[i, j]
    return a, b, c


@compiled(fastmath=_FAST)
def clipped_products(
    s: Float,
    z: Float,
    ds: Float,
    dz: Float,
    primal: float,
    dual: float,
    low: float,
    high: float,
    product: Float,
    out: Float,
) -> None:
    """Gondzio's term: ``out = product − move``, ``move = clip(v, low, high) − v`` and at least −high.

    ``v = (s + primal ds)(z + dual dz)`` are the products ahead.
    """
    for i in range(s.shape[0]):
        for j in range(s.shape[1]):
            v = (s[i, j] + primal * ds[i, j]) * (z[i, j] + dual * dz[i, j])
            move = min(max(v, low), high) - v
            out[i, j] = product[i, j] - max(move, -high)
