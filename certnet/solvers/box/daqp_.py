"""DAQP: a dual active-set method; its factors are kept for the batch, the linear term alone changes."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from certnet.core.errors import MissingDependencyError
from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box import Limits
from certnet.solvers.box.tightened import one_by_one

__all__ = ["solve"]


def solve(problem: BoxQP, q: Float, start: Float | None, limits: Limits) -> Float:
    """Activations (N, n). The method is that of Arnström, Bemporad and Axehill (2022), one thread; no use for a start.

    Raises
    ------
    MissingDependencyError
        The package daqp is not installed.
    """
    if find_spec("daqp") is None:
        raise MissingDependencyError('the package daqp is not installed: pip install "certnet[qp]"')
    if len(q) == 0:
        return np.empty_like(q)
    import daqp

    model = daqp.Model()
    settings = {**model.settings, "iter_limit": limits.max_passes}
    model.settings = settings
    free_of_rows, sense = np.zeros((0, problem.n)), np.zeros(problem.n, dtype=np.int32)
    flag, _ = model.setup(np.ascontiguousarray(problem.H), -q[0], free_of_rows, problem.upper, problem.lower, sense)

    def attempt(q: Float, warm: Float | None, tol: float) -> Float:
        if tol != settings["primal_tol"]:
            settings["primal_tol"] = tol
            model.settings = settings
        model.update(f=-q)
        z, _, flag, _ = model.solve()
        return np.asarray(z, dtype=np.float64) if flag > 0 else np.full_like(q, np.nan)

    if flag < 0:
        attempt = _nothing
    return one_by_one(problem, q, start, limits, attempt, first=max(1e-3 * limits.tol, 1e-12), floor=1e-14)


def _nothing(q: Float, warm: Float | None, tol: float) -> Float:
    return np.full_like(q, np.nan)
