r"""Where an interior-point method begins: in the middle of the cones, primal and dual feasible.

The network itself lies on the edge of its cell, from which such a method crawls; all that is taken from it is a point
strictly inside each cone, from which Newton's method goes to the centre.
"""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.solvers.maps import DataMaps
from certnet.solvers.slope_rows import SlopeRows
from certnet.solvers.watch import Watch
from certnet.solvers.whitened import Whitened

__all__ = ["balanced_weights", "centred"]

_STEPS = 60  # of Newton's method
_NEAR = 0.3  # Newton decrement at which a point is near enough to the centre


def centred(data: Whitened, maps: DataMaps, metric: Float, watch: Watch) -> Float:
    """Points near the centres of the cones, ``min − Σ_i log s_ij + (n/2) u_jᵀ M u_j``, (h, p).

    M is ``metric`` (p, p), over the root of its largest eigenvalue. Signs of slopes are inequalities like the others;
    where there are some, units without other inequalities have a centre too, else they stay at zero. Where the watch
    has a verdict the points so far are returned: inside, but not near the centres.
    """
    n_cone, n = data.n_cone, len(data.X)
    metric = metric * (n / np.sqrt(np.linalg.norm(metric, 2)))
    U, s, ds = data.start.copy(), np.empty((n, n_cone)), np.empty((n, n_cone))
    rows = None if data.program.slopes is None else SlopeRows.of(data)
    used = n_cone if rows is None else len(U)
    nothing = np.zeros_like(data.targets)
    for _ in range(_STEPS):
        if watch.verdict is not None:
            break
        # gradient M u − Σ S x̃ / s, Hessian M + Σ x̃ x̃ᵀ / s², and Newton's step of every unit
        maps.forward(U, s)
        inverse = 1.0 / s
        gradient = U[:used] @ metric
        gradient[:n_cone] += maps.adjoint(nothing, inverse)[:n_cone]
        hessian = np.repeat(metric[None], used, axis=0)
        hessian[:n_cone] += maps.curvature(inverse**2)
        if rows is not None:
            slopes, limited = rows.slopes(U[:, :-1])
            gradient[:, :-1] -= rows.pulled(1.0 / slopes, 0.0 * limited)
            rows.add(hessian, slopes**-2.0, 0.0 * limited)
            gradient[n_cone:, -1], hessian[n_cone:, -1, -1] = 0.0, 1.0
        move = -np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        decrement = np.sqrt(np.maximum(0.0, -np.sum(move * gradient, axis=1)))
        # its length: damped while far off, nine tenths of the way to the edge where that is longer
        full = np.zeros_like(U)
        full[:used] = move
        maps.forward(full, ds)
        nearing = np.full(used, 1e-12)
        nearing[:n_cone] = np.maximum(nearing[:n_cone], np.max(-ds / s, axis=0))
        if rows is not None:
            nearing = np.maximum(nearing, np.max(-rows.slopes(full[:, :-1])[0] / slopes, axis=0, initial=1e-12))
        room = 0.9 / nearing
        length = np.where(decrement > _NEAR, 1.0 / (1.0 + decrement), 1.0)
        length = np.minimum(np.minimum(1.0, room), np.maximum(length, np.minimum(room, 1.0)))
        U[:used] += length[:, None] * move
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
