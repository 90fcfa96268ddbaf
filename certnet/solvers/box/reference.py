r"""Coordinate descent as the papers state it, in plain NumPy: to read against the formulas, and to compare others with.

    z_i ← Π_{C_i}( z_i − (H z − q)_i / H_ii )      for i = 1, …, n, again and again

(Zach and Estellers 2019, section 5; Høier and Zach 2020, section 3.3.) Every sample of the batch takes the same steps.
"""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP, natural_residual
from certnet.solvers.box import Limits

__all__ = ["solve"]


def solve(problem: BoxQP, q: Float, start: Float | None, limits: Limits) -> Float:
    """Passes over all units until the largest natural residual of the batch is at most ``tol``."""
    z = np.clip(np.zeros_like(q) if start is None else start, problem.lower, problem.upper)
    for _ in range(limits.max_passes if limits.passes is None else limits.passes):
        sweep(problem, q, z)
        if limits.passes is None and natural_residual(problem, q, z).max(initial=0.0) <= limits.tol:
            break
    return z


def sweep(problem: BoxQP, q: Float, z: Float) -> None:
    """One pass over the units of every sample, in place."""
    H, lower, upper = problem.H, problem.lower, problem.upper
    for i in range(problem.n):
        slope = z @ H[i] - q[:, i]
        z[:, i] = np.clip(z[:, i] - slope / H[i, i], lower[i], upper[i])
