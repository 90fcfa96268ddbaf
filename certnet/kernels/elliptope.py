"""Coordinate ascent for ``max ¼ <F Fᵀ, X>`` over correlation matrices ``X = Y Yᵀ``."""

from __future__ import annotations

import numpy as np

from certnet.kernels.compiled import compiled
from certnet.validation import Float

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
    step = np.empty(k)
    for _ in range(n_sweeps):
        for i in range(n):
            square = 0.0
            for a in range(d):
                square += F[i, a] * F[i, a]
            for q in range(k):
                step[q] = -square * Y[i, q]
            for a in range(d):
                f = F[i, a]
                for q in range(k):
                    step[q] += f * S[a, q]
            norm = 0.0
            for q in range(k):
                norm += step[q] * step[q]
            if norm <= 1e-280:  # the row is indifferent to its unit vector
                continue
            scale = 1.0 / np.sqrt(norm)
            for q in range(k):
                moved = step[q] * scale
                step[q] = moved - Y[i, q]
                Y[i, q] = moved
            for a in range(d):
                f = F[i, a]
                for q in range(k):
                    S[a, q] += f * step[q]
