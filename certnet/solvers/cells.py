"""Passes over the inequalities of an activation cell: n samples by k units, one byte of pattern each.

Every pass goes over some rows at a time, so few that its temporary arrays stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float

__all__ = ["affine_sum", "aimed", "clipped_products", "finished", "pulled_residuals", "split"]

Pattern = NDArray[np.uint8]

_ENTRIES: Final = 16384  # at a time


def split(z: Float, pattern: Pattern, directions: Float, out: Float) -> None:
    """Pre-activations z (n, k) to slacks in place (negated where inactive), and ``out += relu part · directionsᵀ``."""
    for at, part in _parts(z):
        here = z[at]
        np.multiply(here, pattern[at], out=part)
        out[at] += part @ directions.T
        # S z = 2 D z − z
        part *= 2.0
        np.subtract(part, here, out=here)


def pulled_residuals(pull: Float, pattern: Pattern, z: Float) -> None:
    """``pull ← pattern · pull − S z`` in place, S the signs of the cell."""
    for at, part in _parts(z):
        here = pull[at]
        here *= pattern[at]
        _signs(pattern[at], part)
        part *= z[at]
        here -= part


def aimed(target: float, product: Float, inverse: Float, z: Float, pattern: Pattern, dz: Float, pull: Float) -> None:
    """``dz = (target − product) / s − z``, the dual direction before the primal one is known, and ``pull = S dz``."""
    for at, part in _parts(z):
        here = dz[at]
        np.subtract(target, product[at], out=here)
        here *= inverse[at]
        here -= z[at]
        _signs(pattern[at], part)
        np.multiply(here, part, out=pull[at])


def finished(s: Float, inverse: Float, z: Float, ds: Float, dz: Float) -> tuple[float, float]:
    """``dz −= (z / s) ds``, and the longest steps that keep s and z positive (at most 10¹²)."""
    worst, worst_dual = -1e-12, -1e-12
    for at, part in _parts(z):
        np.multiply(ds[at], inverse[at], out=part)
        worst = min(worst, float(part.min()))
        part *= z[at]
        dz[at] -= part
        np.divide(dz[at], z[at], out=part)
        worst_dual = min(worst_dual, float(part.min()))
    return -1.0 / worst, -1.0 / worst_dual


def affine_sum(s: Float, z: Float, ds: Float, dz: Float, product: Float) -> tuple[float, float, float]:
    """``Σ s dz, Σ z ds, Σ ds dz``; ``product = ds · dz``."""
    np.multiply(ds, dz, out=product)
    return float(np.vdot(s, dz)), float(np.vdot(z, ds)), float(np.sum(product))


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
    for at, part in _parts(z):
        here = out[at]
        np.multiply(primal, ds[at], out=part)
        part += s[at]
        np.multiply(dual, dz[at], out=here)
        here += z[at]
        part *= here
        np.clip(part, low, high, out=here)
        here -= part
        np.maximum(here, -high, out=here)
        np.subtract(product[at], here, out=here)


def _parts(z: Float) -> Iterator[tuple[slice, Float]]:
    """Rows at a time, and a temporary array of their shape."""
    n, k = z.shape
    size = max(1, _ENTRIES // max(k, 1))
    room = np.empty((min(size, n), k))
    for first in range(0, n if k else 0, size):
        yield slice(first, first + size), room[: min(size, n - first)]


def _signs(pattern: Pattern, out: Float) -> None:
    np.multiply(pattern, 2.0, out=out)
    out -= 1.0
