"""What a solver of the restriction returns, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from certnet.core.outcome import Residuals, Status
from certnet.core.validation import Float
from certnet.programs.restriction import Restriction, Solution
from certnet.solvers.dual_bound import DualPoint
from certnet.solvers.watch import Watch

__all__ = ["Point", "Solved", "Solver"]

Point = tuple[Float, Float]
"""Weights U (k, d+1) and output biases c (m,)."""


@dataclass(frozen=True, eq=False)
class Solved:
    """A point, how it came about, and what was measured at it.

    Attributes
    ----------
    solution : Solution or None
        A point of the closed cell; None where there is none.
    status : Status
    solver_status : str
        The solver's own word.
    residuals : Residuals or None
        Recomputed.
    seconds : float
    value : float
        The objective at ``solution``, recomputed.
    lower : float
        A bound on the optimum from below, computed from the data alone. For weight zero it is that of a tiny weight,
        and holds for the points of the cell whose penalty is at most the solution's.
    gap : float
        ``(value − lower) / value``, where value is at least 10⁻⁶ of the constant network's; NaN where nothing bounds
        the optimum.
    steps : int
        Interior-point steps of the own solver.
    dual : DualPoint or None
        What ``lower`` was computed from.
    """

    solution: Solution | None
    status: Status
    solver_status: str
    residuals: Residuals | None = None
    seconds: float = 0.0
    value: float = float("nan")
    lower: float = float("-inf")
    gap: float = float("nan")
    steps: int = 0
    dual: DualPoint | None = None


class Solver(Protocol):
    """The contract: a value that says how to solve, and solves."""

    def objection(self, program: Restriction, seconds: float = ...) -> str | None:
        """Why not to begin with so many seconds at hand, and what to do instead; None where there is no reason."""
        ...

    def solve(self, program: Restriction, *, start: Point | None = None, watch: Watch = ...) -> Solved:
        """Solve ``program``; ``start``, a point of the closed cell such as the network's own, may be of use.

        A failure is a status. Between steps ``watch`` is asked; the best point so far comes with its verdict.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C, or an onlooker's.
        """
        ...
