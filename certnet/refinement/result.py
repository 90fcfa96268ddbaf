"""What a refinement gives back, and what it says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from certnet.certification import Certificate
from certnet.core.digits import above
from certnet.core.outcome import Status
from certnet.networks.network import Network
from certnet.programs.floor import Floor
from certnet.programs.goal import Goal, SlopeAtMost, Weighted
from certnet.programs.restriction import Solution
from certnet.refinement.rises import Change, Knob
from certnet.refinement.trace import TraceRow

__all__ = ["RefineResult", "Validation"]


@dataclass(frozen=True)
class Validation:
    """Mean squared errors on held-out samples, before and after a refinement."""

    mse_before: float
    mse: float

    @property
    def change(self) -> Change:
        return Change(self.mse_before, self.mse)

    @property
    def rose(self) -> bool:
        """By more than rounding."""
        return self.change.rose


@dataclass(frozen=True, eq=False)
class RefineResult:
    """A network that is never worse than the one given, with the figures that show it.

    Attributes
    ----------
    network : ShallowNetwork or FeedForward
        The best network found; the very input where ``improved`` is false.
    objective_before, objective_after : float
        Of input and result, recomputed with certified ρ: ``mse + weight · penalty``, or with ``target_lipschitz`` the
        error and with ``max_mse`` ρ, infinite where the limit is not met.
    certificate_before, certificate : Certificate
        Of the input and of the result.
    mse_before, mse : float
        Training errors of input and result: weighted where samples are, and of the loss that was chosen.
    improved : bool
    candidate : ShallowNetwork, FeedForward or None
        The last network that a program or a descent gave, returned or not.
    status : Status
    trace : tuple of TraceRow
    gap : float
        Relative duality gap of the last program that certnet's own solver solved; NaN for other solvers.
    solution : Solution or None
        The last point that a solver gave.
    validation : Validation or None
        Errors on held-out samples, where they were given.
    certificate_everywhere : Certificate or None
        Of the result for all inputs, where ``certificate`` is of a region.
    goal : Weighted, SlopeAtMost, FitAtMost or None
        What was minimised, by which :attr:`notes` say what to try.
    floor : Floor or None
        With ``optimality_gap=True``: a lower bound on the objective of every function; None where an interrupt came
        before it.
    """

    network: Network
    objective_before: float
    objective_after: float
    certificate_before: Certificate
    certificate: Certificate
    mse_before: float
    mse: float
    improved: bool
    candidate: Network | None
    status: Status
    trace: tuple[TraceRow, ...]
    gap: float = math.nan
    solution: Solution | None = None
    floor: Floor | None = None
    validation: Validation | None = None
    certificate_everywhere: Certificate | None = None
    goal: Goal | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what rose although the objective did not: the bound on L, the error on held-out samples."""
        before, after, found = self.certificate_before.upper, self.certificate.upper, []
        knob, held_out = Knob.of(self.goal), self.validation
        if self.improved and Change(before, after).rose:
            found.append(f"the certified L rose from {above(before, 4)} to {above(after, 4)}: {self._why(knob)}")
        if self.improved and held_out is not None and held_out.rose:
            found.append(
                f"the error on held-out samples rose {held_out.change} while the training objective fell; "
                f"{knob.advice(Change(self.mse_before, self.mse), held_out.change)}"
            )
        return tuple(found)

    def _why(self, knob: Knob) -> str:
        """L may rise, and what keeps it down."""
        if self.goal is None or isinstance(self.goal, Weighted):
            return (
                "the weight charges less for it than the fit gained; a larger weight, or target_lipschitz, keeps it "
                "down"
            )
        if isinstance(self.goal, SlopeAtMost):
            return f"the limit allows it, and the fit gained; {knob.flatter} keeps it down"
        return f"the input's error was above the limit; {knob.flatter} keeps it down"

    @property
    def optimality_gap(self) -> float:
        """``objective_after − floor``: no function at all is better by more; NaN where it was not asked for."""
        return math.nan if self.floor is None else self.objective_after - self.floor.value

    def replaced_by(self, other: RefineResult, value: float) -> RefineResult:
        """This refinement with the network of another one, whose objective here is ``value``."""
        return replace(
            self,
            network=other.network,
            certificate=other.certificate,
            certificate_everywhere=other.certificate_everywhere,
            mse=other.mse,
            validation=other.validation,
            objective_after=value,
            improved=value < self.objective_before,
            status=Status.OPTIMAL if self.status is Status.NOT_IMPROVED else self.status,
        )

    def __repr__(self) -> str:
        change = f"{self.objective_before:.6g} -> {self.objective_after:.6g}" if self.improved else "not improved"
        return f"RefineResult(objective {change}, L <= {above(self.certificate.upper)}, {self.status.name})"
