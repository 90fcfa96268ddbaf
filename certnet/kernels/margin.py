r"""The nearest outputs with a margin, and the phase of a lifted network that is drawn to them, compiled.

    K_y = {p : p_y ≥ p_j + m for every j ≠ y},   p_y = u + m,   p_j = min(z_j, u)   nearest to z

with ``u + m − z_y = Σ_{j ≠ y} max(0, z_j − u)``: what is added to the output of the class is taken from its rivals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.kernels.batch import settled
from certnet.kernels.compilation import compiled

__all__ = ["margin_phase", "nearest_with_margin"]


@compiled(nogil=True)
def nearest_with_margin(z: Float, labels: NDArray[np.int64], margin: float, found: Float) -> None:
    """The points of K_y nearest to every row of z (N, m), in ``found``."""
    n = z.shape[1]
    for r in range(len(z)):
        y = labels[r]
        u = z[r, y] - margin
        # rivals above the level pull it up; those that it passes drop out, which leaves the sum less and u rising
        held = -1
        while True:
            total, above = z[r, y] - margin, 0
            for j in range(n):
                if j != y and z[r, j] > u:
                    total += z[r, j]
                    above += 1
            if above == held or above == 0:
                break
            held = above
            u = total / (above + 1)
        for j in range(n):
            found[r, j] = min(z[r, j], u)
        found[r, y] = u + margin


@compiled(nogil=True)
def margin_phase(
    H: Float,
    first: int,
    last: int,
    q: Float,
    labels: NDArray[np.int64],
    margin: float,
    weight: float,
    lower: Float,
    upper: Float,
    z: Float,
    tol: float,
    max_passes: int,
) -> tuple[int, float]:
    """The activations that minimise the energy and ``½ weight · dist²(z_L, K_y)``: hidden units and output in turn.

    The output has no limits, and the multiple μ of the identity as its block of H, as it has without reconstruction.
    It is then, with u the energy's own minimiser, at ``(μ u + weight · Π_K(u)) / (μ + weight)``.

    Parameters
    ----------
    H : ndarray, shape (n, n)
    first, last : int
        Where the layer before the output begins, and where the output does.
    q : ndarray, shape (B, n)
    labels : ndarray of int, shape (B,)
    margin, weight : float
    lower, upper : ndarray, shape (n,)
    z : ndarray, shape (B, n)
        Overwritten.
    tol : float
        Natural residual, of the hidden units and of the output.
    max_passes : int

    Returns
    -------
    passes, residual
        Those of :func:`~certnet.kernels.batch.settled` for the hidden units; the residual is the output's too.
    """
    own = H[last, last]
    if not own > 0.0:
        return -1, np.nan
    H_OA, H_AA = H[last:, first:last].copy(), H[:last, :last].copy()
    target = np.empty((len(q), q.shape[1] - last))
    right = q[:, :last].copy()
    passes, near = 0, np.inf
    for _ in range(max_passes):
        # the energy's minimiser in the output, and between it and its nearest point
        output = (q[:, last:] - np.dot(z[:, first:last].copy(), H_OA.T)) / own
        nearest_with_margin(output, labels, margin, target)
        output += weight / (own + weight) * (target - output)
        if last == 0:
            z[:] = output
            return 0, 0.0
        # the output is at rest now; what its move does to the hidden units is all that is left
        moved = np.abs(np.dot(output - z[:, last:], H_OA)).max()
        z[:, last:] = output
        if near + moved <= tol:
            return passes, near + moved
        right[:, first:] = q[:, first:last] - np.dot(output, H_OA)
        used, near = settled(H_AA, right, lower, upper, z, max(0.5 * tol, 0.1 * moved), max_passes, 0)
        if used < 0:
            return used, near
        passes += used
    return passes, np.inf
