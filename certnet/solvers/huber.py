r"""Huber's loss by rounds of the squared one: ``φ(r) = min_s (r − s)² + 2 δ |s|``.

For fixed shifts s the program is the squared one with targets ``y + s``; for fixed residuals the best shift is what
they exceed the threshold by. Alternating never raises the objective. The duals of a round are a dual point of the
program itself where no residual is beyond the threshold (:mod:`certnet.solvers.dual_bound`): each round has a gap.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from certnet.core.errors import SolverUnavailableError
from certnet.core.outcome import Residuals, Status
from certnet.core.validation import Float
from certnet.programs.goal import FitAtMost
from certnet.programs.loss import SQUARED, Huber
from certnet.programs.restriction import Restriction
from certnet.solvers.dual_bound import lower_bound
from certnet.solvers.interior import InteriorPoint
from certnet.solvers.solved import Point, Solved
from certnet.solvers.watch import UNWATCHED, Watch

__all__ = ["HuberRounds"]

_MAX_ROUNDS = 40
_FIRST = 1e-2  # relative gap of the first round
_FLOOR = 1e-6  # of the constant network's objective: gaps are relative to no less
_AHEAD = 1.6  # of the change of the shifts, from the second round on


@dataclass(frozen=True)
class HuberRounds:
    """The method, for a weight or a limit on the slope.

    Attributes
    ----------
    tol : float
        Relative gap, recomputed from the data.
    """

    tol: float = 1e-6

    def solve(self, program: Restriction, *, start: Point | None = None, watch: Watch = UNWATCHED) -> Solved:
        """Solve a restriction whose loss is Huber's; see :meth:`certnet.solvers.interior.InteriorPoint.solve`.

        Raises
        ------
        SolverUnavailableError
            The loss is another one, or the goal is a limit on the fit.
        """
        loss = program.loss
        if not isinstance(loss, Huber) or isinstance(program.goal, FitAtMost):
            raise SolverUnavailableError("rounds are for Huber's loss with a weight or a limit on the slope")
        begin = time.perf_counter()
        flat = program.constant()
        constant = program.fit(flat.U, flat.c)
        shifts = np.zeros_like(program.targets)
        best: Solved | None = None
        lower, steps, gap = 0.0, 0, np.inf
        for number in range(_MAX_ROUNDS):
            squared = replace(program, targets=program.targets + shifts, loss=SQUARED)
            inner = InteriorPoint(float(np.clip(0.1 * gap, 0.2 * self.tol, _FIRST)))
            solved = inner.solve(squared, start=start, watch=watch)
            steps += solved.steps
            if solved.solution is None:
                break
            value = program.objective(solved.solution)
            if solved.dual is not None:
                inside = np.clip(solved.dual.residual, -loss.threshold, loss.threshold)
                for residual in (solved.dual.residual, inside):
                    lower = max(lower, lower_bound(program, replace(solved.dual, residual=residual)))
            if best is None or value < best.value:
                best = replace(solved, value=value)
            gap = (best.value - lower) / max(best.value, _FLOOR * constant)
            if gap <= self.tol or solved.status in (Status.TIME_LIMIT, Status.INTERRUPTED):
                break
            wanted = loss.excess(_residuals(program, solved))
            shifts = shifts + (_AHEAD if number else 1.0) * (wanted - shifts)
            shifts = np.where(shifts * wanted > 0.0, shifts, 0.0)
        if best is None:
            best = solved
        elif not solved.status.ok:  # the end of the time, an interrupt, or what went wrong at last
            best = replace(best, status=solved.status, solver_status=solved.solver_status)
        return self._reported(program, best, (lower, steps, gap), time.perf_counter() - begin)

    def _reported(self, program: Restriction, best: Solved, known: tuple[float, int, float], seconds: float) -> Solved:
        """The best point with what is known about the program itself."""
        lower, steps, gap = known
        if best.solution is None:
            return replace(best, seconds=seconds, steps=steps)
        status, word = best.status, best.solver_status
        if gap <= self.tol:
            status, word = Status.OPTIMAL, "converged"
        elif status.ok:
            status, word = Status.MAX_ITERATIONS, "the rounds of Huber's loss ended before their gap closed"
        residuals = Residuals(program.cell_violation(best.solution.U), 0.0)
        return replace(
            best,
            status=status,
            solver_status=word,
            residuals=residuals,
            seconds=seconds,
            lower=lower,
            gap=gap,
            steps=steps,
        )


def _residuals(program: Restriction, solved: Solved) -> Float:
    out = np.empty_like(program.targets)
    if solved.solution is not None:
        for chunk in program.chunks():
            out[chunk.at] = program.residual(chunk, solved.solution.U, solved.solution.c)
    return out
