r"""Where an interior-point method begins: in the middle of the cones, primal and dual feasible.

The network itself lies on the edge of its cell, from which such a method crawls; all that is taken from it is a point
strictly inside each cone, from which Newton's method goes to the centre.
"""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.solvers.maps import DataMaps
from certnet.solvers.watch import Watch
from certnet.solvers.whitened import Whitened

__all__ = ["balanced_weights", "centred"]

_STEPS = 60  # of Newton's method
_NEAR = 0.3  # Newton decrement at which a point is near enough to the centre


def centred(data: Whitened, maps: DataMaps, metric: Float, watch: Watch) -> Float:
    """Points near the centres of the cones, ``min − Σ_i log s_ij + (n/2) u_jᵀ M u_j``, (h, p).

    M is ``metric`` (p, p), over the root of its largest eigenvalue. Where the watch has a verdict the points so far
    are returned: inside, but not near the centres.
    """
    n_cone, n = data.n_cone, len(data.X)
    metric = metric * (n / np.sqrt(np.linalg.norm(metric, 2)))
    U, s, ds = data.start.copy(), np.empty((n, n_cone)), np.empty((n, n_cone))
    nothing = np.zeros_like(data.targets)
    for _ in range(_STEPS):
        if watch.verdict is not None:
            break
        # gradient M u − Σ S x̃ / s, Hessian M + Σ x̃ x̃ᵀ / s², and Newton's step of every unit
        maps.forward(U, s)
        inverse = 1.0 / s
        gradient = U[:n_cone] @ metric + maps.adjoint(nothing, inverse)[:n_cone]
        hessian = maps.curvature(inverse**2) + metric
        move = -np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        decrement = np.sqrt(np.maximum(0.0, -np.sum(move * gradient, axis=1)))
        # its length: damped while far off, nine tenths of the way to the edge where that is longer
        full = np.zeros_like(U)
        full[:n_cone] = move
        maps.forward(full, ds)
        room = 0.9 / np.maximum(1e-12, np.max(-ds / s, axis=0))
        length = np.where(decrement > _NEAR, 1.0 / (1.0 + decrement), 1.0)
        length = np.minimum(1.0, np.maximum(length, np.minimum(room, 1.0)))
        U[:n_cone] += length[:, None] * move
        if not decrement.max(initial=0.0) > _NEAR:
            break
    return U


def balanced_weights(data: Whitened, s: Float) -> Float:
    """Factors of ``1 / s_ij``, (n, n_cone): one, or where biases are free what makes ``Σ_i S_ij f_ij / s_ij`` zero."""
    if not data.program.penalty.free_biases:
        return np.ones_like(s)
    on = data.pattern == 1
    above, below = np.sum(on / s, axis=0), np.sum(~on / s, axis=0)
    return np.where(on, np.sqrt(below / above), np.sqrt(above / below))
