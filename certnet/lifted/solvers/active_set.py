r"""Active-set Newton steps: from a point near the solution to rounding accuracy, one sample at a time.

With A the units at a limit whose multiplier has the right sign and F the others, ``H_FF z_F = q_F − H_FA z_A`` is the
minimiser on that face. Steps are cut back along the projection arc until the objective falls (Bertsekas 1982).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from certnet.lifted.qp import BoxQP
from certnet.validation import Float

__all__ = ["finish"]

_MAX_STEPS = 200


def finish(problem: BoxQP, q: Float, z: Float, tol: float) -> Float:
    """Activations (N, n) with natural residual at most ``tol``, or as near as rounding and 200 steps allow."""
    return np.array([_finish_one(problem, row, start, tol) for row, start in zip(q, z)]).reshape(z.shape)


def _finish_one(problem: BoxQP, q: Float, start: Float, tol: float) -> Float:
    H, lower, upper = problem.H, problem.lower, problem.upper
    z = np.clip(np.nan_to_num(start), lower, upper)
    for _ in range(_MAX_STEPS):
        slope = H @ z - q
        distance = np.abs(z - np.clip(z - slope, lower, upper))
        residual = distance.max()
        if residual <= 0.1 * tol:
            break
        # units that sit at a limit and are pushed against it stay there; those within a residual of it count as there
        near = min(residual, 1e-3)
        held = ((z <= lower + near) & (slope > 0.0)) | ((z >= upper - near) & (slope < 0.0))
        target = np.where(held, np.where(slope > 0.0, lower, upper), z)
        free = ~held
        if free.any():
            right = q[free] - H[np.ix_(free, held)] @ target[held]
            try:
                target[free] = scipy.linalg.solve(H[np.ix_(free, free)], right, assume_a="pos", check_finite=False)
            except np.linalg.LinAlgError:
                break
        moved = _search(problem, q, z, target - z, slope)
        if moved is None:
            break
        z = moved
    return z


def _search(problem: BoxQP, q: Float, z: Float, direction: Float, slope: Float) -> Float | None:
    """The projected point with the longest step of 1, ½, ¼ … whose objective falls; None where none does."""
    length = 1.0
    for _ in range(40):
        moved = np.clip(z + length * direction, problem.lower, problem.upper)
        change = moved - z
        if change @ (slope + 0.5 * (problem.H @ change)) < 0.0:
            return moved
        length *= 0.5
    return None
