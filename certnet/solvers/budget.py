r"""The smallest certified ρ with a mean squared error within a budget, through the weights of the penalised program.

Its dual is ``max_λ (φ(λ) − budget) / λ`` with ``φ(λ) = min fit + λ ρ``: each weight bounds the optimum from below, and
where the budget lies between the errors of two solutions, a point between them meets it exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from certnet.core.errors import SolverUnavailableError
from certnet.core.outcome import Residuals, Status
from certnet.core.validation import Float
from certnet.programs.restriction import Restriction, Solution
from certnet.solvers.dual_bound import certified_rho
from certnet.solvers.interior import InteriorOutcome, InteriorStep, solve

__all__ = ["solve_budget"]

_MAX_PROGRAMS = 60


@dataclass(frozen=True, eq=False)
class _Trial:
    weight: float
    solution: Solution
    mse: float
    lower: float


def solve_budget(
    program: Restriction,
    mse_at_most: float,
    *,
    start: tuple[Float, Float] | None = None,
    tol: float = 1e-6,
    time_limit: float | None = None,
    callback: Callable[[InteriorStep], None] | None = None,
) -> InteriorOutcome:
    """Minimise ρ over the cell subject to ``mse <= mse_at_most``.

    Parameters
    ----------
    program : Restriction
        With the Lipschitz penalty; its weight, if positive, is tried first.
    mse_at_most : float
    start, tol, time_limit, callback
        As for :func:`~certnet.solvers.interior.solve`; ``tol`` is relative to ρ.

    Returns
    -------
    InteriorOutcome
        ``value``, ``lower`` and ``gap`` are of ρ. The status is ``SOLVER_FAILED``, and there is no solution, where no
        point of the cell meets the budget.
    """
    begin = time.perf_counter()
    if program.penalty != "lipschitz":
        raise SolverUnavailableError("an error budget needs the Lipschitz penalty")
    search = _Search(program, mse_at_most, start, tol, begin, time_limit, callback)
    return search.run()


class _Search:
    """Weights on both sides of the one whose solution meets the budget."""

    def __init__(
        self,
        program: Restriction,
        budget: float,
        start: tuple[Float, Float] | None,
        tol: float,
        begin: float,
        time_limit: float | None,
        callback: Callable[[InteriorStep], None] | None,
    ) -> None:
        self._program, self._budget, self._start = program, budget, start
        self._tol, self._begin, self._time_limit = tol, begin, time_limit
        self._callback = callback
        self._below: _Trial | None = None
        self._above: _Trial | None = None
        self._lower, self._steps, self._part = 0.0, 0, 1.0
        self._turn = False

    def run(self) -> InteriorOutcome:
        flat = _constant(self._program)
        level = self._program.fit(flat.U, flat.c)
        if level <= self._budget:
            return self._outcome(flat, Status.OPTIMAL, "the constant network", 0.0)
        weight = self._program.weight or 1e-2 * level / max(self._scale(), 1e-300)
        status, word = Status.MAX_ITERATIONS, ""
        for _ in range(_MAX_PROGRAMS):
            left = None if self._time_limit is None else self._time_limit - (time.perf_counter() - self._begin)
            if left is not None and left <= 0.0:
                status = Status.TIME_LIMIT
                break
            if not self._try(weight, left):
                status, word = Status.INACCURATE, "a program of the search was not solved"
                break
            if self._below is None and self._above is not None and self._above.lower > self._budget:
                least = self._above.lower - self._above.weight * float(self._above.solution.rho or 0.0)
                if self._above.weight * float(self._above.solution.rho or 0.0) < 1e-7 * level:
                    word = f"no network of the cell has a mean squared error below {least:.6g}"
                    return self._outcome(None, Status.SOLVER_FAILED, word, np.inf)
            best, rho = self._between()
            if best is not None and rho - self._lower <= self._tol * rho:
                return self._outcome(best, Status.OPTIMAL, "converged", rho)
            weight = self._next()
        best, rho = self._between()
        return self._outcome(best, status if best is not None else Status.SOLVER_FAILED, word, rho)

    def _scale(self) -> float:
        """A squared Lipschitz constant of the size of the data's."""
        program = self._program
        spread = float(program.shares @ np.sum((program.rows - program.shares @ program.rows) ** 2, axis=1))
        height = float(program.shares @ np.sum((program.targets - program.shares @ program.targets) ** 2, axis=1))
        return height / spread if spread > 0.0 else 1.0

    def _try(self, weight: float, left: float | None) -> bool:
        program = replace(self._program, weight=weight)
        tol = max(0.2 * self._tol * self._part, 1e-10)  # the bound on ρ divides by the weight
        outcome = solve(program, start=self._start, tol=tol, time_limit=left, callback=self._callback)
        self._steps += outcome.steps
        if outcome.solution is None:
            return False
        trial = _Trial(weight, outcome.solution, program.fit(outcome.solution.U, outcome.solution.c), outcome.lower)
        charged = weight * float(trial.solution.rho or 0.0)
        self._part = min(1.0, max(1e-4, charged / (charged + self._budget)))
        self._lower = max(self._lower, (trial.lower - self._budget) / weight)
        if trial.mse <= self._budget:
            self._below = trial
        else:
            self._above = trial
        return outcome.gap < 1e-2

    def _between(self) -> tuple[Solution | None, float]:
        """A point between the two sides whose error is the budget, and its ρ."""
        if self._below is None:
            return None, np.inf
        a = self._below.solution
        if self._above is None:
            return a, certified_rho(self._program, a)
        b = self._above.solution
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            point = _mixed(a, b, middle)
            if self._program.fit(point.U, point.c) <= self._budget:
                low = middle
            else:
                high = middle
        point = _mixed(a, b, low)
        rho, alone = certified_rho(self._program, point), certified_rho(self._program, a)
        point = point if rho <= alone else a
        rho = min(rho, alone)
        return Solution(point.U, point.c, point.eta, rho), rho

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
        part = (self._budget - below.mse) / (above.mse - below.mse)
        self._turn = not self._turn
        if not self._turn:  # halve the side that false position leaves behind
            part = 0.5 * (part + (0.0 if part > 0.5 else 1.0)) if abs(part - 0.5) > 0.4 else part
        return float(np.exp(low + min(max(part, 1e-3), 1.0 - 1e-3) * (high - low)))

    def _outcome(self, solution: Solution | None, status: Status, word: str, rho: float) -> InteriorOutcome:
        seconds = time.perf_counter() - self._begin
        gap = (rho - self._lower) / rho if 0.0 < rho < np.inf else 0.0 if rho == 0.0 else np.inf
        residuals = None
        if solution is not None:
            over = max(0.0, self._program.fit(solution.U, solution.c) - self._budget) / max(self._budget, 1e-300)
            residuals = Residuals(max(over, self._program.cell_violation(solution.U)), 0.0)
        return InteriorOutcome(
            solution, status, word, residuals, seconds, rho, min(self._lower, rho), gap, self._steps, None
        )


def _constant(program: Restriction) -> Solution:
    k = program.directions.shape[1]
    eta = program.eta if program.eta is not None else np.full(k, 1.0 / max(1, k))
    return Solution(np.zeros((k, program.rows.shape[1] + 1)), program.shares @ program.targets, eta, 0.0)


def _mixed(a: Solution, b: Solution, part: float) -> Solution:
    """``(1 − part) a + part b``: the cell and the matrix inequality are convex in (U, c, η, ρ)."""

    def mix(x: Float | None, y: Float | None) -> Float:
        return (1.0 - part) * np.asarray(x) + part * np.asarray(y)

    return Solution(mix(a.U, b.U), mix(a.c, b.c), mix(a.eta, b.eta), None)
