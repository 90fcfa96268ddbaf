"""The units of the objective: every column of X and of y with mean 0 and standard deviation 1, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from sklearn.preprocessing import StandardScaler

from certnet.claims.region import Box
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.network import Network

__all__ = ["Standardisation"]

N = TypeVar("N", bound=Network)


@dataclass(frozen=True, eq=False)
class Standardisation:
    """``z = (x − x_shift) / x_scale``, ``t = (y − y_shift) / y_scale``.

    Attributes
    ----------
    x_shift, x_scale : ndarray, shape (d,)
        Mean and standard deviation (divisor N) of the columns of X, weighted where samples are; scale 1 where a
        column is constant.
    y_shift, y_scale : ndarray, shape (m,)
        Those of y.
    """

    x_shift: Float
    x_scale: Float
    y_shift: Float
    y_scale: Float

    @classmethod
    def of(cls, X: Float, y: Float, sample_weight: Float | None = None) -> Self:
        """From data X (N, d), y (N,) or (N, m) and weights (N,), of which only the ratios count.

        Raises
        ------
        InvalidInputError
            The squares of the deviations overflow.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # told by the scale below
            x = StandardScaler().fit(X, sample_weight=sample_weight)
            target = StandardScaler().fit(y.reshape(len(y), -1), sample_weight=sample_weight)
        for name, scaler in (("X", x), ("y", target)):
            bad = ~np.isfinite(scaler.scale_)
            if bad.any():
                raise InvalidInputError(
                    f"column {int(np.argmax(bad))} of {name} is too large to standardise (its variance overflows): "
                    "measure it in larger units"
                )
        return cls(x.mean_, x.scale_, target.mean_, target.scale_)

    def data(self, X: Float, y: Float) -> tuple[Float, Float]:
        """X and y in standardised units."""
        return (X - self.x_shift) / self.x_scale, (y - self.y_shift) / self.y_scale

    def box(self, region: Box) -> Box:
        """A box of raw inputs in standardised units."""
        return Box((region.lower - self.x_shift) / self.x_scale, (region.upper - self.x_shift) / self.x_scale)

    @property
    def slope_scale(self) -> Float:
        """A slope of the first output in raw units, times this, is one in standardised units; shape (d,)."""
        return np.asarray(self.x_scale / self.y_scale[0], dtype=np.float64)

    def inward(self, network: N) -> N:
        """The raw network as a map from standardised inputs to standardised outputs."""
        return network.rescaled(
            x_shift=-self.x_shift / self.x_scale,
            x_scale=1.0 / self.x_scale,
            y_shift=-self.y_shift / self.y_scale,
            y_scale=1.0 / self.y_scale,
            units="standardised",
        )

    def outward(self, network: N, units: str) -> N:
        """The standardised network as a map from raw inputs to raw outputs, labelled ``units``."""
        return network.rescaled(
            x_shift=self.x_shift, x_scale=self.x_scale, y_shift=self.y_shift, y_scale=self.y_scale, units=units
        )
