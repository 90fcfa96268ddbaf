"""When to stop a training: a loss that has blown up, or is lower than it can be; and whether inputs are scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from certnet.core.errors import SolverError
from certnet.core.validation import Float
from certnet.lifted.learn.mixture import labelled_rows
from certnet.lifted.learn.settings import Training
from certnet.lifted.network import LiftedNetwork

__all__ = ["Diverged", "Judge", "unscaled"]

_BLOWN: Final = 1e4
"""A loss so many times the energy of the data at zero activations is divergence."""

_BELOW: Final = 1e-4
"""Least contrastive loss that is still taken for zero, in units of ``−γ^{L−1} (1 + mean ‖y‖²)``."""

_FAR_BELOW: Final = 1.0
"""A contrastive loss further below zero than this, in the same units, is no phase that wants a few passes more."""

_ROWS: Final = 1000

_PIXEL: Final = 255.0
_GREY: Final = 16.0
"""Whole numbers from 0 to 255, one of them above this, are taken for pixels; up to 16 they may be counts."""

_SQUARES: Final = 1e-4, 30.0
"""Mean squares of inputs between which rates that are stated for pixels in [0, 1] still do."""


class Diverged(ArithmeticError):
    """The loss is not finite, too large, or far below the least that it can be."""


def unscaled(X: Float) -> str:
    """What is wrong with the scale of inputs X (N, d), and what to do; empty where nothing is.

    Looked at are a thousand rows from all of X. Steps are as large as the inputs' squares: pixels from 0 to 255 take
    steps 65 025 times as large as pixels in [0, 1].
    """
    rows = X[:: -(-len(X) // _ROWS)] if len(X) else X
    if rows.size == 0:
        return ""
    low, high = float(rows.min()), float(rows.max())
    if low >= 0.0 and _GREY < high <= _PIXEL and not (rows % 1.0).any():
        return (
            f"the inputs are whole numbers from {low:g} to {high:g}, pixels as it seems, and training expects about "
            "[0, 1]: divide X by 255, or set standardise=True"
        )
    with np.errstate(over="ignore"):
        square = float(np.square(rows, dtype=np.float64).mean())
    least, most = _SQUARES
    if square == 0.0 or least <= square <= most:
        return ""
    return (
        f"the mean square of the inputs is {square:.2g}, and training expects about 1: divide X by "
        f"{np.sqrt(square):.2g}, or set standardise=True"
    )


@dataclass(frozen=True)
class Judge:
    """Losses between which training goes on.

    Attributes
    ----------
    high, low : float
    floor : float
        Below ``low``: from here it is divergence.
    scale : str
        What :func:`unscaled` says of the inputs.
    """

    high: float
    low: float
    floor: float
    scale: str

    @classmethod
    def of(cls, net: LiftedNetwork, X: Float, y: Float | None, how: Training) -> Self:
        """From the start's energy of some of the data at zero activations, and the size of the targets."""
        rows = X[:_ROWS]
        squares = 0.0
        if y is not None:
            known = y[labelled_rows(y)] if how.objective.mixes else y
            squares = float(np.square(known[:_ROWS].reshape(len(known[:_ROWS]), -1)).sum(axis=1).mean())
        zero = net.project(np.zeros((len(rows), net.n_units)))
        energy = float(net.energy(rows, zero).mean())
        unit = net.gamma ** (net.depth - 1) * (1.0 + squares)
        # a tiny scale of the data must not make an ordinary loss look blown up
        high = _BLOWN * (energy + how.objective.weight * (1.0 + squares))
        if not how.objective.contrasts:
            return cls(high, -np.inf, -np.inf, unscaled(X))
        return cls(high, -_BELOW * unit, -_FAR_BELOW * unit, unscaled(X))

    def heed(self, mean: float) -> None:
        """Look at the mean objective of a batch; where some of its samples have no target, at the others' part.

        Raises
        ------
        Diverged
            Too large, not a number, or far below zero where it cannot be negative.
        SolverError
            Clearly negative where it cannot be.
        """
        if not self.floor <= mean <= self.high:
            raise Diverged(f"the mean objective of a batch is {mean:.3g}")
        if mean < self.low:
            first = f"{self.scale}. With inputs as they are, " if self.scale else ""
            raise SolverError(
                f"{first}the contrastive loss of a batch is {mean:.3g}, and it cannot be negative: the free phase is "
                "not solved. Solve it further (a smaller tol, more max_passes, passes=None in place of a fixed "
                "number), or lower the learning rate; a loss of your own must not be negative either"
            )
