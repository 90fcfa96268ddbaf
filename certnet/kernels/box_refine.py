r"""Coordinate descent in single precision on the correction of a double-precision point.

With ``g = H z − q`` in double precision, ``D = diag(H)``, s the longest step ``D^{½} |Δz_i|`` of a coordinate alone,
and ``z + s D^{−½} e`` the corrected point,

    min_e ½ eᵀ (D^{−½} H D^{−½}) e + (D^{−½} g / s)ᵀ e,   (lower − z) D^{½} / s ≤ e ≤ (upper − z) D^{½} / s

has a unit diagonal, a first step of length one and finite numbers of ordinary size, however H is scaled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.kernels.box_descent import longer_than, longest_of
from certnet.kernels.compilation import compiled

__all__ = ["Single", "correct"]

Single = NDArray[np.float32]
Index = NDArray[np.int64]

_FAST = {"reassoc", "contract", "nsz"}
_FLOOR = np.float32(2e-7)
"""Scaled steps below this are rounding."""
_LOOK, _PROGRESS = 16, np.float32(0.7)
"""A round ends where so many passes leave more than this of the longest step: by rounding, or an ill-conditioned H."""
_SHARE = np.float32(0.125)
"""Only steps longer than this share of the last pass's longest are taken: a fifth of the rows of H is saved."""


@compiled(nogil=True, fastmath=_FAST)
def correct(
    H: Single,
    reach: Index,
    root: Float,
    weight: Single,
    box: tuple[Float, Float],
    z: Float,
    g: Float,
    rows: Index,
    tol: float,
    max_passes: int,
) -> int:
    """Move the samples ``rows`` of z towards their minimisers, in place; the most passes that one of them took.

    Parameters
    ----------
    H : ndarray of float32, shape (n, n)
        ``D^{−½} H D^{−½}``.
    reach : ndarray, shape (n, 2) or (0, 2)
        First and one past the last column that is not zero in each row of H; empty where every row is full.
    root : ndarray, shape (n,)
        ``D^{−½}``.
    weight : ndarray of float32, shape (n,)
        At least the natural residual for a scaled step of one, ``max(1, D) D^{−½}``, relative to its largest entry.
    box : pair of ndarrays, shape (n,)
    z, g : ndarray, shapes (N, n)
        Points inside of the box, and ``H z − q`` there in double precision.
    tol : float
        Natural residual to reach, relative to the same.
    """
    n = len(root)
    work, lanes = np.zeros((5, n), np.float32), np.empty(8, np.float32)
    todo = np.empty(n + 1, np.int64)
    most = 0
    for k in rows:
        scale = _pose(z[k], g[k], box, root, work)
        if not 0.0 < scale < np.inf:
            continue
        # passes over the coordinates whose step is long enough, until the longest is short or they creep
        goal = max(np.float32(0.5 * tol / scale), _FLOOR)
        threshold, mark = goal, np.float32(np.inf)
        for count in range(max_passes):
            _look(work, weight)
            longest = longest_of(work[4], lanes)
            if longest <= goal:
                break
            if count % _LOOK == 0:
                if longest > _PROGRESS * mark:
                    break
                mark = longest
            movers = longer_than(work[4], threshold, todo)
            if movers:
                if len(reach):
                    _pass_of_bands(H, reach, work, todo, movers)
                else:
                    _pass(H, work, todo, movers)
            threshold = max(goal, _SHARE * longest)
            most = max(most, count + 1)
        _apply(z[k], box, root, scale, work)
    return most


@compiled(nogil=True, fastmath=_FAST)
def _pose(z: Float, g: Float, box: tuple[Float, Float], root: Float, work: Single) -> float:
    """Fill e = 0, the scaled gradient and the scaled limits; the scale s, the longest step of a coordinate alone."""
    lower, upper = box
    e, slope, low, high = work[0], work[1], work[2], work[3]
    scale = 0.0
    for j in range(len(z)):
        step = abs(min(max(z[j] - g[j] * root[j] * root[j], lower[j]), upper[j]) - z[j]) / root[j]
        if not step <= scale:
            scale = step
    if scale > 0.0:
        for j in range(len(z)):
            per = 1.0 / (scale * root[j])
            e[j] = 0.0
            slope[j] = g[j] * root[j] / scale
            low[j] = (lower[j] - z[j]) * per
            high[j] = (upper[j] - z[j]) * per
    return scale


@compiled(nogil=True, fastmath=_FAST)
def _look(work: Single, weight: Single) -> None:
    """How far a step alone would move every coordinate, in units of the residual."""
    e, slope, low, high, steps = work[0], work[1], work[2], work[3], work[4]
    for i in range(len(e)):
        steps[i] = abs(min(max(e[i] - slope[i], low[i]), high[i]) - e[i]) * weight[i]


@compiled(nogil=True, fastmath=_FAST)
def _pass(H: Single, work: Single, todo: Index, movers: int) -> None:
    """One pass over the listed coordinates, the scaled gradient kept up to date."""
    e, slope, low, high = work[0], work[1], work[2], work[3]
    todo[movers] = todo[0]  # something to look ahead to at the end
    i = todo[0]
    here = slope[i]
    for c in range(movers):
        row = H[i]
        moved = min(max(e[i] - here, low[i]), high[i])
        step = moved - e[i]
        e[i] = moved
        i = todo[c + 1]
        # the next coordinate's slope from one entry of H: it need not wait for the whole row to be added
        here = slope[i] + step * row[i]
        for j in range(len(slope)):
            slope[j] += step * row[j]


@compiled(nogil=True, fastmath=_FAST)
def _pass_of_bands(H: Single, reach: Index, work: Single, todo: Index, movers: int) -> None:
    """:func:`_pass` on the part of each row that is not zero; apart, as the limits alone cost 15 % of a short row."""
    e, slope, low, high = work[0], work[1], work[2], work[3]
    todo[movers] = todo[0]
    i = todo[0]
    here = slope[i]
    for c in range(movers):
        first, last = reach[i, 0], reach[i, 1]
        row, part = H[i, first:last], slope[first:last]
        moved = min(max(e[i] - here, low[i]), high[i])
        step = moved - e[i]
        e[i] = moved
        after = todo[c + 1]
        here = slope[after] + step * H[i, after]
        i = after
        for j in range(last - first):
            part[j] += step * row[j]


@compiled(nogil=True, fastmath=_FAST)
def _apply(z: Float, box: tuple[Float, Float], root: Float, scale: float, work: Single) -> None:
    """``z + s D^{−½} e``, at a limit exactly where e is at one; nothing where e is not finite."""
    lower, upper = box
    e, low, high = work[0], work[2], work[3]
    for j in range(len(z)):
        if not abs(e[j]) < np.inf:
            return
    for j in range(len(z)):
        if e[j] == low[j]:
            z[j] = lower[j]
        elif e[j] == high[j]:
            z[j] = upper[j]
        else:
            z[j] = min(max(z[j] + scale * root[j] * e[j], lower[j]), upper[j])
