r"""Coordinate descent on ``min ½ zᵀ H z − qᵀ z`` over a box, compiled: one H, many q, the gradient kept up to date.

    z_i ← Π( z_i − g_i / H_ii ),   g ← g + (change of z_i) H_i       with g = H z − q

A coordinate that does not move costs one comparison; one that moves costs a row of H, as far as the row reaches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.kernels.compilation import compiled

__all__ = ["appraised", "descend", "passes_of_descent", "placed", "residuals", "squared_norms"]

Real = NDArray[np.floating[Any]]

# no assumption about NaN or infinity: bounds are infinite
_FAST = {"reassoc", "contract", "nsz"}


@compiled(nogil=True, fastmath=_FAST)
def fill_gradient(H: Real, q: Real, z: Real, g: Real) -> None:
    """``g = H z − q`` for one sample; rows of coordinates at zero are not read."""
    n = len(z)
    for j in range(n):
        g[j] = -q[j]
    for i in range(n):
        zi = z[i]
        if zi != 0.0:
            row = H[i]
            for j in range(n):
                g[j] += zi * row[j]


@compiled(nogil=True, fastmath=_FAST)
def residual_of(z: Real, g: Real, lower: Real, upper: Real) -> float:
    """``max |z − Π(z − g)|``; not a number where g holds one."""
    worst = 0.0
    for i in range(len(z)):
        here = abs(z[i] - min(max(z[i] - g[i], lower[i]), upper[i]))
        if not here <= worst:
            worst = here
    return worst


@compiled(nogil=True)
def residuals(z: Float, g: Float, lower: Float, upper: Float) -> Float:
    """``max |z − Π(z − g)|`` of every row, shape (N,)."""
    found = np.empty(len(z))
    for k in range(len(z)):
        found[k] = residual_of(z[k], g[k], lower, upper)
    return found


@compiled(nogil=True, fastmath=_FAST)
def appraised(z: Float, slopes: Float, q: Float, lower: Float, upper: Float, found: Float) -> None:
    """What is said of every row of z (N, n), finite and inside of the box, from ``slopes``, H z (N, n); one reading.

    The columns of ``found`` (N, 5), overwritten, are, with ``g = H z − q`` and ``r = z − Π(z − g)``: the largest |r|,
    ``‖r‖²``, ``zᵀ g``, ``zᵀ q`` and the largest |z|.
    """
    for k in range(len(z)):
        longest, square, curved, linear, top = 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(z.shape[1]):
            here = z[k, j]
            g = slopes[k, j] - q[k, j]
            step = here - min(max(here - g, lower[j]), upper[j])
            longest = max(longest, abs(step))
            top = max(top, abs(here))
            square += step * step
            curved += here * g
            linear += here * q[k, j]
        # a maximum drops what is not a number; a sum does not
        found[k, 0] = longest if square < np.inf else np.inf
        found[k, 1], found[k, 2], found[k, 3], found[k, 4] = square, curved, linear, top


@compiled(nogil=True, fastmath=_FAST)
def placed(z: Float, lower: Float, upper: Float, moved: Float, finite: NDArray[np.bool_]) -> None:
    """The rows of z (N, n) at the nearest points of the box in ``moved``, or of zero where they are not ``finite``."""
    for k in range(len(z)):
        spread = 0.0
        for j in range(z.shape[1]):
            moved[k, j] = min(max(z[k, j], lower[j]), upper[j])
            spread += abs(z[k, j]) * 1e-300
        finite[k] = spread < np.inf
        if not finite[k]:
            for j in range(z.shape[1]):
                moved[k, j] = min(max(0.0, lower[j]), upper[j])


@compiled(nogil=True, fastmath=_FAST)
def squared_norms(X: Real, squares: Float) -> None:
    """``‖x‖²`` of every row of X (N, d)."""
    for k in range(len(X)):
        total = 0.0
        for j in range(X.shape[1]):
            total += X[k, j] * X[k, j]
        squares[k] = total


@compiled(nogil=True, fastmath=_FAST)
def one_pass(H: Real, lower: Real, upper: Real, z: Real, g: Real) -> None:
    """One pass over the coordinates of one sample, z and g in place."""
    n = len(z)
    for i in range(n):
        moved = min(max(z[i] - g[i] / H[i, i], lower[i]), upper[i])
        step = moved - z[i]
        if step != 0.0:
            z[i] = moved
            row = H[i]
            for j in range(n):
                g[j] += step * row[j]


@compiled(nogil=True, fastmath=_FAST)
def longest_of(steps: Real, lanes: Real) -> float:
    """The largest entry, at least 0; ``lanes`` has room for eight maxima, which do not wait for one another."""
    n = len(steps)
    for j in range(8):
        lanes[j] = 0.0
    for i in range(0, n - 7, 8):
        for j in range(8):
            lanes[j] = max(lanes[j], steps[i + j])
    longest = lanes[0]
    for j in range(1, 8):
        longest = max(longest, lanes[j])
    for i in range(n - n % 8, n):
        longest = max(longest, steps[i])
    return longest


@compiled(nogil=True, fastmath=_FAST)
def longer_than(steps: Real, share: float, todo: NDArray[np.int64]) -> int:
    """How many steps are longer, and which (``todo``, one place more than there are steps)."""
    found = 0
    for i in range(len(steps)):
        todo[found] = i
        # an addition in place of a branch: which coordinates move is hard to predict
        found += steps[i] > share
    return found


@compiled(nogil=True, fastmath=_FAST)
def _look(inverse: Real, lower: Real, upper: Real, z: Real, g: Real, tol: float, steps: Real) -> int:
    """The step of every coordinate alone (``steps``); how many natural residuals are not within ``tol``."""
    above = 0
    for i in range(len(z)):
        steps[i] = abs(min(max(z[i] - g[i] * inverse[i], lower[i]), upper[i]) - z[i])
        above += not abs(z[i] - min(max(z[i] - g[i], lower[i]), upper[i])) <= tol
    return above


@compiled(nogil=True, fastmath=_FAST)
def _pass_over(
    H: Real, inverse: Real, lower: Real, upper: Real, z: Real, g: Real, todo: NDArray[np.int64], movers: int
) -> None:
    """One pass over the listed coordinates of one sample, z and g in place."""
    todo[movers] = todo[0]  # something to look ahead to at the end
    i = todo[0]
    slope = g[i]
    for c in range(movers):
        row = H[i]
        moved = min(max(z[i] - slope * inverse[i], lower[i]), upper[i])
        step = moved - z[i]
        z[i] = moved
        i = todo[c + 1]
        # the next coordinate's slope from one entry of H: it need not wait for the whole row to be added
        slope = g[i] + step * row[i]
        for j in range(len(g)):
            g[j] += step * row[j]


@compiled(nogil=True, fastmath=_FAST)
def descend(H: Real, q: Real, lower: Real, upper: Real, z: Real, tol: float, max_passes: int) -> tuple[int, float]:
    """Passes over every sample until its natural residual is at most ``tol``; z is moved in place.

    A pass takes the steps that are longer than an eighth of the longest of the pass before.

    Parameters
    ----------
    H : ndarray, shape (n, n), contiguous
        Symmetric positive definite; float64, or float32 with everything else float32 too.
    q : ndarray, shape (N, n), contiguous
    lower, upper : ndarray, shape (n,)
    z : ndarray, shape (N, n), contiguous
        The start, inside of the box; overwritten.
    tol : float
    max_passes : int
        Limit for each sample.

    Returns
    -------
    passes : int
        Sum over the samples.
    residual : float
        The largest ``max |z − Π(z − (H z − q))|`` of a sample, from the gradient that was kept up to date.
    """
    n = len(H)
    g, inverse, steps = np.empty_like(H[0]), np.empty_like(H[0]), np.empty_like(H[0])
    lanes = np.empty(8, H.dtype)
    todo = np.empty(n + 1, np.int64)
    for i in range(n):
        inverse[i] = 1.0 / H[i, i]
    passes, worst = 0, 0.0
    for k in range(len(q)):
        # passes over the units whose step is long enough, g kept up to date
        fill_gradient(H, q[k], z[k], g)
        above = _look(inverse, lower, upper, z[k], g, tol, steps)
        count = 0
        threshold = 0.0
        while above and count < max_passes:
            movers = longer_than(steps, threshold, todo)
            threshold = 0.125 * longest_of(steps, lanes)
            if movers:
                _pass_over(H, inverse, lower, upper, z[k], g, todo, movers)
                above = _look(inverse, lower, upper, z[k], g, tol, steps)
            count += 1
        passes += count
        residual = residual_of(z[k], g, lower, upper)
        if not residual <= worst:
            worst = residual
    return passes, worst


@compiled(nogil=True, fastmath=_FAST)
def passes_of_descent(H: Float, q: Float, lower: Float, upper: Float, z: Float, passes: int) -> None:
    """Exactly ``passes`` passes over every sample, z in place."""
    g = np.empty_like(H[0])
    for k in range(len(q)):
        fill_gradient(H, q[k], z[k], g)
        for _ in range(passes):
            one_pass(H, lower, upper, z[k], g)
