"""What a solver returns beside its value: a status that advises, and residuals recomputed from the data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Residuals", "Status"]


class Status(Enum):
    """How a computation ended. The value is a sentence of advice; :attr:`ok` tells success."""

    OPTIMAL = "converged to the requested tolerance"
    INACCURATE = "the solver stopped short of its tolerance: read the gap; try another solver or a looser tol"
    MAX_ITERATIONS = "the iteration limit was reached: raise the limit, or accept the gap that is reported"
    TIME_LIMIT = "the time limit was reached: the best point so far is returned; allow more time for a better one"
    INTERRUPTED = "interrupted: the best point so far is returned"
    ILL_CONDITIONED = (
        "the program is too ill-conditioned for a small residual to mean a small error: rescale the weights"
    )
    SOLVER_FAILED = "the solver gave no usable point: try another solver (CLARABEL, SCS), or rescale the data"
    NOT_IMPROVED = "nothing better was found: the input network is returned unchanged"

    @property
    def ok(self) -> bool:
        return self is Status.OPTIMAL or self is Status.NOT_IMPROVED

    @property
    def advice(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Residuals:
    """Violations measured at a returned point by code that the solver does not share (0 is exact).

    Attributes
    ----------
    primal : float
        Largest violation of a constraint, in the units of the scaled program.
    objective : float
        Relative difference between the objective the solver reports and the recomputed one.
    """

    primal: float
    objective: float
