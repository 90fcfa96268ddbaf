"""What a refinement is asked for, and on which samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from certnet.certification import Certificate
from certnet.claims.region import ALL, Region
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.programs.goal import Goal, SlopeAtMost, Weighted
from certnet.programs.loss import SQUARED, Loss, Squared
from certnet.programs.objectives import mse_of, outputs_of
from certnet.programs.penalties import LipschitzPenalty, Penalty
from certnet.programs.restriction import Cell, Restriction
from certnet.programs.slopes import SlopeLimits
from certnet.refinement.shape import ShapeLimits
from certnet.rows.base import Rows
from certnet.rows.block import Block
from certnet.rows.memory import MemoryRows
from certnet.rows.sums import Sums

__all__ = ["Moments", "Task"]

_UNDER: Final = 1.0 - 1e-7  # of a limit on L: what the certificate's search may lose
_NO_LIMIT: Final = 2.0**300  # limits on L above it have squares that no solver can work with, and bind nowhere


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the outputs of a network about their mean ``centre`` (m,), and of the targets about ``aim`` (m,).

    ``spread = Σ s ‖f − centre‖²``, ``shared = Σ s (f − centre)ᵀ(y − aim)``; ``least`` is the error of the network
    ``aim + factor (f − centre)`` with the best factor, ``shared / spread``.
    """

    centre: Float
    aim: Float
    spread: float
    shared: float
    least: float


@dataclass(frozen=True, eq=False)
class _Outputs:
    """Sums of a block: of outputs and targets about centres, and of their products."""

    network: Network
    centre: Float
    aim: Float

    def __call__(self, block: Block) -> Sums:
        s, f, y = block.shares, outputs_of(self.network, block.X) - self.centre, block.y - self.aim
        products = (float(s @ np.sum(a * b, axis=1)) for a, b in ((f, f), (f, y), (y, y)))
        return s @ f, s @ y, *products


@dataclass(frozen=True, eq=False)
class _Loss:
    """The error of a block."""

    network: Network
    loss: Loss

    def __call__(self, block: Block) -> Sums:
        return (self.loss.value(outputs_of(self.network, block.X) - block.y, block.shares),)


@dataclass(frozen=True, eq=False)
class Task:
    """Decrease the goal's objective on samples, checked at the door.

    Attributes
    ----------
    rows : Rows
    penalty : Penalty
    goal : Goal
        Of networks: its limit on the slope is one on the certified bound.
    loss : Loss
    limits : ShapeLimits or None
        On slopes along single inputs.
    keep : frozenset of str
        Of ``KEPT`` in :mod:`certnet.refinement.refinement`.
    region : Region
        Where ρ bounds the slope.
    """

    rows: Rows
    penalty: Penalty
    goal: Goal
    loss: Loss = SQUARED
    limits: ShapeLimits | None = None
    keep: frozenset[str] = field(default_factory=frozenset)
    region: Region = ALL

    @property
    def memory(self) -> MemoryRows:
        """The samples, where they are in memory.

        Raises
        ------
        InvalidInputError
            They are not.
        """
        if isinstance(self.rows, MemoryRows):
            return self.rows
        raise InvalidInputError(
            f"{self.rows!r} are not in memory, which programs need: leave out what asks for them (method, cells, "
            "patterns, penalty, solver, optimality_gap)"
        )

    @property
    def X(self) -> Float:
        return self.memory.X

    @property
    def y(self) -> Float:
        return self.memory.y

    @property
    def squared(self) -> bool:
        return isinstance(self.loss, Squared)

    @property
    def probes(self) -> Float | None:
        """Inputs at which a certificate's lower bound looks for steep slopes."""
        return self.rows.X if isinstance(self.rows, MemoryRows) else None

    def error(self, network: Network) -> float:
        """``Σ_i s_i φ(f(x_i) − y_i)``, the mean squared error without weights and another loss."""
        rows = self.rows
        if isinstance(rows, MemoryRows) and rows.weights is None and self.squared:
            return mse_of(network, rows.X, rows.y)
        return float(rows.total(_Loss(network, self.loss))[0])

    def moments(self, network: Network) -> Moments:
        """Of the outputs and targets, by two passes: products about the means keep their digits."""
        zeros = np.zeros(network.n_outputs)
        centre, aim = self.rows.total(_Outputs(network, zeros, zeros))[:2]
        _, _, spread, shared, total = self.rows.total(_Outputs(network, centre, aim))
        least = total - shared * shared / spread if spread > 0.0 else total
        return Moments(centre, aim, float(spread), float(shared), max(float(least), 0.0))

    def value(self, network: Network, mse: float, certificate: Certificate) -> float:
        """The objective of a network with its recomputed error and certified bound; infinite beyond a limit."""
        if not self.goal.met(mse, certificate.upper):
            return float("inf")
        if self.limits is not None and self.limits.proved(network) is None:
            return float("inf")
        return self.goal.objective(mse, self.penalty.of(network, certificate.rho))

    def program(self, cell: Cell, penalty: Penalty | None = None) -> Restriction:
        """The restriction to a cell, with another penalty than the task's where one is given (η fixed)."""
        goal = self.goal
        if isinstance(goal, SlopeAtMost):
            limit = goal.limit * _UNDER
            goal = SlopeAtMost(limit) if limit < _NO_LIMIT else Weighted(0.0)
        rows, limits = self.memory, self.limits
        slopes = None if limits is None else SlopeLimits(limits.lower, limits.upper)
        return Restriction.of(
            cell,
            rows.X,
            rows.y,
            penalty or self.penalty,
            goal,
            sample_weight=rows.weights,
            loss=self.loss,
            slopes=slopes,
        )

    @property
    def restricted(self) -> bool:
        """Whether a restriction to a cell can follow a descent."""
        return isinstance(self.rows, MemoryRows) and not self.keep and isinstance(self.penalty, LipschitzPenalty)
