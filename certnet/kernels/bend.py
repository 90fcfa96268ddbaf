"""Piecewise linear activations with their kink bent, in one pass over the pre-activations."""

from __future__ import annotations

from certnet.core.validation import Float
from certnet.kernels.compilation import compiled

__all__ = ["bend_kinks"]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def bend_kinks(a: Float, b: Float, left: float, delta: float, out: Float) -> None:
    """φ(a + b) into ``out``, and the slopes there over a.

    φ has slope ``left`` below zero and 1 above it; within ±δ its kink is ``left z + (1 − left) (z + δ)² / 4δ``.

    Parameters
    ----------
    a : ndarray, shape (N, n)
        Overwritten by φ'.
    b : ndarray, shape (n,)
    left, delta : float
        δ ≥ 0; with 0 the slope on the kink is ``left``.
    out : ndarray, shape (N, n)
        Overwritten by φ.
    """
    right = 1.0 - left
    for i in range(a.shape[0]):
        if delta > 0.0:
            half = 0.5 / delta
            for j in range(a.shape[1]):
                z = a[i, j] + b[j]
                g = min(max(half * z + 0.5, 0.0), 1.0)
                out[i, j] = left * z + right * (max(z - delta, 0.0) + delta * g * g)
                a[i, j] = left + right * g
        else:
            for j in range(a.shape[1]):
                z = a[i, j] + b[j]
                up = 1.0 if z > 0.0 else 0.0
                out[i, j] = z * (left + right * up)
                a[i, j] = left + right * up
