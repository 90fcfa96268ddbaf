"""Centring, and one scale for all inputs, so that l2 distances keep their proportions and radii can be turned back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from certnet.validation import Float

__all__ = ["Scaling"]


@dataclass(frozen=True, eq=False)
class Scaling:
    """``x ↦ (x − shift) / scale`` for inputs, ``y ↦ (y − target_shift) / target_scale`` for targets.

    Attributes
    ----------
    shift : ndarray, shape (d,)
    scale : float
        Root mean square of the centred inputs over all entries; 1 where they are constant.
    target_shift, target_scale : ndarray, shape (m,)
        Mean and standard deviation of each target; scale 1 where it is constant.
    """

    shift: Float
    scale: float
    target_shift: Float
    target_scale: Float

    @classmethod
    def none(cls, d: int, m: int) -> Self:
        """Everything as it is."""
        return cls(np.zeros(d), 1.0, np.zeros(m), np.ones(m))

    @classmethod
    def of(cls, X: Float, y: Float | None = None) -> Self:
        """From data X (N, d) and targets (N, m)."""
        shift = X.mean(axis=0, dtype=np.float64)
        spread = float(np.sqrt(np.mean(np.square(X - shift))))
        targets = np.zeros((1, 0)) if y is None else y
        deviation = targets.std(axis=0)
        return cls(shift, spread or 1.0, targets.mean(axis=0), np.where(deviation > 0.0, deviation, 1.0))

    @property
    def trivial(self) -> bool:
        """Are inputs left as they are?"""
        return self.scale == 1.0 and not self.shift.any()

    def inputs(self, X: Float) -> Float:
        return X if self.trivial else (X - self.shift) / self.scale

    def targets(self, y: Float) -> Float:
        scaled: Float = (y - self.target_shift) / self.target_scale
        return scaled

    def outputs(self, z: Float) -> Float:
        """The inverse of :meth:`targets`."""
        raw: Float = z * self.target_scale + self.target_shift
        return raw

    def raw_radius(self, scaled: Float, radius: Float) -> Float:
        """Radii about scaled inputs (N, d) in the units of the data, less the rounding of the scaling itself."""
        if self.trivial:
            return radius
        doubt = np.linalg.norm(4e-16 * (np.abs(scaled) + np.abs(self.shift) / self.scale), axis=1)
        return np.maximum(radius - doubt, 0.0) * (self.scale * (1.0 - 1e-15))
