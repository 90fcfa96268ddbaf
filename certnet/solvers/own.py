"""certnet's own solver: for every goal the method that serves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np

from certnet.core.errors import CertnetError
from certnet.core.outcome import Status
from certnet.programs.goal import FitAtMost, Goal, SlopeAtMost, Weighted
from certnet.programs.loss import Huber
from certnet.programs.restriction import Restriction
from certnet.solvers.budget import BudgetSearch
from certnet.solvers.estimate import Size, own_estimate, unfit
from certnet.solvers.flattest import flattened
from certnet.solvers.huber import HuberRounds
from certnet.solvers.interior import InteriorPoint
from certnet.solvers.solved import Point, Solved
from certnet.solvers.watch import UNWATCHED, Watch

__all__ = ["OwnSolver"]

_FLAT = 1e-2  # relative gap of ρ, where a limit is slack and the flattest of the best fits is looked for
_FLAT_PROGRAMS = 8  # of that search

_METHODS: Final[Mapping[type[Goal], type[InteriorPoint] | type[BudgetSearch]]] = MappingProxyType(
    {Weighted: InteriorPoint, SlopeAtMost: InteriorPoint, FitAtMost: BudgetSearch}
)


@dataclass(frozen=True)
class OwnSolver:
    """The own methods; whatever goes wrong inside is a status.

    Attributes
    ----------
    tol : float
        Relative duality gap, recomputed from the data.
    margin : float
        Relative to a limit on the fit: rounding, from which the solver keeps away.
    """

    tol: float = 1e-6
    margin: float = 1e-12

    def objection(self, program: Restriction, seconds: float = np.inf) -> str | None:
        """See :class:`~certnet.solvers.solved.Solver`."""
        if program.slopes is not None and (program.slopes.lower == program.slopes.upper).any():
            where = int(np.argmax(program.slopes.lower == program.slopes.upper))
            return f"feature {where} may neither rise nor fall: leave it out of X, or take CLARABEL"
        if isinstance(program.loss, Huber) and isinstance(program.goal, FitAtMost):
            return "certnet's own solver keeps no limit on Huber's loss: give a weight, or take CLARABEL"
        return unfit("certnet's own solver", Size.of(program), own_estimate, seconds)

    def solve(self, program: Restriction, *, start: Point | None = None, watch: Watch = UNWATCHED) -> Solved:
        """See :class:`~certnet.solvers.solved.Solver`."""
        objection = self.objection(program)
        if objection is not None:
            return Solved(None, Status.SOLVER_FAILED, objection)
        kind = HuberRounds if isinstance(program.loss, Huber) else _METHODS[type(program.goal)]
        method = kind(self.tol)
        if isinstance(program.goal, FitAtMost):
            goal = replace(program.goal, limit=program.goal.limit * (1.0 - self.margin))
            program = replace(program, goal=goal)
        try:
            with np.errstate(all="ignore"):  # what overflows shows in the gap
                solved = method.solve(program, start=start, watch=watch)
                if isinstance(program.loss, Huber):
                    return solved
                if isinstance(program.goal, SlopeAtMost) and not solved.status.ok:
                    solved = self._unlimited(program, solved, start, watch)
                search = partial(BudgetSearch(_FLAT, _FLAT_PROGRAMS).solve, start=start, watch=watch)
                return flattened(program, solved, search, self.tol)
        except (ArithmeticError, np.linalg.LinAlgError, CertnetError) as error:
            return Solved(None, Status.SOLVER_FAILED, f"{type(error).__name__}: {error}")

    def _unlimited(self, program: Restriction, solved: Solved, start: Point | None, watch: Watch) -> Solved:
        """The solution without a limit on the slope, where that is within it: limits far beyond it scale badly."""
        if watch.verdict is not None:
            return solved
        free = InteriorPoint(self.tol).solve(replace(program, goal=Weighted(0.0)), start=start, watch=watch)
        rho = None if free.solution is None else free.solution.rho
        within = rho is not None and program.goal.met(0.0, float(np.sqrt(rho)))
        return replace(free, dual=None) if within and free.status.ok else solved
