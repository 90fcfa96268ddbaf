"""Affine maps of features as values, and a first layer pulled back through them: NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from certnet.core.validation import Float

__all__ = ["AffineMap", "Chain", "Constant", "Matrix", "Parallel", "Part", "Scaling", "Selection"]


@dataclass(frozen=True, eq=False)
class Scaling:
    """``x ↦ (x − shift) / scale``, both of shape (d,)."""

    shift: Float
    scale: Float

    def pull(self, W: Float, b: Float) -> tuple[Float, Float]:
        W = W / self.scale
        return W, b - W @ self.shift


@dataclass(frozen=True, eq=False)
class Matrix:
    """``x ↦ (A x − shift) / scale``, A of shape (k, d), shift and scale of shape (k,)."""

    A: Float
    shift: Float
    scale: Float

    def pull(self, W: Float, b: Float) -> tuple[Float, Float]:
        W = W / self.scale
        return W @ self.A, b - W @ self.shift


@dataclass(frozen=True, eq=False)
class Selection:
    """``x ↦ x[columns]`` of d inputs."""

    columns: tuple[int, ...]
    d: int

    def pull(self, W: Float, b: Float) -> tuple[Float, Float]:
        wide = np.zeros((len(W), self.d))
        wide[:, list(self.columns)] = W
        return wide, b


@dataclass(frozen=True, eq=False)
class Constant:
    """``x ↦ value``, shape (k,), whatever the d inputs are."""

    value: Float
    d: int

    def pull(self, W: Float, b: Float) -> tuple[Float, Float]:
        return np.zeros((len(W), self.d)), b + W @ self.value


@dataclass(frozen=True, eq=False)
class Chain:
    """One map after another; none of them is the identity."""

    maps: tuple[AffineMap, ...] = ()

    def pull(self, W: Float, b: Float) -> tuple[Float, Float]:
        return reduce(lambda layer, step: step.pull(*layer), reversed(self.maps), (W, b))


@dataclass(frozen=True, eq=False)
class Part:
    """``weight · map(x[columns])``, the entries from ``start`` to ``stop`` of a :class:`Parallel`."""

    columns: tuple[int, ...]
    start: int
    stop: int
    map: AffineMap
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Parallel:
    """The parts one beside the other, of d inputs."""

    parts: Sequence[Part]
    d: int

    def pull(self, W: Float, b: Float) -> tuple[Float, Float]:
        wide = np.zeros((len(W), self.d))
        for part in self.parts:
            pulled, b = part.map.pull(part.weight * W[:, part.start : part.stop], b)
            np.add.at(wide.T, list(part.columns), pulled.T)  # a column may be named twice
        return wide, b


AffineMap = Scaling | Matrix | Selection | Constant | Chain | Parallel
"""``pull`` turns ``(W, b)`` into ``(W', b')`` with ``W' x + b' = W map(x) + b``."""
