"""A layer: a linear operator, a bias, and an activation with the interval of its slopes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.networks.activations import Activation

__all__ = ["Dense", "Entries", "Layer", "LinearOperator", "dense", "read_only"]

Entries = tuple[NDArray[np.int64], NDArray[np.int64], Float]
"""Rows, columns and values of the entries of an operator that are not zero by its form."""


class LinearOperator(Protocol):
    """A linear map A of R^n_inputs to R^n_outputs, applied to the rows of a batch."""

    @property
    def n_inputs(self) -> int: ...

    @property
    def n_outputs(self) -> int: ...

    @property
    def matrix(self) -> Float:
        """A as an array of shape (n_outputs, n_inputs)."""
        ...

    @property
    def terms(self) -> int:
        """At most so many products are summed up for an entry of ``A x`` or ``Aᵀ y``."""
        ...

    @property
    def absolute(self) -> LinearOperator:
        """The operator of the sizes of the entries of A."""
        ...

    @property
    def entries(self) -> Entries: ...

    def __call__(self, x: Float) -> Float:
        """``A x`` for every row of x (N, n_inputs), as an (N, n_outputs) array."""
        ...

    def adjoint(self, y: Float) -> Float:
        """``Aᵀ y`` for every row of y (N, n_outputs), as an (N, n_inputs) array."""
        ...


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix, shape (n_outputs, n_inputs), read-only."""

    matrix: Float

    @property
    def n_inputs(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def n_outputs(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def terms(self) -> int:
        return int(max(self.matrix.shape))

    @property
    def absolute(self) -> Dense:
        return Dense(np.abs(self.matrix))

    @property
    def entries(self) -> Entries:
        rows, columns = np.nonzero(self.matrix)
        return rows, columns, self.matrix[rows, columns]

    def __call__(self, x: Float) -> Float:
        return x @ self.matrix.T

    def adjoint(self, y: Float) -> Float:
        return y @ self.matrix


@dataclass(frozen=True, eq=False)
class Layer:
    """``x ↦ φ(A x + b)``; φ is the identity in the output layer.

    Attributes
    ----------
    operator : LinearOperator
        A.
    bias : ndarray, shape (n_outputs,)
        b, read-only.
    activation : Activation
        φ, of the first units.
    carried : int
        The last units of the layer are handed on as they are, ``(A x + b)_j``: what a skip connection takes past φ.
    reached : pair of ndarray, shape (n_outputs,), or None
        Lowest and highest slopes that the units have where something is claimed, if that is not everywhere.
    """

    operator: LinearOperator
    bias: Float
    activation: Activation
    carried: int = 0
    reached: tuple[Float, Float] | None = None

    @property
    def n_bending(self) -> int:
        """Units that φ acts on."""
        return self.operator.n_outputs - self.carried

    def preactivations(self, x: Float) -> Float:
        """``A x + b`` for every row of x."""
        return self.operator(x) + self.bias

    def activated(self, z: Float) -> Float:
        """φ(z) of the units that it acts on, z of those carried; z has the units in its last dimension."""
        return self._by_part(self.activation, lambda rest: rest, z)

    def derivative(self, z: Float) -> Float:
        """φ'(z), elementwise, and 1 for the units that are carried; on a kink that of the piece to the right."""
        return self._by_part(self.activation.derivative, np.ones_like, z)

    def _by_part(self, bending: Callable[[Float], Float], carried: Callable[[Float], Float], z: Float) -> Float:
        if not self.carried:
            return bending(z)
        n = self.n_bending
        return np.concatenate([bending(z[..., :n]), carried(z[..., n:])], axis=-1)

    def __call__(self, x: Float) -> Float:
        return self.activated(self.preactivations(x))

    @property
    def unit_slopes(self) -> tuple[Float, Float]:
        """Lowest and highest slopes of the units, each (n_outputs,)."""
        if self.reached is not None:
            return self.reached
        low, high = np.ones(self.operator.n_outputs), np.ones(self.operator.n_outputs)
        low[: self.n_bending], high[: self.n_bending] = self.activation.slopes
        return low, high

    @property
    def bends(self) -> NDArray[np.bool_]:
        """The units (n_outputs,) whose slope is not known: those that a proof has multipliers of."""
        low, high = self.unit_slopes
        return np.asarray(low < high)

    @property
    def steepest(self) -> float:
        """The largest size of a slope of a unit."""
        return max(*map(abs, self.activation.slopes), 1.0 if self.carried else 0.0)


def read_only(array: Float) -> Float:
    """``array``, which is the caller's own, with -0.0 made 0.0 (equal networks have equal digests) and locked."""
    array += 0.0
    array.flags.writeable = False
    return array


def dense(W: Float, b: Float, activation: Activation) -> Layer:
    """A dense layer of arrays that the caller owns and has checked."""
    return Layer(Dense(read_only(W)), read_only(np.asarray(b)), activation)
