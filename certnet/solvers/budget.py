r"""The smallest certified ρ with a mean squared error within a budget, through the weights of the penalised program.

Its dual is ``max_λ (φ(λ) − budget) / λ`` with ``φ(λ) = min fit + λ ρ``: each weight bounds the optimum from below, and
where the budget lies between the errors of two solutions, a point between them meets it exactly.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from certnet.core.errors import SolverUnavailableError
from certnet.core.outcome import Residuals, Status
from certnet.core.validation import Float
from certnet.programs.goal import FitAtMost, Weighted
from certnet.programs.penalties import LipschitzPenalty
from certnet.programs.restriction import Restriction, Solution
from certnet.solvers.interior import InteriorPoint
from certnet.solvers.solved import Point, Solved
from certnet.solvers.watch import UNWATCHED, Watch

__all__ = ["BudgetSearch"]


@dataclass(frozen=True, eq=False)
class _Trial:
    weight: float
    solution: Solution
    mse: float
    lower: float

    @property
    def charged(self) -> float:
        """The penalty's part of the objective."""
        return self.weight * float(self.solution.rho or 0.0)


@dataclass(frozen=True)
class BudgetSearch:
    """The least ρ within an error budget, by an interior-point method for every weight that is tried.

    Attributes
    ----------
    tol : float
        Relative gap of ρ.
    max_programs : int
        Weights that are tried at most.
    """

    tol: float = 1e-6
    max_programs: int = 60

    def solve(self, program: Restriction, *, start: Point | None = None, watch: Watch = UNWATCHED) -> Solved:
        """Minimise ρ over the cell subject to a limit on the fit.

        ``value``, ``lower`` and ``gap`` are of ρ. The status is ``SOLVER_FAILED``, and there is no solution, where no
        point of the cell meets the budget. ``start`` and ``watch`` are handed on to
        :meth:`certnet.solvers.interior.InteriorPoint.solve`.

        Raises
        ------
        SolverUnavailableError
            The goal is no limit on the fit, or the penalty is not the Lipschitz penalty.
        """
        if not isinstance(program.penalty, LipschitzPenalty) or not isinstance(program.goal, FitAtMost):
            raise SolverUnavailableError("an error budget needs the Lipschitz penalty")
        return _Search(program, program.goal, self, start).run(watch)


