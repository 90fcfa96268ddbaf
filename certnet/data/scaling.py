"""Standardisation that can be undone: shifts and scales of one training part, and the networks they connect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_inputs, finite_array
from certnet.networks.shallow import ShallowNetwork

__all__ = ["Scaling"]


@dataclass(frozen=True, eq=False)
class Scaling:
    """``x ↦ (x − x_shift) / x_scale`` per input and ``y ↦ (y − y_shift) / y_scale`` for one target.

    Parameters
    ----------
    x_shift, x_scale : array_like, shape (d,)
        In raw units of each input; scales are positive.
    y_shift, y_scale : float
        In raw units of the target; the scale is positive.

    Attributes
    ----------
    x_shift, x_scale : ndarray of float64, shape (d,)
        Read-only copies.
    y_shift, y_scale : float

    Raises
    ------
    InvalidInputError
        Wrong shapes, entries that are NaN or infinite, a scale that is not positive.

    Examples
    --------
    >>> scaling = Scaling.fit([[1.0, 7.0], [3.0, 7.0]], [10.0, 30.0])
    >>> scaling.transform([[3.0, 7.0]])
    array([[1., 0.]])
    >>> scaling.inverse_target([1.0])
    array([30.])
    """

    x_shift: Float
    x_scale: Float
    y_shift: float
    y_scale: float

    def __post_init__(self) -> None:
        for name in ("x_shift", "x_scale"):
            array = finite_array(getattr(self, name), name, ndim=(1,))
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name in ("y_shift", "y_scale"):
            object.__setattr__(self, name, float(finite_array(getattr(self, name), name, ndim=(0,))))
        if self.x_shift.shape != self.x_scale.shape or not self.x_shift.size:
            raise InvalidInputError(
                f"x_shift has shape {self.x_shift.shape} and x_scale {self.x_scale.shape}: "
                "one shift and one scale per input are needed"
            )
        if not (np.all(self.x_scale > 0) and self.y_scale > 0):
            raise InvalidInputError("a scale is not positive: a constant column must have scale 1")

    def __reduce__(self) -> tuple[Any, ...]:
        # rebuilt through the constructor, so that a copy from another process is read-only too
        return Scaling, (self.x_shift, self.x_scale, self.y_shift, self.y_scale)

    @classmethod
    def identity(cls, n_inputs: int) -> Scaling:
        """The scaling of ``n_inputs`` inputs that changes nothing."""
        return cls(np.zeros(n_inputs), np.ones(n_inputs), 0.0, 1.0)

    @classmethod
    def fit(cls, X: ArrayLike, y: ArrayLike) -> Scaling:
        """Mean and standard deviation (divisor N) of every column of X (N, d) and of y (N,), the training part.

        A column that is constant up to rounding (its range is at most four units in the last place of its largest
        entry) gets scale 1, so that it maps to zero; every other column, however narrow, gets its own scale.

        Raises
        ------
        InvalidInputError
            Wrong shapes, no samples, entries that are NaN, infinite or not real numbers.
        """
        inputs = finite_array(X, "X", ndim=(2,))
        target = finite_array(y, "y", ndim=(1,))
        if len(inputs) != len(target):
            raise InvalidInputError(f"X has {len(inputs)} samples and y has {len(target)}")
        if not inputs.size:
            raise InvalidInputError(f"X has shape {inputs.shape}: at least one sample and one input are needed")
        x_shift, x_scale = _moments(inputs)
        y_shift, y_scale = _moments(target[:, None])
        return cls(x_shift, x_scale, float(y_shift[0]), float(y_scale[0]))

    @property
    def n_inputs(self) -> int:
        return int(self.x_shift.shape[0])

    @property
    def is_identity(self) -> bool:
        return not self.x_shift.any() and bool(np.all(self.x_scale == 1)) and (self.y_shift, self.y_scale) == (0, 1)

    def transform(self, X: ArrayLike) -> Float:
        """Raw inputs (N, d) in standardised units."""
        return (as_inputs(X, self.n_inputs) - self.x_shift) / self.x_scale

    def transform_target(self, y: ArrayLike) -> Float:
        """Raw targets (N,) in standardised units."""
        return (finite_array(y, "y", ndim=(1,)) - self.y_shift) / self.y_scale

    def inverse_target(self, y: ArrayLike) -> Float:
        """Standardised targets or predictions (N,) in raw units."""
        return finite_array(y, "y", ndim=(1,)) * self.y_scale + self.y_shift

    def raw_network(self, net: ShallowNetwork) -> ShallowNetwork:
        """The network ``x ↦ y_scale · net((x − x_shift) / x_scale) + y_shift``, whose certificates speak of raw units.

        Raises
        ------
        InvalidInputError
            ``net`` has another number of inputs, is in raw units already (and this scaling is not the identity), or
            its folded weights overflow.
        """
        if net.n_inputs != self.n_inputs:
            raise InvalidInputError(f"the scaling has {self.n_inputs} inputs, the network has {net.n_inputs}")
        if net.units == "raw" and not self.is_identity:
            raise InvalidInputError(
                "the network is in raw units already: scaling it again would change what it predicts"
            )
        return net.rescaled(
            x_shift=self.x_shift, x_scale=self.x_scale, y_shift=self.y_shift, y_scale=self.y_scale, units="raw"
        )


def _moments(columns: Float) -> tuple[Float, Float]:
    """Mean and standard deviation per column; divided by its largest entry first, so that no square overflows."""
    size = np.abs(columns).max(axis=0)
    mean = size * (columns / _nonzero(size)).mean(axis=0)
    with np.errstate(over="ignore"):  # a range beyond float64 becomes an infinite scale, which Scaling refuses
        deviation = columns - mean
        extent = columns.max(axis=0) - columns.min(axis=0)
    largest = np.abs(deviation).max(axis=0)
    with np.errstate(invalid="ignore"):
        scale = largest * np.sqrt(np.mean((deviation / _nonzero(largest)) ** 2, axis=0))
    # below the smallest normal number there are no digits left to standardise by
    constant = extent <= np.maximum(4 * np.spacing(size), np.finfo(np.float64).tiny)
    return mean, np.where(constant, 1.0, scale)


def _nonzero(size: Float) -> Float:
    return np.where(size > 0, size, 1.0)
