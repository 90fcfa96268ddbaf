r"""Convex losses on the output, for ``min_z E(z; x) + weight · ℓ(z_L, y)`` (Zach and Estellers 2019, (5)).

Each is once continuously differentiable, evaluated for N samples at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Protocol

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array, positive_number
from certnet.kernels.margin import nearest_with_margin

__all__ = ["LOSSES", "CrossEntropy", "HuberLoss", "Loss", "MarginLoss", "SquaredHinge", "SquaredLoss", "loss_named"]


class Loss(Protocol):
    """What a loss of your own has to have; non-negative, convex and once continuously differentiable in z for every y.

    Attributes
    ----------
    curvature : float
        No second derivative in z is larger (in the 2-norm), at any z; inf where there is no such number.
    """

    @property
    def curvature(self) -> float: ...

    def targets(self, y: ArrayLike, n_samples: int, n_outputs: int) -> Float:
        """y as the other methods take it, shape (N, m); InvalidInputError where it does not fit."""
        ...

    def value(self, z: Float, y: Float) -> Float:
        """``ℓ(z, y)`` for every row of z (N, m), shape (N,)."""
        ...

    def gradient(self, z: Float, y: Float) -> Float:
        """Shape (N, m)."""
        ...

    def hessian(self, z: Float, y: Float) -> Float:
        """Symmetric positive semidefinite, shape (N, m, m); at a kink of the gradient any of its derivatives."""
        ...


@dataclass(frozen=True)
class SquaredLoss:
    """``½ ‖z − y‖²``; as its weight grows the output is clamped to y."""

    curvature: ClassVar[float] = 1.0

    def targets(self, y: ArrayLike, n_samples: int, n_outputs: int) -> Float:
        return _numbers(y, n_samples, n_outputs)

    def value(self, z: Float, y: Float) -> Float:
        return 0.5 * np.einsum("ij,ij->i", z - y, z - y)

    def gradient(self, z: Float, y: Float) -> Float:
        return z - y

    def hessian(self, z: Float, y: Float) -> Float:
        return _diagonal(np.ones_like(z))


@dataclass(frozen=True)
class HuberLoss:
    """``Σ_j h(z_j − y_j)``: ``h(r) = ½ r²`` up to ``|r| = delta``, ``delta (|r| − ½ delta)`` beyond."""

    delta: float = 1.0
    curvature: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", positive_number(self.delta, "delta"))

    def targets(self, y: ArrayLike, n_samples: int, n_outputs: int) -> Float:
        return _numbers(y, n_samples, n_outputs)

    def value(self, z: Float, y: Float) -> Float:
        r = np.abs(z - y)
        inner = np.minimum(r, self.delta)
        total: Float = (inner * (r - 0.5 * inner)).sum(axis=1)
        return total

    def gradient(self, z: Float, y: Float) -> Float:
        return np.clip(z - y, -self.delta, self.delta)

    def hessian(self, z: Float, y: Float) -> Float:
        return _diagonal((np.abs(z - y) <= self.delta).astype(np.float64))


@dataclass(frozen=True)
class CrossEntropy:
    """``log Σ_j exp z_j − yᵀz``: of the softmax of z against class labels, or probabilities with sum 1."""

    curvature: ClassVar[float] = 0.5

    def targets(self, y: ArrayLike, n_samples: int, n_outputs: int) -> Float:
        if n_outputs < 2:
            raise InvalidInputError("cross-entropy needs at least two outputs: the softmax of one is always 1")
        given = finite_array(y, "targets", ndim=(1, 2))
        if given.ndim == 1:
            return _one_hot(given, n_samples, n_outputs)
        probabilities = _numbers(given, n_samples, n_outputs)
        if (probabilities < 0.0).any() or (np.abs(probabilities.sum(axis=1) - 1.0) > 1e-9).any():
            raise InvalidInputError(
                "targets are no probabilities: rows are to be non-negative with sum 1, or pass labels"
            )
        return probabilities

    def value(self, z: Float, y: Float) -> Float:
        return -np.einsum("ij,ij->i", scipy.special.log_softmax(z, axis=1), y)

    def gradient(self, z: Float, y: Float) -> Float:
        slope: Float = scipy.special.softmax(z, axis=1) - y
        return slope

    def hessian(self, z: Float, y: Float) -> Float:
        p = scipy.special.softmax(z, axis=1)
        return _diagonal(p) - p[:, :, None] * p[:, None, :]


@dataclass(frozen=True)
class SquaredHinge:
    """``½ Σ_j max(0, 1 − y_j z_j)²`` with signs ``y_j = ±1``; class labels make one class positive, the others not."""

    curvature: ClassVar[float] = 1.0

    def targets(self, y: ArrayLike, n_samples: int, n_outputs: int) -> Float:
        given = finite_array(y, "targets", ndim=(1, 2))
        if given.ndim == 1 and n_outputs > 1:
            return 2.0 * _one_hot(given, n_samples, n_outputs) - 1.0
        signs = _numbers(given, n_samples, n_outputs)
        if not np.isin(signs, (-1.0, 1.0)).all():
            raise InvalidInputError("targets of the squared hinge are signs: -1 or 1 for every output, or class labels")
        return signs

    def value(self, z: Float, y: Float) -> Float:
        return 0.5 * (np.maximum(0.0, 1.0 - y * z) ** 2).sum(axis=1)

    def gradient(self, z: Float, y: Float) -> Float:
        return -y * np.maximum(0.0, 1.0 - y * z)

    def hessian(self, z: Float, y: Float) -> Float:
        return _diagonal((y * z < 1.0).astype(np.float64))


@dataclass(frozen=True)
class MarginLoss:
    r"""``½ dist²(z, K_y)``: how far z is from outputs whose class y leads every other by a margin; labels are classes.

        K_y = { p : p_y ≥ p_j + margin  for every j ≠ y },   gradient  z − Π_K(z)

    K_y is convex: so is the squared distance, whose gradient is 1-Lipschitz. It is zero at samples that lead by the
    margin, and pulls at no rival that is below them; the clamp pulls all outputs to their targets everywhere. As the
    weight grows, the output is held in K_y: a clamp to a set in the place of a point. With it the contrastive objective
    and ``weight_decay`` are a support vector machine on the activations of the last hidden layer.

    Parameters
    ----------
    margin : float
        Positive, in the units of the outputs. With ``weight_decay`` outputs take whatever scale is best for it: leave
        it at 1, and choose the decay by the radius that is wanted (docs/margins.md).
    """

    margin: float = 1.0
    curvature: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", positive_number(self.margin, "margin"))

    def targets(self, y: ArrayLike, n_samples: int, n_outputs: int) -> Float:
        if n_outputs < 2:
            raise InvalidInputError("a margin needs at least two outputs: one leads no other")
        given = finite_array(y, "targets", ndim=(1, 2))
        if given.ndim == 1:
            return _one_hot(given, n_samples, n_outputs)
        rows = _numbers(given, n_samples, n_outputs)
        if not (np.isin(rows, (0.0, 1.0)).all() and (rows.sum(axis=1) == 1.0).all()):
            raise InvalidInputError("targets of a margin are class labels, or rows with a single one among zeros")
        return rows

    def value(self, z: Float, y: Float) -> Float:
        away = self.gradient(z, y)
        return 0.5 * np.einsum("ij,ij->i", away, away)

    def gradient(self, z: Float, y: Float) -> Float:
        away: Float = z - self.nearest(z, y)
        return away

    def hessian(self, z: Float, y: Float) -> Float:
        # what is moved keeps its mean, the margin apart: I − 11ᵀ/k on the class and the rivals that are moved
        nearest = self.nearest(z, y)
        moved = (nearest < z) | ((y > 0.0) & (nearest > z))
        count = np.maximum(moved.sum(axis=1), 1)[:, None, None]
        made: Float = _diagonal(moved.astype(np.float64)) - (moved[:, :, None] & moved[:, None, :]) / count
        return made

    def nearest(self, z: Float, y: Float) -> Float:
        """The points of K_y nearest to the rows of z, shape (N, m)."""
        found = np.empty(z.shape)
        nearest_with_margin(np.ascontiguousarray(z, np.float64), y.argmax(axis=1), self.margin, found)
        return found


LOSSES: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        "squared": SquaredLoss,
        "huber": HuberLoss,
        "cross_entropy": CrossEntropy,
        "squared_hinge": SquaredHinge,
        "margin": MarginLoss,
    }
)
"""The losses by name."""


def loss_named(loss: str | Loss) -> Loss:
    """The loss of a name of :data:`LOSSES`; a loss as it is.

    Raises
    ------
    InvalidInputError
        Another name, or an object without the methods of :class:`Loss`.
    """
    if isinstance(loss, str) and loss in LOSSES:
        made: Loss = LOSSES[loss]()
        return made
    missing = [name for name in ("curvature", "targets", "value", "gradient", "hessian") if not hasattr(loss, name)]
    if isinstance(loss, type) or missing:
        given = loss if isinstance(loss, str) else loss.__name__ if isinstance(loss, type) else type(loss).__name__
        raise InvalidInputError(
            f"loss is {given!r}: one of {', '.join(map(repr, LOSSES))}, or an object like those of "
            f"certnet.lifted.loss_functions ({', '.join(kind.__name__ + '()' for kind in LOSSES.values())})"
        )
    return loss  # type: ignore[return-value]


def _diagonal(values: Float) -> Float:
    made: Float = values[:, :, None] * np.eye(values.shape[1])
    return made


def _numbers(y: ArrayLike, n_samples: int, n_outputs: int) -> Float:
    targets = finite_array(y, "targets", ndim=(1, 2))
    if targets.ndim == 1:
        targets = targets[:, None]
    if targets.shape != (n_samples, n_outputs):
        raise InvalidInputError(f"targets have shape {targets.shape}: {(n_samples, n_outputs)} is needed")
    return targets


def _one_hot(labels: Float, n_samples: int, n_outputs: int) -> Float:
    if labels.shape != (n_samples,):
        raise InvalidInputError(f"there are {len(labels)} labels for {n_samples} samples")
    bad = (labels != np.floor(labels)) | (labels < 0) | (labels >= n_outputs)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise InvalidInputError(f"targets[{i}] is {labels[i]:g}: labels are whole numbers from 0 to {n_outputs - 1}")
    table: Any = np.eye(n_outputs)
    return np.asarray(table[labels.astype(np.intp)], dtype=np.float64)
