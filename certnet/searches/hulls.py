r"""Is there a point where affine functions are all positive? One, or weights that show that there is none.

For rows a_i with ``a_i · z > 0`` wanted (homogeneous coordinates ``z = (ξ, τ)``, τ > 0 among the rows): by Gordan's
theorem either there is such a z or 0 is a convex combination of the rows, and the point of their hull nearest to 0
answers both. In a ball the nearest point of the polyhedron to its centre does, which is non-negative least squares as
well (least distance programming: Lawson and Hanson 1974, chapter 23). All in floating point.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.optimize import nnls

from certnet.core.validation import Float

__all__ = ["THIN", "common_point", "point_in_ball"]

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


def point_in_ball(G: Float, h: Float) -> tuple[Float | None, Float | None]:
    """ξ in the unit ball with ``G ξ + h > 0``, for rows of norm about one, or weights (n,) that show there is none."""
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
        if float(np.linalg.norm(xi)) <= 1.0 - THIN and bool((G @ xi + h > 0.0).all()):
            return xi, None
    return None, y
