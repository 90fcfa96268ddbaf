r"""Is there a point where affine functions are all positive? One, or weights that show that there is none.

For rows a_i with ``a_i · z > 0`` wanted (homogeneous coordinates ``z = (ξ, τ)``, τ > 0 among the rows): by Gordan's
theorem either there is such a z or 0 is a convex combination of the rows, and the point of their hull nearest to 0
answers both. It may be 0 for a part that a border of the region touches; what is a proof in a region is a combination
that is below zero all over it, and comes from the nearest point of the polyhedron to the centre, which is non-negative
least squares as well (least distance programming: Lawson and Hanson 1974, chapter 23). All in floating point.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.optimize import nnls

from certnet.core.validation import Float

__all__ = ["THIN", "common_point", "nearest_point"]

THIN: Final = 1e-9
"""Distance of the hull from 0, rows of norm one, below which a proof of emptiness is tried."""


def common_point(rows: Float) -> tuple[Float | None, Float | None]:
    """A unit vector z with ``rows z > 0``, for rows (n, q) of norm one, or weights (n,) of a combination near 0."""
    n, q = rows.shape
    E = np.ones((q + 1, n))
    E[:q] = rows.T
    e = np.zeros(q + 1)
    e[q] = 1.0
    try:
        y = nnls(E, e)[0]
    except RuntimeError:  # its limit of iterations
        return None, None
    z = (E @ y)[:-1]
    size = float(np.linalg.norm(z))
    if size > THIN and bool((rows @ z > 0.0).all()):
        return z / size, None
    return None, y


def nearest_point(G: Float, h: Float, radius: float = np.inf) -> tuple[Float | None, Float | None]:
    """The ξ nearest to 0 with ``G ξ + h > 0``, for rows of norm about one, if it is within the radius.

    Otherwise weights (n,) with which ``max Σ y (G ξ + h)`` over the ball is below zero (``Σ y G = 0`` where there is no
    such ξ at all); two Nones where neither is found.
    """
    d = G.shape[1]
    E = np.vstack([G.T, THIN - h])
    e = np.zeros(d + 1)
    e[d] = 1.0
    try:
        y = nnls(E, e)[0]
    except RuntimeError:
        return None, None
    r = E @ y - e
    if -r[d] > 1e-14:
        xi = -r[:d] / r[d]
        if float(np.linalg.norm(xi)) <= radius * (1.0 - THIN) and bool((G @ xi + h > 0.0).all()):
            return xi, None
    return None, y
