"""When to stop a training: a loss that has blown up, and one that is lower than it can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from certnet.core.errors import SolverError
from certnet.core.validation import Float
from certnet.lifted.learn.settings import Training
from certnet.lifted.network import LiftedNetwork

__all__ = ["Diverged", "Judge"]

_BLOWN: Final = 1e4
"""A loss so many times the energy of the data at zero activations is divergence."""

_BELOW: Final = 1e-4
"""Least contrastive loss that is still taken for zero, in units of ``−γ^{L−1} (1 + mean ‖y‖²)``."""

_ROWS: Final = 1000


class Diverged(ArithmeticError):
    """The loss is not finite, or too large."""


@dataclass(frozen=True)
class Judge:
    """Losses between which training goes on.

    Attributes
    ----------
    high, low : float
    """

    high: float
    low: float

    @classmethod
    def of(cls, net: LiftedNetwork, X: Float, y: Float | None, how: Training) -> Self:
        """From the start's energy of some of the data at zero activations, and the size of the targets."""
        rows = X[:_ROWS]
        squares = 0.0 if y is None else float(np.square(y[:_ROWS].reshape(len(rows), -1)).sum(axis=1).mean())
        zero = net.project(np.zeros((len(rows), net.n_units)))
        energy = float(net.energy(rows, zero).mean())
        lowest = -_BELOW * net.gamma ** (net.depth - 1) * (1.0 + squares)
        # a tiny scale of the data must not make an ordinary loss look blown up
        high = _BLOWN * (energy + how.objective.weight * (1.0 + squares))
        return cls(high, lowest if how.objective.kind == "contrastive" else -np.inf)

    def heed(self, mean: float) -> None:
        """Look at the mean objective of a batch.

        Raises
        ------
        Diverged
            Too large, or not a number.
        SolverError
            Clearly negative where it cannot be.
        """
        if not mean <= self.high:
            raise Diverged(f"the mean objective of a batch is {mean:.3g}")
        if mean < self.low:
            raise SolverError(
                f"the contrastive loss of a batch is {mean:.3g}, and it cannot be negative: the free phase is not "
                "solved. Solve it further (a smaller tol, more max_passes, passes=None in place of a fixed number), or "
                "lower the learning rate; a loss of your own must not be negative either"
            )
