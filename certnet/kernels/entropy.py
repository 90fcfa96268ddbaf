r"""The phase of a lifted network whose output pays the cross-entropy, compiled: hidden units and output in turn.

    min_z  ½ zᵀ H z − qᵀ z + weight · ( log Σ_j exp z_Lj − yᵀ z_L )

The output has no limits and the multiple μ of the identity as its block of H. With the hidden units held it is the
minimiser of ``½ μ ‖z − u‖² + weight · ℓ(z)``, by Newton steps whose matrix is diagonal but for one rank:

    (D − w p pᵀ)⁻¹ g = D⁻¹ g + D⁻¹ p · w pᵀ D⁻¹ g / (1 − w pᵀ D⁻¹ p),   D = diag(μ + w p),   p = softmax(z)
"""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.kernels.batch import settled
from certnet.kernels.compilation import compiled

__all__ = ["entropy_phase", "nearest_by_entropy"]


@compiled(nogil=True)
def _softmax(z: Float, p: Float) -> float:
    """Fill p, and return ``log Σ_j exp z_j``."""
    top = z.max()
    total = 0.0
    for j in range(len(z)):
        p[j] = np.exp(z[j] - top)
        total += p[j]
    for j in range(len(z)):
        p[j] /= total
    return top + np.log(total)


@compiled(nogil=True)
def nearest_by_entropy(u: Float, y: Float, own: float, weight: float, tol: float, z: Float) -> None:
    """``argmin ½ own ‖z − u‖² + weight (log Σ exp z_j − yᵀ z)`` for every row, from z and in place.

    Parameters
    ----------
    u, y, z : ndarray, shape (N, m)
        Rows of y are probabilities.
    own, weight : float
        Positive.
    tol : float
        The largest entry of the gradient that may be left.
    """
    m = u.shape[1]
    p, g, d, trial = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    for r in range(len(u)):
        logs = _softmax(z[r], p)
        for _ in range(100):
            worst, along, turned = 0.0, 0.0, 1.0
            for j in range(m):
                g[j] = own * (z[r, j] - u[r, j]) + weight * (p[j] - y[r, j])
                worst = max(worst, abs(g[j]))
                scale = own + weight * p[j]
                d[j] = g[j] / scale
                along += p[j] * d[j]
                turned -= weight * p[j] * p[j] / scale
            if not worst > tol:
                break
            promised = 0.0
            for j in range(m):
                d[j] += p[j] / (own + weight * p[j]) * weight * along / turned
                promised += g[j] * d[j]
            # the longest step of 1, ½, ¼ … that falls enough; near the end, where values are rounded, the whole step
            length, moved = 1.0, False
            while length > 1e-10:
                fall = 0.0
                for j in range(m):
                    trial[j] = z[r, j] - length * d[j]
                    fall += (trial[j] - z[r, j]) * (0.5 * own * (trial[j] + z[r, j] - 2.0 * u[r, j]) - weight * y[r, j])
                after = _softmax(trial, p)
                fall += weight * (after - logs)
                noise = 1e-15 * weight * (abs(after) + abs(logs) + 1.0)
                if fall <= noise - 0.1 * length * promised or promised <= noise:
                    moved = True
                    logs = after
                    for j in range(m):
                        z[r, j] = trial[j]
                    break
                length *= 0.5
            if not moved:
                break


@compiled(nogil=True)
def entropy_phase(
    H: Float,
    first: int,
    last: int,
    q: Float,
    y: Float,
    weight: float,
    lower: Float,
    upper: Float,
    z: Float,
    tol: float,
    max_passes: int,
) -> tuple[int, float]:
    """The activations that minimise the energy and ``weight`` times the cross-entropy.

    Parameters
    ----------
    H : ndarray, shape (n, n)
    first, last : int
        Where the layer before the output begins, and where the output does.
    q : ndarray, shape (B, n)
    y : ndarray, shape (B, n_L)
        Probabilities.
    weight : float
    lower, upper : ndarray, shape (n,)
    z : ndarray, shape (B, n)
        Where to start; overwritten.
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
    right = q[:, :last].copy()
    output = z[:, last:].copy()
    passes, near = 0, np.inf
    for _ in range(max_passes):
        u = (q[:, last:] - np.dot(z[:, first:last].copy(), H_OA.T)) / own
        nearest_by_entropy(u, y, own, weight, 0.1 * tol, output)
        # the output is at rest now; what its move does to the hidden units is all that is left
        moved = np.abs(np.dot(output - z[:, last:], H_OA)).max() if last else 0.0
        z[:, last:] = output
        if last == 0:
            return 0, 0.1 * tol
        if near + moved <= tol:
            return passes, near + moved
        right[:, first:] = q[:, first:last] - np.dot(output, H_OA)
        used, near = settled(H_AA, right, lower, upper, z, max(0.5 * tol, 0.1 * moved), max_passes, 0)
        if used < 0:
            return used, near
        passes += used
    return passes, np.inf
