"""Clarabel: an interior-point method, set up once, ``q`` updated; it has no use for a start."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box import Limits
from certnet.solvers.box.tightened import one_by_one

__all__ = ["solve"]


def solve(problem: BoxQP, q: Float, start: Float | None, limits: Limits) -> Float:
    """Activations (N, n). The method is that of Goulart and Chen (2024), one thread.

    Its tolerances are of gap and feasibility: for a natural residual of 1e-6 it is asked for 1e-10 first.
    """
    if len(q) == 0:
        return np.empty_like(q)
    import clarabel

    settings = _settings(clarabel, limits)
    P = scipy.sparse.csc_matrix(np.triu(problem.H))
    A, b, cones = _constraints(clarabel, problem)
    solver = clarabel.DefaultSolver(P, -q[0], A, b, cones, settings)

    def attempt(q: Float, warm: Float | None, tol: float) -> Float:
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
        solver.update(q=-q, settings=settings)
        return np.asarray(solver.solve().x, dtype=np.float64)

    return one_by_one(problem, q, start, limits, attempt, first=max(1e-4 * limits.tol, 1e-12), floor=1e-14)


def _settings(clarabel: Any, limits: Limits) -> Any:
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = limits.max_passes
    settings.time_limit = limits.seconds
    settings.max_threads = 1
    # its equations are badly scaled near the end: with the default refinement it stops early at residuals of 1e-2
    settings.iterative_refinement_reltol = settings.iterative_refinement_abstol = 1e-16
    settings.iterative_refinement_max_iter = 50
    # what makes updating the linear term impossible
    settings.presolve_enable = settings.chordal_decomposition_enable = settings.input_sparse_dropzeros = False
    return settings


def _constraints(clarabel: Any, problem: BoxQP) -> tuple[Any, Float, list[Any]]:
    """``b − A z`` in the cones: equations for units whose box is a point, inequalities for finite limits of others."""
    eye = scipy.sparse.eye(problem.n, format="csr")
    fixed = problem.lower == problem.upper
    below, above = np.isfinite(problem.lower) & ~fixed, np.isfinite(problem.upper) & ~fixed
    A = scipy.sparse.vstack([eye[fixed], -eye[below], eye[above]], format="csc")
    b = np.concatenate([problem.lower[fixed], -problem.lower[below], problem.upper[above]])
    equations, inequalities = int(fixed.sum()), int(below.sum() + above.sum())
    cones = [clarabel.ZeroConeT(equations)] if equations else []
    if inequalities:
        cones.append(clarabel.NonnegativeConeT(inequalities))
    return A, b, cones
