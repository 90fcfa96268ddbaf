"""The inverse Hessian of L-BFGS times a vector."""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.kernels.compilation import compiled

__all__ = ["two_loops"]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _dot(a: Float, b: Float) -> float:
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _add(a: Float, factor: float, b: Float) -> None:
    for i in range(len(a)):
        a[i] += factor * b[i]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def two_loops(q: Float, steps: Float, turns: Float, inverses: Float, count: int) -> None:
    """The two-loop recursion (Nocedal 1980) in place.

    Parameters
    ----------
    q : ndarray, shape (n,)
        The gradient; overwritten by the inverse Hessian times it.
    steps, turns : ndarray, shape (m, n)
        Pairs, the k-th of all in row k mod m.
    inverses : ndarray, shape (m,)
        ``1 / (step · turn)``.
    count : int
        Of all pairs so far, at least 1; of these the last m count.
    """
    m = len(steps)
    first = max(0, count - m)
    factors = np.empty(m)
    for k in range(count - 1, first - 1, -1):
        i = k % m
        factors[i] = inverses[i] * _dot(steps[i], q)
        _add(q, -factors[i], turns[i])
    last = (count - 1) % m
    scale = 1.0 / (inverses[last] * _dot(turns[last], turns[last]))
    for j in range(len(q)):
        q[j] *= scale
    for k in range(first, count):
        i = k % m
        _add(q, factors[i] - inverses[i] * _dot(turns[i], q), steps[i])
