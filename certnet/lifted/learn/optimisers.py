r"""Steps of stochastic gradient methods on one flat vector, in place.

    sgd    v ← momentum · v + g,   θ ← θ − rate · v
    adam   m ← β₁ m + (1 − β₁) g,  s ← β₂ s + (1 − β₂) g²,  θ ← θ − rate · m̂ / (√ŝ + ε)      (Kingma and Ba 2015)

Learning rates: as γ → 0, ``γ^{−(L−1)}`` times the gradient of the contrastive loss tends to that of
``½ ‖z_L − y‖²`` by back-propagation (Zach and Estellers 2019, (28)), so that rates relate by
``rate_energy = rate_backpropagation · γ^{−(L−1)}``. Adam divides the scale of the gradient out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from scipy.linalg.blas import daxpy

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float

__all__ = ["OPTIMISERS", "SCHEDULES", "Optimiser", "rate_factor"]

OPTIMISERS: Final = ("sgd", "adam")
SCHEDULES: Final = ("constant", "linear", "cosine")

_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-10
"""Adam's constants; ε is small because gradients of contrastive losses are, by γ^{L−1}."""


def rate_factor(schedule: str, progress: float) -> float:
    """The learning rate's factor after a share of all epochs, from 0 to 1: 1, ``1 − t``, or ``½ (1 + cos πt)``."""
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0


@dataclass
class Optimiser:
    """An optimiser's memory: what a checkpoint has to keep.

    Attributes
    ----------
    kind : {"sgd", "adam"}
    momentum : float
        Of sgd.
    slow : tuple of ndarray
        Momentum, or Adam's two moments; empty for plain sgd.
    steps : int
    """

    kind: str
    momentum: float
    slow: tuple[Float, ...]
    steps: int = 0

    @classmethod
    def fresh(cls, kind: str, momentum: float, size: int) -> Self:
        """One that has made no step, for a vector of that length.

        Raises
        ------
        InvalidInputError
            Another kind, or a momentum outside of [0, 1).
        """
        if kind not in OPTIMISERS:
            raise InvalidInputError(f"optimizer is {kind!r}: one of {', '.join(OPTIMISERS)}")
        if not 0.0 <= momentum < 1.0:
            raise InvalidInputError(f"momentum is {momentum!r}: a number from 0 to below 1 is needed")
        count = 2 if kind == "adam" else int(momentum > 0.0)
        return cls(kind, momentum, tuple(np.zeros(size) for _ in range(count)))

    @property
    def is_plain(self) -> bool:
        """Is a step −rate times the gradient, and nothing else?"""
        return self.kind == "sgd" and not self.slow

    def step(self, theta: Float, gradient: Float, rate: float) -> None:
        """Move ``theta`` (contiguous) in place; ``gradient`` may be overwritten."""
        self.steps += 1
        if self.kind == "adam":
            self._adam(theta, gradient, rate)
            return
        if self.slow:
            velocity = self.slow[0]
            velocity *= self.momentum
            velocity += gradient
            gradient = velocity
        daxpy(gradient, theta, a=-rate)  # in place

    def _adam(self, theta: Float, gradient: Float, rate: float) -> None:
        mean, square = self.slow
        mean *= _FIRST
        mean += (1.0 - _FIRST) * gradient
        square *= _SECOND
        np.square(gradient, out=gradient)
        gradient *= 1.0 - _SECOND
        square += gradient
        np.sqrt(square, out=gradient)
        gradient *= 1.0 / math.sqrt(1.0 - _SECOND**self.steps)
        gradient += _EPSILON
        np.divide(mean, gradient, out=gradient)
        gradient *= rate / (1.0 - _FIRST**self.steps)
        theta -= gradient

    def arrays(self) -> dict[str, Float]:
        """What to keep, by name."""
        return {f"slow{i}": array for i, array in enumerate(self.slow)} | {"steps": np.array(float(self.steps))}

    def restored(self, file: Mapping[str, Float]) -> None:
        """Take the state that :meth:`arrays` gave, of the same kind."""
        for i, array in enumerate(self.slow):
            array[:] = file[f"slow{i}"]
        self.steps = int(file["steps"])
