"""Local search for the steepest linear piece of ``Σ_j v_j relu(w_jᵀ x + b_j)``."""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.kernels.compilation import compiled

__all__ = ["climb"]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def climb(W: Float, b: Float, v: Float, point: Float, n_steps: int, n_tried: int) -> float:
    """Cross one hyperplane ``w_jᵀ x + b_j = 0`` at a time while the gradient's norm grows; ``point`` moves in place.

    The units are ranked by the norm that flipping each alone would give and crossed on trial in this order, which may
    flip others on the way; the first far side that is steeper is kept. A trial costs ``2 h d`` flops or a little more.

    Parameters
    ----------
    W, b, v : ndarray, shapes (h, d), (h,), (h,)
        Rows of W of norm one.
    point : ndarray, shape (d,)
        Overwritten.
    n_steps, n_tried : int
        Limits on the crossings, and on the trials before each.

    Returns
    -------
    float
        The squared norm of the gradient at ``point``.
    """
    h, d = W.shape
    z, estimate = np.empty(h), np.empty(h)
    gradient, trial = np.empty(d), np.empty(d)
    here = 0.0
    for round_ in range(n_steps + 1):
        # the gradient of the piece at point
        gradient[:] = 0.0
        for j in range(h):
            total = b[j]
            for a in range(d):
                total += W[j, a] * point[a]
            z[j] = total
            if total > 0.0:
                for a in range(d):
                    gradient[a] += v[j] * W[j, a]
        here = 0.0
        for a in range(d):
            here += gradient[a] * gradient[a]
        if round_ == n_steps:
            break
        # what its norm would be with one unit flipped
        for j in range(h):
            along = 0.0
            for a in range(d):
                along += gradient[a] * W[j, a]
            flip = -v[j] if z[j] > 0.0 else v[j]
            estimate[j] = here + 2.0 * flip * along + v[j] * v[j]
        # cross the best of them on trial, whatever else flips on the way
        improved = False
        for _ in range(min(n_tried, h)):
            unit = int(np.argmax(estimate))
            if not estimate[unit] > here:
                break
            estimate[unit] = -1.0
            step = z[unit] + (1.0 if z[unit] > 0.0 else -1.0) * (1e-3 * abs(z[unit]) + 1e-6)
            for a in range(d):
                trial[a] = point[a] - step * W[unit, a]
            gradient[:] = 0.0
            for i in range(h):
                total = b[i]
                for a in range(d):
                    total += W[i, a] * trial[a]
                if total > 0.0:
                    for a in range(d):
                        gradient[a] += v[i] * W[i, a]
            norm = 0.0
            for a in range(d):
                norm += gradient[a] * gradient[a]
            if norm > here * (1.0 + 1e-12):
                point[:] = trial
                improved = True
                break
        if not improved:
            break
    return here