class _Search:
    """Weights on both sides of the one whose solution meets the budget."""

    def __init__(self, program: Restriction, goal: FitAtMost, how: BudgetSearch, start: Point | None) -> None:
        self._begin = time.perf_counter()
        self._program, self._goal, self._start = program, goal, start
        self._tol, self._max_programs = how.tol, how.max_programs
        self._below: _Trial | None = None
        self._above: _Trial | None = None
        self._lower, self._steps, self._part = 0.0, 0, 1.0
        self._turn = False

    def run(self, watch: Watch) -> Solved:
        flat = self._program.constant()
        level = self._program.fit(flat.U, flat.c)
        if level <= self._goal.limit:
            return self._solved(flat, Status.OPTIMAL, "the constant network", 0.0)
        weight = self._goal.trial or 1e-2 * level / max(self._scale(), 1e-300)
        status, word = Status.MAX_ITERATIONS, ""
        for _ in range(self._max_programs):
            if watch.expired:
                status = Status.TIME_LIMIT
                break
            solved = self._try(weight, watch)
            if solved.status is Status.INTERRUPTED:
                best, rho = self._between()
                return self._solved(best or solved.solution, Status.INTERRUPTED, solved.solver_status, rho)
            if solved.status is Status.TIME_LIMIT:
                status, word = Status.TIME_LIMIT, solved.solver_status
                break
            if solved.solution is None or not solved.gap < 1e-2:
                status, word = Status.INACCURATE, "a program of the search was not solved"
                break
            if self._below is None and self._above is not None and self._above.lower > self._goal.limit:
                # the penalty is charged next to nothing, and the error is still above the budget
                least = self._above.lower - self._above.charged
                if self._above.charged < 1e-7 * level:
                    word = f"no network of the cell has a mean squared error below {least:.6g}"
                    return self._solved(None, Status.SOLVER_FAILED, word, np.inf)
            best, rho = self._between()
            if best is not None and rho - self._lower <= self._tol * rho:
                return self._solved(best, Status.OPTIMAL, "converged", rho)
            weight = self._next()
        best, rho = self._between()
        failed = best is None and status is not Status.TIME_LIMIT
        return self._solved(best, Status.SOLVER_FAILED if failed else status, word, rho)

    def _scale(self) -> float:
        """A squared Lipschitz constant of the size of the data's."""
        program = self._program
        spread = float(program.shares @ np.sum((program.rows - program.shares @ program.rows) ** 2, axis=1))
        height = float(program.shares @ np.sum((program.targets - program.shares @ program.targets) ** 2, axis=1))
        return height / spread if spread > 0.0 else 1.0

    def _try(self, weight: float, watch: Watch) -> Solved:
        """Solve for one weight, and learn from it what can be learnt."""
        program = replace(self._program, goal=Weighted(weight))
        method = InteriorPoint(max(0.2 * self._tol * self._part, 1e-10))  # the bound on ρ divides by the weight
        solved = method.solve(program, start=self._start, watch=watch)
        self._steps += solved.steps
        if solved.solution is None or solved.status is Status.INTERRUPTED:
            return solved
        trial = _Trial(weight, solved.solution, program.fit(solved.solution.U, solved.solution.c), solved.lower)
        self._part = min(1.0, max(1e-4, trial.charged / (trial.charged + self._goal.limit)))
        # φ(λ) ≤ budget + λ ρ for the ρ that is looked for
        self._lower = max(self._lower, (trial.lower - self._goal.limit) / weight)
        if trial.mse <= self._goal.limit:
            self._below = trial
        else:
            self._above = trial
        return solved

    def _between(self) -> tuple[Solution | None, float]:
        """A point between the two sides whose error is the budget, and its ρ."""
        if self._below is None:
            return None, np.inf
        a = self._below.solution
        if self._above is None:
            return a, self._rho(a)
        # the last point on the way to the other side that is within the budget: the error is a parabola along it
        b = self._above.solution
        at_a, slope, bend = self._parabola(a, b)
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            if at_a + middle * (slope + middle * bend) <= self._goal.limit:
                low = middle
            else:
                high = middle
        low = next((t for t in (low, low * (1.0 - 1e-12), low * (1.0 - 1e-9)) if self._within(_mixed(a, b, t))), 0.0)
        point = _mixed(a, b, low)
        rho, alone = self._rho(point), self._rho(a)
        point = point if rho <= alone else a
        rho = min(rho, alone)
        return Solution(point.U, point.c, point.eta, rho), rho

    def _within(self, point: Solution) -> bool:
        return self._program.fit(point.U, point.c) <= self._goal.limit

    def _parabola(self, a: Solution, b: Solution) -> tuple[float, float, float]:
        """The error at ``a + t (b − a)`` as coefficients of 1, t and t²."""
        program, slope, bend = self._program, 0.0, 0.0
        for chunk in program.chunks():
            first = program.residual(chunk, a.U, a.c)
            change = program.residual(chunk, b.U, b.c) - first
            slope += 2.0 * float(chunk.shares @ np.sum(first * change, axis=1))
            bend += float(chunk.shares @ np.sum(change**2, axis=1))
        return program.fit(a.U, a.c), slope, bend

    def _next(self) -> float:
        """Where the mse, linear in log weight between the two sides, meets the budget; outwards from one side."""
        below, above = self._below, self._above
        if below is None and above is not None:
            return above.weight * 0.1
        if above is None and below is not None:
            return below.weight * 10.0
        if below is None or above is None:
            return 1.0
        low, high = np.log(below.weight), np.log(above.weight)
        part = (self._goal.limit - below.mse) / (above.mse - below.mse)
        self._turn = not self._turn
        if not self._turn:  # halve the side that false position leaves behind
            part = 0.5 * (part + (0.0 if part > 0.5 else 1.0)) if abs(part - 0.5) > 0.4 else part
        return float(np.exp(low + min(max(part, 1e-3), 1.0 - 1e-3) * (high - low)))

    def _rho(self, point: Solution) -> float:
        return self._program.penalty.at(self._program.directions, point.U, point.eta)

    def _solved(self, solution: Solution | None, status: Status, word: str, rho: float) -> Solved:
        seconds = time.perf_counter() - self._begin
        gap = (rho - self._lower) / rho if 0.0 < rho < np.inf else 0.0 if rho == 0.0 else np.inf
        residuals = None
        if solution is not None:
            limit = self._goal.limit
            over = max(0.0, self._program.fit(solution.U, solution.c) - limit) / max(limit, 1e-300)
            residuals = Residuals(max(over, self._program.cell_violation(solution.U)), 0.0)
        lower = min(self._lower, rho)
        return Solved(solution, status, word, residuals, seconds, rho, lower, gap, self._steps)


def _mixed(a: Solution, b: Solution, part: float) -> Solution:
    """``(1 − part) a + part b``: the cell and the matrix inequality are convex in (U, c, η, ρ)."""

    def mix(x: Float | None, y: Float | None) -> Float:
        return (1.0 - part) * np.asarray(x) + part * np.asarray(y)

    return Solution(mix(a.U, b.U), mix(a.c, b.c), mix(a.eta, b.eta), None)
