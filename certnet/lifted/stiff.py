r"""Activations at feedback of any smallness, accurate in every layer.

The energy of layer k is γ^{k−1} times that of the first, so that a natural residual in the units of E says nothing of
the last layers once γ^{L−1} is below it. Here the residual is that of the program scaled layer by layer,

    max | z − Π(z − D (H z − q)) |,    D = γ^{−(k−1)} on layer k,

and systems in H are solved by Cholesky factors ordered from the first layer, the stiffest, to the last: such factors
do not depend on the scaling but through rounding, and lose nothing to the condition number γ^{−(L−1)}.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from certnet.core.errors import SolverError
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box.active_set import finish

__all__ = ["activations_at", "solve_on"]

_TOL: Final = 1e-11
"""Largest scaled residual that is accepted, relative to the activations; rounding alone leaves about 1e-15."""
_STEPS: Final = 50


def activations_at(net: LiftedEnergy, problem: BoxQP, q: Float, start: Float) -> Float:
    """The minimisers (N, n) of the program of ``net``, free or clamped, near rounding accuracy in every layer.

    Newton steps on the set of units that their slope holds at a limit, which end after a few where γ is small; where
    they do not, the active-set method of inference comes first.

    Raises
    ------
    SolverError
        Neither reaches the accuracy, or H is not positive definite to working precision.
    """
    stiffness = np.concatenate([np.full(n, net.gamma**k) for k, n in enumerate(net.widths[1:])])[: problem.n]
    found = np.empty_like(q)
    for i, (row, first) in enumerate(zip(q, start)):
        z, residual = _newton(problem, row, first, stiffness)
        if not residual <= _TOL:
            z, residual = _newton(problem, row, _scaled_finish(problem, row, first, stiffness), stiffness)
        if not residual <= _TOL:
            raise SolverError(
                f"the activations of sample {i} at gamma = {net.gamma:g} are known to {residual:.1e} only: take gamma "
                "nearer to one, or weights of smaller norm"
            )
        found[i] = z
    return found


def solve_on(H: Float, free: NDArray[np.bool_], right: Float) -> Float:
    """``H_FF^{-1} right_F`` on the units ``free``, zero elsewhere.

    Raises
    ------
    SolverError
        H is not positive definite to working precision, or overflowed.
    """
    rows, solution = np.flatnonzero(free), np.zeros(len(free))
    if len(rows):
        try:
            factor = scipy.linalg.cho_factor(H[np.ix_(rows, rows)], lower=True)
        except (np.linalg.LinAlgError, ValueError) as error:  # ValueError: entries that are not finite
            raise SolverError("H is not positive definite to working precision: rescale the weights") from error
        solution[rows] = scipy.linalg.cho_solve(factor, right[rows])
    return solution


def _newton(problem: BoxQP, q: Float, start: Float, stiffness: Float) -> tuple[Float, float]:
    """The best of the points visited, and its scaled residual relative to the activations."""
    H, lower, upper = problem.H, problem.lower, problem.upper
    z = np.clip(start, lower, upper)
    best, least = z, np.inf
    for _ in range(_STEPS):
        aim = z - (H @ z - q) / stiffness
        residual = np.abs(z - np.clip(aim, lower, upper)).max(initial=0.0) / (1.0 + np.abs(z).max(initial=0.0))
        if residual < least:
            best, least = z, float(residual)
        elif least <= _TOL:
            break
        limit = np.clip(aim, lower, upper)
        free = (lower < aim) & (aim < upper)
        held = np.where(free, 0.0, limit)
        z = np.clip(np.where(free, solve_on(H, free, q - H @ held), limit), lower, upper)
    return best, least


def _scaled_finish(problem: BoxQP, q: Float, start: Float, stiffness: Float) -> Float:
    """The active-set method of inference on ``u = √stiffness · z``, whose layers weigh the same."""
    s = 1.0 / np.sqrt(stiffness)
    scaled = BoxQP(problem.H * np.outer(s, s), problem.lower / s, problem.upper / s, problem.layers)
    return np.asarray(finish(scaled, (q * s)[None], (start / s)[None], 1e-15)[0] * s)
