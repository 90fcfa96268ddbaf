r"""Where a limit on the slope is slack: of the points that fit as well, the flattest.

Many points of a cell may have the least error within ``ρ ≤ limit²``; a solver returns any of them, with a slope
anywhere below the limit. What a user wants is the least ρ among them: a second program, ``min ρ`` subject to
``fit ≤ least fit`` up to a part of it that nobody can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from certnet.core.outcome import Status
from certnet.programs.goal import FitAtMost, SlopeAtMost
from certnet.programs.penalties import LipschitzPenalty
from certnet.programs.restriction import Restriction
from certnet.solvers.solved import Solved

__all__ = ["flattened"]

_FLOOR = 1e-6  # of the constant network's error: gaps are relative to no less
_TRIAL = 1e-4  # of the inputs' variance: the first weight that is tried
_BINDING = 1e-3  # of the fit, that the limit's multiplier times the limit has to be for the limit to bind
_NEAR = 0.99  # of limit², where there is no multiplier


def flattened(
    program: Restriction, solved: Solved, search: Callable[[Restriction], Solved], tol: float = 1e-6
) -> Solved:
    """The solution, or where the limit on the slope is slack the flattest one that fits as well.

    Parameters
    ----------
    program : Restriction
    solved : Solved
        Its solution.
    search : callable
        Solves the same restriction with a limit on the fit; what it does not solve is left as it was.
    tol : float
        Relative gap within which fits are as good as each other.
    """
    goal, solution = program.goal, solved.solution
    if not isinstance(goal, SlopeAtMost) or not isinstance(program.penalty, LipschitzPenalty):
        return solved
    if solution is None or not solved.status.ok or not goal.rho > 0.0 or not (solution.rho or 0.0) > 0.0:
        return solved
    flat = program.constant()
    constant = program.fit(flat.U, flat.c)
    least = program.fit(solution.U, solution.c)
    size = max(least, _FLOOR * constant)
    if _binds(goal, solved, size):
        return solved
    lower = solved.lower if np.isfinite(solved.lower) else least
    budget = float(max(least, lower + 0.9 * tol * size))
    variance = float(program.shares @ np.sum((program.rows - program.shares @ program.rows) ** 2, axis=1))
    trial = _TRIAL * variance * float(np.sqrt(size / constant))  # the weight of ρ is in units of it
    found = search(replace(program, goal=FitAtMost(budget, trial)))
    if found.status is Status.INTERRUPTED:
        return replace(solved, status=found.status, solver_status=found.solver_status)
    flatter = found.solution
    if flatter is None or flatter.rho is None or not flatter.rho < (solution.rho or 0.0):
        return solved
    value = program.fit(flatter.U, flatter.c)
    if not value <= budget:
        return solved
    return replace(
        solved,
        solution=flatter,
        solver_status=f"{solved.solver_status}; the limit is slack: the flattest of the best fits",
        residuals=found.residuals,
        value=value,
        gap=(value - solved.lower) / size if np.isfinite(solved.gap) else solved.gap,
        seconds=solved.seconds + found.seconds,
        steps=solved.steps + found.steps,
    )


def _binds(goal: SlopeAtMost, solved: Solved, fit: float) -> bool:
    """Whether a slope below the limit costs error: by the limit's multiplier, tr P, or by where the solution lies."""
    if solved.dual is None or solved.dual.corner is None:
        return solved.solution is not None and (solved.solution.rho or 0.0) > _NEAR * goal.rho
    return float(solved.dual.corner.trace()) * goal.rho > _BINDING * fit
