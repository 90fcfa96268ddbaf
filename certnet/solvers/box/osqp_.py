"""OSQP: set up once for the batch, ``q`` updated, each sample started from the one before."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box import Limits
from certnet.solvers.box.tightened import one_by_one

__all__ = ["solve"]

_POLISH_BELOW = 1e-8
_LONG = 1e10  # seconds: OSQP's own "no limit"


def solve(problem: BoxQP, q: Float, start: Float | None, limits: Limits) -> Float:
    """Activations (N, n). The method is that of Stellato et al. (2020), one thread.

    The settings were the quickest of a grid on 784-64-64-10 and 784-256-256-10 with random weights: the penalty looked
    at every 10 steps and changed by factors from 3, units without limits left out of the constraints. Polishing costs a
    factorisation per sample, and pays where the tolerance is below 1e-8.
    """
    if len(q) == 0:
        return np.empty_like(q)
    import osqp

    limited = np.isfinite(problem.lower) | np.isfinite(problem.upper)
    A = scipy.sparse.eye(problem.n, format="csr")[limited].tocsc()
    solver = osqp.OSQP()
    solver.setup(
        scipy.sparse.csc_matrix(np.triu(problem.H)),
        -q[0],
        A,
        problem.lower[limited],
        problem.upper[limited],
        verbose=False,
        eps_rel=0.0,
        max_iter=limits.max_passes,
        time_limit=min(limits.seconds, _LONG),
        check_termination=10,
        adaptive_rho_interval=10,
        adaptive_rho_tolerance=3.0,
        polishing=limits.tol < _POLISH_BELOW,
    )

    asked = np.nan

    def attempt(q: Float, warm: Float | None, tol: float) -> Float:
        nonlocal asked
        solver.update(q=-q)
        if tol != asked:  # a change of settings is not free
            solver.update_settings(eps_abs=tol)
            asked = tol
        if warm is not None:
            solver.warm_start(x=warm)
        z = np.asarray(solver.solve(raise_error=False).x, dtype=np.float64)
        return z if z.shape == q.shape else np.full_like(q, np.nan)

    return one_by_one(problem, q, start, limits, attempt, first=0.5 * limits.tol, floor=1e-13)
