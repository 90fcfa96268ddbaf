"""A layer: a linear operator, a bias, and an activation with the interval of its slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from certnet.core.validation import Float
from certnet.networks.activations import Activation

__all__ = ["Dense", "Layer", "LinearOperator", "dense", "read_only"]


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
        φ.
    """

    operator: LinearOperator
    bias: Float
    activation: Activation

    def preactivations(self, x: Float) -> Float:
        """``A x + b`` for every row of x."""
        return self.operator(x) + self.bias

    def __call__(self, x: Float) -> Float:
        return self.activation(self.preactivations(x))

    @property
    def steepest(self) -> float:
        """The largest size of a slope of φ."""
        return max(map(abs, self.activation.slopes))


def read_only(array: Float) -> Float:
    """``array``, which is the caller's own, with -0.0 made 0.0 (equal networks have equal digests) and locked."""
    array += 0.0
    array.flags.writeable = False
    return array


def dense(W: Float, b: Float, activation: Activation) -> Layer:
    """A dense layer of arrays that the caller owns and has checked."""
    return Layer(Dense(read_only(W)), read_only(np.asarray(b)), activation)
