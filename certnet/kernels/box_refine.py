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
from certnet.kernels.box_descent import descend, fill_gradient, longer_than, residual_of
from certnet.kernels.compilation import compiled

__all__ = ["Single", "correct", "refine"]

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
        most = max(most, _correct_one(H, reach, root, weight, box, z[k], g[k], tol, max_passes, work, lanes, todo))
    return most


@compiled(nogil=True, fastmath=_FAST)
def refine(
    H: Float, q: Float, box: tuple[Float, Float], z: Float, g: Float, tol: float, max_passes: int
) -> tuple[int, float]:
    """Every sample until its natural residual, in double precision, is at most ``tol``: rounds of correction.

    What rounds no longer bring forward is finished by passes in double precision.

    Parameters
    ----------
    H : ndarray, shape (n, n)
        Symmetric positive definite, in double precision.
    q : ndarray, shape (N, n)
    box : pair of ndarrays, shape (n,)
    z, g : ndarray, shape (N, n)
        Points inside of the box, and ``H z − q``; both are overwritten.
    tol : float
    max_passes : int
        Limit for each sample.

    Returns
    -------
    passes : int
        Sum over the samples; −1 where the diagonal of H has no scale.
    residual : float
        The largest ``max |z − Π(z − g)|`` of a sample.
    """
    n, N = len(H), len(q)
    lower, upper = box
    if n == 0:
        return 0, 0.0
    root, weight, single = np.empty(n), np.empty(n, np.float32), np.empty((n, n), np.float32)
    top = _scaled(H, root, weight, single)
    if not top > 0.0:
        return -1, np.nan
    reach = np.empty((0, 2), np.int64)
    work, lanes, todo = np.zeros((5, n), np.float32), np.empty(8, np.float32), np.empty(n + 1, np.int64)
    residual, taken, going = np.empty(N), np.zeros(N, np.int64), np.zeros(N, np.bool_)
    left = 0
    for k in range(N):
        residual[k] = residual_of(z[k], g[k], lower, upper)
        going[k] = not residual[k] <= tol
        left += going[k]
    while left:
        for k in range(N):
            if going[k]:
                most = max_passes - taken[k]
                given = single, reach, root, weight, box, z[k], g[k], tol / top, most, work, lanes, todo
                taken[k] += _correct_one(*given)
        g[:] = np.dot(z, H)
        left = 0
        for k in range(N):
            for j in range(n):
                g[k, j] -= q[k, j]
            if going[k]:
                before = residual[k]
                residual[k] = residual_of(z[k], g[k], lower, upper)
                going[k] = tol < residual[k] and residual[k] < 0.5 * before and taken[k] < max_passes
                left += going[k]
    worst = 0.0
    for k in range(N):
        if not residual[k] <= tol and taken[k] < max_passes:
            here = slice(k, k + 1)
            more, residual[k] = descend(H, q[here], lower, upper, z[here], tol, max_passes - taken[k])
            taken[k] += more
            fill_gradient(H, q[k], z[k], g[k])
        if not residual[k] <= worst:
            worst = residual[k]
    return taken.sum(), worst


@compiled(nogil=True, fastmath=_FAST)
def _scaled(H: Float, root: Float, weight: Single, single: Single) -> float:
    """``D^{−½}``, weights relative to their largest, and ``D^{−½} H D^{−½}``; the largest weight, or not a number."""
    n = len(H)
    top = 0.0
    for i in range(n):
        if not H[i, i] > 0.0:
            return np.nan
        root[i] = 1.0 / np.sqrt(H[i, i])
        top = max(top, max(1.0, H[i, i]) * root[i])
    if not 0.0 < top < np.inf:
        return np.nan
    for i in range(n):
        weight[i] = max(1.0, H[i, i]) * root[i] / top
        for j in range(n):
            single[i, j] = H[i, j] * (root[i] * root[j])
    return top


@compiled(nogil=True, fastmath=_FAST)
def _correct_one(
    H: Single,
    reach: Index,
    root: Float,
    weight: Single,
    box: tuple[Float, Float],
    z: Float,
    g: Float,
    tol: float,
    max_passes: int,
    work: Single,
    lanes: Single,
    todo: Index,
) -> int:
    """Move one sample, in place; the passes that it took."""
    scale = _pose(z, g, box, root, work)
    if not 0.0 < scale < np.inf:
        return 0
    # passes over the coordinates whose step is long enough, until the longest is short or they creep
    goal = max(np.float32(0.5 * tol / scale), _FLOOR)
    threshold, mark = goal, np.float32(np.inf)
    taken = 0
    for count in range(max_passes):
        _look(work, weight)
        longest = _longest(work[4], lanes)
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
        taken = count + 1
    _apply(z, box, root, scale, work)
    return taken


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
def _longest(steps: Single, lanes: Single) -> np.float32:
    """The largest of numbers that are not negative; their bits are in the same order, and their maximum vectorises."""
    bits, top = steps.view(np.int32), np.int32(0)
    for i in range(len(bits)):
        top = max(top, bits[i])
    lanes.view(np.int32)[0] = top
    return lanes[0]


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
