r"""How residuals are charged: squared, or squared up to a threshold and linear beyond.

    squared   φ(r) = r²
    Huber     φ(r) = r² where |r| ≤ δ,  2 δ |r| − δ² beyond          (Huber, Ann. Math. Statist. 35, 1964; twice his)

The fit is ``Σ_i share_i Σ_o φ(r_io)`` with shares that sum to one: for a threshold above every residual it is the mean
squared error. Both are convex with a continuous slope, so that whatever is convex with the one is with the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from certnet.core.validation import Float, one_of, positive_number

__all__ = ["LOSSES", "SQUARED", "Huber", "Loss", "Squared", "loss_named"]


@dataclass(frozen=True)
class Squared:
    """``φ(r) = r²``: samples that repeat may share a row with their mean target, the rest being a constant."""

    name: ClassVar[str] = "squared"

    def value(self, residual: Float, shares: Float) -> float:
        """``Σ_i share_i Σ_o r_io²`` of residuals (n, m) and shares (n,)."""
        return float(shares @ np.sum(residual**2, axis=1))

    def gradient(self, residual: Float, shares: Float) -> Float:
        """Of the value in the residuals, (n, m)."""
        return 2.0 * shares[:, None] * residual

    def per(self, unit: float) -> Squared:
        """The loss of residuals that are divided by ``unit``; its values are those divided by ``unit²``."""
        return self


@dataclass(frozen=True)
class Huber:
    """``φ(r) = r²`` up to the threshold, its tangent beyond: no residual pulls harder than one at the threshold.

    Attributes
    ----------
    threshold : float
        δ > 0, in units of y.
    """

    name: ClassVar[str] = "huber"

    threshold: float = 1.0

    def value(self, residual: Float, shares: Float) -> float:
        """``Σ_i share_i Σ_o φ(r_io)`` of residuals (n, m) and shares (n,)."""
        inside = self._clipped(residual)
        return float(shares @ np.sum(inside * (2.0 * residual - inside), axis=1))

    def gradient(self, residual: Float, shares: Float) -> Float:
        """Of the value in the residuals, (n, m)."""
        return 2.0 * shares[:, None] * self._clipped(residual)

    def excess(self, residual: Float) -> Float:
        """What residuals (n, m) exceed the threshold by, with their sign: ``argmin_s (r − s)² + 2 δ |s|``."""
        return residual - self._clipped(residual)

    def per(self, unit: float) -> Huber:
        """The loss of residuals that are divided by ``unit``; its values are those divided by ``unit²``."""
        return Huber(self.threshold / unit)

    def _clipped(self, residual: Float) -> Float:
        # r (2 δ sign r) − δ² is c (2 r − c) with c the residual clipped to the threshold
        return np.clip(residual, -self.threshold, self.threshold)


Loss = Squared | Huber

SQUARED: Final = Squared()

LOSSES: Final = (Squared.name, Huber.name)
"""Public names of the losses."""


def loss_named(name: str, threshold: float = 1.0) -> Loss:
    """The loss of that name; the threshold is Huber's.

    Raises
    ------
    InvalidInputError
        There is none, or the threshold is no positive number.
    """
    one_of(name, "loss", LOSSES)
    threshold = positive_number(threshold, "huber_threshold")
    return SQUARED if name == Squared.name else Huber(threshold)
