r"""The error of a network of any depth on a table, and its gradient by back-propagation: sums over blocks of rows.

Kinks of ReLU and leaky ReLU are bent within ±δ: ``φ_δ(z) = α z + (1 − α)(z + δ)² / 4δ`` there, with the slope α left of
zero, so that slopes stay where they were. Other activations are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from certnet.core.validation import Float
from certnet.kernels.bend import bend_kinks
from certnet.networks.activations import Activation
from certnet.programs.loss import Loss
from certnet.rows.block import Block
from certnet.rows.sums import Part, Sums

__all__ = ["Bend", "Fit", "left_slope"]


def left_slope(phi: Activation) -> float | None:
    """The slope left of zero of ReLU and leaky ReLU, whose slope on the right is 1; None for other activations."""
    if phi.name == "relu":
        return 0.0
    return phi.parameters[0] if phi.name == "leaky_relu" else None


@dataclass(frozen=True)
class Bend:
    """An activation whose kink at zero is bent where it has one."""

    phi: Activation

    def __call__(self, a: Float, b: Float, delta: float) -> tuple[Float, Float]:
        """φ_δ(a + b) and its slopes, for a (N, n), which may be overwritten, and b (n,)."""
        left = left_slope(self.phi)
        if left is None:
            a += b
            return self.phi(a), self.phi.derivative(a)
        out = np.empty_like(a)
        bend_kinks(a, np.ascontiguousarray(b), left, delta, out)  # one layout: compiled once
        return out, a


@dataclass(frozen=True, eq=False)
class _Part:
    """What a block of rows adds to the error and its gradients: ``(value, to W_0, to b_0, …)``."""

    weights: Sequence[Float]
    biases: Sequence[Float]
    bends: tuple[Bend, ...]
    loss: Loss
    delta: float

    def __call__(self, block: Block) -> tuple[float | Float, ...]:
        inputs, slopes = [block.X], []
        for W, b, phi in zip(self.weights, self.biases, self.bends):
            value, slope = phi(inputs[-1] @ W.T, b, self.delta)
            inputs.append(value)
            slopes.append(slope)
        residual = inputs[-1] @ self.weights[-1].T
        residual += self.biases[-1] - block.y
        back = self.loss.gradient(residual, block.shares)
        parts: list[float | Float] = []
        for k in reversed(range(len(self.weights))):
            parts += [back.sum(axis=0), back.T @ inputs[k]]
            if k > 0:
                back = back @ self.weights[k]
                back *= slopes[k - 1]
        return (self.loss.value(residual, block.shares), *reversed(parts))


class Table(Protocol):
    """What sums are taken over."""

    def total(self, part: Part) -> Sums: ...


@dataclass(frozen=True, eq=False)
class Fit:
    """The error on a table.

    Attributes
    ----------
    rows : Table
    bends : tuple of Bend
        Of the hidden layers.
    loss : Loss
    spread : float
        Added to the value: what no network can avoid, where rows that repeat were merged.
    """

    rows: Table
    bends: tuple[Bend, ...]
    loss: Loss
    spread: float = 0.0

    def __call__(
        self, weights: Sequence[Float], biases: Sequence[Float], delta: float
    ) -> tuple[float, list[Float], list[Float]]:
        """``Σ_i s_i φ(f_δ(x_i) − y_i)``, and its gradients in every W_k and b_k."""
        value, *gradients = self.rows.total(_Part(weights, biases, self.bends, self.loss, delta))
        return float(value) + self.spread, list(gradients[::2]), list(gradients[1::2])
