"""ProxQP: a proximal augmented Lagrangian method, dense, set up once, ``q`` updated."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import numpy as np

from certnet.core.errors import MissingDependencyError
from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box import Limits
from certnet.solvers.box.tightened import one_by_one

__all__ = ["solve"]

_FAR: Final = 1e20
"""A limit that ProxQP takes for none."""
_OUTER: Final = 500
_INNER: Final = 50
"""Most steps of the two loops: where a few dozen do not reach the tolerance, as with numbers of 1e9, none do."""


def solve(problem: BoxQP, q: Float, start: Float | None, limits: Limits) -> Float:
    """Activations (N, n). The method is that of Bambade et al. (2022), one thread.

    Every sample starts cold: a start from the result before crashes the process (version 0.8) where there is none.

    Raises
    ------
    MissingDependencyError
        The package proxsuite is not installed.
    """
    if find_spec("proxsuite") is None:
        raise MissingDependencyError('the package proxsuite is not installed: pip install "certnet[qp]"')
    if len(q) == 0:
        return np.empty_like(q)
    from proxsuite import proxqp

    solver = proxqp.dense.QP(problem.n, 0, 0, True)
    solver.settings.eps_rel = 0.0
    # both loops: of the inner one alone 1500 steps are allowed by default, for each of 10 000 outer ones
    solver.settings.max_iter = min(limits.max_passes, _OUTER)
    solver.settings.max_iter_in = min(limits.max_passes, _INNER)
    solver.settings.initial_guess = proxqp.InitialGuess.NO_INITIAL_GUESS
    low, high = np.maximum(problem.lower, -_FAR), np.minimum(problem.upper, _FAR)
    solver.init(problem.H, -q[0], None, None, None, None, None, low, high)

    def attempt(q: Float, warm: Float | None, tol: float) -> Float:
        solver.settings.eps_abs = tol
        solver.update(g=-q)
        solver.solve()
        return np.array(solver.results.x, dtype=np.float64)

    return one_by_one(problem, q, start, limits, attempt, first=0.5 * limits.tol, floor=1e-13)
