"""The rows that a refinement leaves behind, one for every candidate."""

from __future__ import annotations

from dataclasses import dataclass

from certnet.certification import Certificate
from certnet.core.outcome import Residuals, Status
from certnet.networks.network import Network
from certnet.solvers.solved import Solved

__all__ = ["Measured", "TraceRow"]


@dataclass(frozen=True, eq=False)
class Measured:
    """A network with its value, error and certificate, all recomputed."""

    network: Network
    value: float
    mse: float
    certificate: Certificate


@dataclass(frozen=True)
class TraceRow:
    """One candidate network: what was tried, what it is worth, whether it was kept.

    ``objective``, ``mse`` and ``upper`` (certified Lipschitz bound) are recomputed from the network and the data; NaN
    where the solver gave no point. ``gap`` is the relative duality gap of the program that gave it, NaN where unknown.
    ``seconds`` since the refinement began, without those that went into compiling and loading kernels.
    """

    stage: str
    objective: float
    mse: float
    upper: float
    accepted: bool
    status: Status
    solver_status: str
    residuals: Residuals | None
    seconds: float
    gap: float = float("nan")

    @classmethod
    def of(cls, stage: str, measured: Measured | None, solved: Solved, seconds: float, *, accepted: bool) -> TraceRow:
        """The row of a candidate, None where there is none, and of how it came about."""
        nan = float("nan")
        return cls(
            stage=stage,
            objective=nan if measured is None else measured.value,
            mse=nan if measured is None else measured.mse,
            upper=nan if measured is None else measured.certificate.upper,
            accepted=accepted,
            status=solved.status,
            solver_status=solved.solver_status,
            residuals=solved.residuals,
            seconds=seconds,
            gap=solved.gap,
        )
