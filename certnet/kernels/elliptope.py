"""Coordinate ascent for ``max ¼ <F Fᵀ, X>`` over correlation matrices ``X = Y Yᵀ``."""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.kernels.compilation import compiled

__all__ = ["ascend"]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def ascend(F: Float, Y: Float, S: Float, n_sweeps: int) -> None:
    """Run ``n_sweeps`` sweeps of ``y_i ← (Sᵀ f_i − ‖f_i‖² y_i) / ‖·‖`` in place, with ``S = Fᵀ Y`` kept up to date.

    Each update maximises the objective over one unit row, the others fixed; a sweep costs ``4 n d k`` flops.

    Parameters
    ----------
    F : ndarray, shape (n, d)
    Y : ndarray, shape (n, k)
        Unit rows; overwritten.
    S : ndarray, shape (d, k)
        ``Fᵀ Y``; overwritten.
    n_sweeps : int
    """
    n, d = F.shape
    k = Y.shape[1]
    squares = np.empty(n)
    for i in range(n):
        squares[i] = 0.0
        for a in range(d):
            squares[i] += F[i, a] * F[i, a]
    pull, following = np.zeros(k), np.empty(k)  # Sᵀ f of this row and of the next
    for a in range(d):
        for q in range(k):
            pull[q] += F[0, a] * S[a, q]
    for turn in range(n_sweeps * n):
        i = turn % n
        after = i + 1 if i + 1 < n else 0
        norm = 0.0
        for q in range(k):
            pull[q] -= squares[i] * Y[i, q]
            norm += pull[q] * pull[q]
        if norm > 1e-280:
            scale = 1.0 / np.sqrt(norm)
            for q in range(k):
                moved = pull[q] * scale
                pull[q] = moved - Y[i, q]
                Y[i, q] = moved
        else:  # the row is indifferent to its unit vector
            pull[:] = 0.0
        following[:] = 0.0
        # one pass over S moves it and reads it for the next row
        for a in range(d):
            f, g = F[i, a], F[after, a]
            for q in range(k):
                S[a, q] += f * pull[q]
                following[q] += g * S[a, q]
        pull, following = following, pull
