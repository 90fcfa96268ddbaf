"""What a refinement is asked for, and on which samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from certnet.certification import Certificate
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.programs.goal import Goal, SlopeAtMost, Weighted
from certnet.programs.penalties import Penalty
from certnet.programs.restriction import Cell, Restriction

__all__ = ["Task"]

_UNDER: Final = 1.0 - 1e-7  # of a limit on L: what the certificate's search may lose
_NO_LIMIT: Final = 2.0**300  # limits on L above it have squares that no solver can work with, and bind nowhere


@dataclass(frozen=True, eq=False)
class Task:
    """Decrease the goal's objective on samples X (N, d), y (N, m), checked at the door.

    Attributes
    ----------
    X, y : ndarray
    penalty : Penalty
    goal : Goal
        Of networks: its limit on the slope is one on the certified bound.
    """

    X: Float
    y: Float
    penalty: Penalty
    goal: Goal

    def value(self, network: Network, mse: float, certificate: Certificate) -> float:
        """The objective of a network with its recomputed error and certified bound; infinite beyond a limit."""
        if not self.goal.met(mse, certificate.upper):
            return float("inf")
        return self.goal.objective(mse, self.penalty.of(network, certificate.rho))

    def program(self, cell: Cell, penalty: Penalty | None = None) -> Restriction:
        """The restriction to a cell, with another penalty than the task's where one is given (η fixed)."""
        goal = self.goal
        if isinstance(goal, SlopeAtMost):
            limit = goal.limit * _UNDER
            goal = SlopeAtMost(limit) if limit < _NO_LIMIT else Weighted(0.0)
        return Restriction.of(cell, self.X, self.y, penalty or self.penalty, goal)
