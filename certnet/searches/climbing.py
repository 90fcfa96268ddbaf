"""Local search for the steepest linear piece of ``Σ_j v_j relu(w_jᵀ x + b_j)``."""

from __future__ import annotations

from typing import Final

import numpy as np

from certnet.core.validation import Float

__all__ = ["climb"]

_TOGETHER: Final = (4, 28)
"""Crossings tried at once, first and then: most often one of the first succeeds, and one product does for many."""


def climb(W: Float, b: Float, v: Float, point: Float, n_steps: int, n_tried: int) -> Float:
    """Cross one hyperplane ``w_jᵀ x + b_j = 0`` at a time while the gradient's norm grows; the point reached.

    The units are ranked by the norm that flipping each alone would give and crossed on trial in this order, which may
    flip others on the way; the first far side that is steeper is kept.

    Parameters
    ----------
    W, b, v : ndarray, shapes (h, d), (h,), (h,)
        Rows of W of norm one.
    point : ndarray, shape (d,)
    n_steps, n_tried : int
        Limits on the crossings, and on the trials before each.
    """
    for _ in range(n_steps):
        across = _steeper(W, b, v, point, n_tried)
        if across is None:
            break
        point = across
    return point


def _steeper(W: Float, b: Float, v: Float, point: Float, n_tried: int) -> Float | None:
    """The first of the far sides that is steeper than the piece at ``point``."""
    z = W @ point + b
    gradient = (v * (z > 0.0)) @ W
    here = float(gradient @ gradient)
    # what the squared norm would be with one unit flipped
    flip = np.where(z > 0.0, -v, v)
    alone = here + 2.0 * flip * (W @ gradient) + v * v
    units = np.argsort(-alone, kind="stable")[:n_tried]
    units = units[alone[units] > here]
    # a little beyond each unit's hyperplane
    step = z[units] + np.where(z[units] > 0.0, 1.0, -1.0) * (1e-3 * np.abs(z[units]) + 1e-6)
    begin, size = 0, _TOGETHER[0]
    while begin < len(units):
        tried = slice(begin, begin + size)
        across = point - step[tried, None] * W[units[tried]]
        gradients = (v * (across @ W.T + b > 0.0)) @ W
        steeper = np.flatnonzero(np.einsum("ia,ia->i", gradients, gradients) > here * (1.0 + 1e-12))
        if len(steeper):
            return np.asarray(across[steeper[0]])
        begin, size = begin + size, _TOGETHER[1]
    return None
