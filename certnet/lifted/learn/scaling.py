"""Centring, and one scale for all inputs, so that l2 distances keep their proportions and radii can be turned back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float

__all__ = ["Scaling"]

_LARGEST = 1e100  # whose squares, and those of its inverse, are numbers


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

    Raises
    ------
    InvalidInputError
        Scales that are not positive, entries that are not finite, shapes that do not fit.
    """

    shift: Float
    scale: float
    target_shift: Float
    target_scale: Float

    def __post_init__(self) -> None:
        vectors = [np.asarray(v) for v in (self.shift, self.target_shift, self.target_scale)]
        fits = all(v.ndim == 1 for v in vectors) and np.ndim(self.scale) == 0 and vectors[1].shape == vectors[2].shape
        if not fits or not all(v.dtype == np.float64 and np.isfinite(v).all() for v in vectors):
            raise InvalidInputError("a scaling needs vectors of finite numbers, and as many target shifts as scales")
        if not (0.0 < self.scale < np.inf) or not (vectors[2] > 0.0).all():
            raise InvalidInputError("the scales of a scaling must be positive and finite")

    @classmethod
    def none(cls, d: int, m: int) -> Self:
        """Everything as it is."""
        return cls(np.zeros(d), 1.0, np.zeros(m), np.ones(m))

    @classmethod
    def of(cls, X: Float, y: Float | None = None) -> Self:
        """From data X (N, d) and targets (N, m).

        Raises
        ------
        InvalidInputError
            Numbers so large or so small that they have no usable scale.
        """
        for name, values in (("X", X), ("y", y)):
            largest = 0.0 if values is None else float(np.abs(values).max(initial=0.0))
            if largest > _LARGEST or 0.0 < largest < 1.0 / _LARGEST:
                raise InvalidInputError(
                    f"the largest entry of {name} is {largest:.0e}: nothing can be standardised beyond 1e±100; take "
                    "other units"
                )
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

    @property
    def changes_slopes(self) -> bool:
        """Is a Lipschitz constant in the units of the data another one than the network's own?"""
        return self.scale != 1.0 or bool((self.target_scale != 1.0).any())

    def raw_bracket(self, lower: float, upper: float, output: tuple[int, ...] | None = None) -> tuple[float, float]:
        """The bracket ``lower ≤ L ≤ upper`` of a network, or of an output of it, in the units of the data.

        ``x ↦ target_scale · z((x − shift) / scale) + target_shift`` has the constant ``L target_scale / scale``; where
        targets have several scales, the least of them serves the lower side and the largest the upper. Rounded outward.
        Of ``z_i − z_j`` with two scales, which is no difference of targets, nothing is known: (0, inf).
        """
        scales = self.target_scale if self.target_scale.size else np.ones(1)
        if output is not None and self.target_scale.size:
            scales = scales[list(output)]
            if scales.min() < scales.max():
                return 0.0, math.inf
        # two roundings each, and one step for either
        low = _down(_down(lower * float(scales.min())) / self.scale)
        return low, _up(_up(upper * float(scales.max())) / self.scale)

    def raw_radius(self, scaled: Float, radius: Float) -> Float:
        """Radii about scaled inputs (N, d) in the units of the data, less the rounding of the scaling itself."""
        if self.trivial:
            return radius
        doubt = np.linalg.norm(4e-16 * (np.abs(scaled) + np.abs(self.shift) / self.scale), axis=1)
        return np.maximum(radius - doubt, 0.0) * (self.scale * (1.0 - 1e-15))


def _up(value: float) -> float:
    return math.nextafter(value, math.inf)


def _down(value: float) -> float:
    return max(0.0, math.nextafter(value, -math.inf))
