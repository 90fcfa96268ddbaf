"""The units of the objective: every column of X and of y with mean 0 and standard deviation 1, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.preprocessing import StandardScaler

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.shallow import ShallowNetwork

__all__ = ["Standardisation"]


@dataclass(frozen=True, eq=False)
class Standardisation:
    """``z = (x − x_shift) / x_scale``, ``t = (y − y_shift) / y_scale``.

    Attributes
    ----------
    x_shift, x_scale : ndarray, shape (d,)
        Mean and standard deviation (divisor N) of the columns of X; scale 1 where a column is constant.
    y_shift, y_scale : ndarray, shape (m,)
        Those of y.
    """

    x_shift: Float
    x_scale: Float
    y_shift: Float
    y_scale: Float

    @classmethod
    def of(cls, X: Float, y: Float) -> Self:
        """From data X (N, d) and y (N,) or (N, m).

        Raises
        ------
        InvalidInputError
            The squares of the deviations overflow.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # told by the scale below
            x, target = StandardScaler().fit(X), StandardScaler().fit(y.reshape(len(y), -1))
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

    def inward(self, network: ShallowNetwork) -> ShallowNetwork:
        """The raw network as a map from standardised inputs to standardised outputs."""
        return network.rescaled(
            x_shift=-self.x_shift / self.x_scale,
            x_scale=1.0 / self.x_scale,
            y_shift=-self.y_shift / self.y_scale,
            y_scale=1.0 / self.y_scale,
            units="standardised",
        )

    def outward(self, network: ShallowNetwork, units: str) -> ShallowNetwork:
        """The standardised network as a map from raw inputs to raw outputs, labelled ``units``."""
        return network.rescaled(
            x_shift=self.x_shift, x_scale=self.x_scale, y_shift=self.y_shift, y_scale=self.y_scale, units=units
        )
