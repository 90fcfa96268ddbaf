r"""Errors under random noise of the inputs, and what a Lipschitz bound allows them to be.

    x̃_i = x_i + η (x_max − x_min) ∘ u_i,   u_i uniform on [0, 1]^d

C, section 3, prints ``x_max − x_max``, which is zero and would leave nothing to measure; his next line defines x_min,
so ``x_max − x_min`` is meant. Since u is not centred, every input moves upwards, by η/2 of its range on average.
For every draw ``|f(x̃_i) − y_i| ≤ |f(x_i) − y_i| + L ‖x̃_i − x_i‖``, whose mean bounds the mean absolute error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward

__all__ = ["Noise", "NoiseErrors", "noise_errors"]


@dataclass(frozen=True, eq=False)
class Noise:
    """Draws of noise, the same for all levels and networks.

    Attributes
    ----------
    span : ndarray, shape (d,)
        ``x_max − x_min`` of the training part, in the units of the inputs.
    levels : tuple of float
        η.
    draws, seed : int
    """

    span: Float
    levels: tuple[float, ...]
    draws: int
    seed: int

    def shifts(self, n: int) -> Float:
        """``(x_max − x_min) ∘ u`` for n samples, shape (draws, n, d)."""
        return self.span * np.random.default_rng(self.seed).uniform(size=(self.draws, n, len(self.span)))


@dataclass(frozen=True)
class NoiseErrors:
    """Means over samples and draws by level, in the units of the target (``mse``: squared).

    Attributes
    ----------
    mae, mse : mapping of str to float
        ``|f(x̃) − y|`` and its square.
    mae_certified : mapping of str to float
        Upper bound of ``mae``; empty without a Lipschitz bound.
    """

    mae: Mapping[str, float]
    mse: Mapping[str, float]
    mae_certified: Mapping[str, float]

    @property
    def violation(self) -> str:
        """Why the Lipschitz bound cannot be one, or ""."""
        for level, allowed in self.mae_certified.items():
            if allowed < self.mae[level] * (1.0 - 1e-9):
                return (
                    f"the error {self.mae[level]:.9g} at noise level {level} is above {allowed:.9g}, which the "
                    "certificate allows: the certificate is wrong, please report it"
                )
        return ""


def noise_errors(network: FeedForward, X: Float, y: Float, noise: Noise, upper: float | None = None) -> NoiseErrors:
    """Errors of one output at every level; ``upper`` is a bound of the Lipschitz constant in the l2 norm."""
    shifts = noise.shifts(len(X))
    clean = float(np.mean(np.abs(network.predict(X).reshape(-1) - y)))
    length = float(np.mean(np.linalg.norm(shifts, axis=2)))
    mae, mse, certified = {}, {}, {}
    for eta in noise.levels:
        moved = (X + eta * shifts).reshape(-1, X.shape[1])
        residuals = network.predict(moved).reshape(shifts.shape[:2]) - y
        name = f"{eta:g}"
        mae[name], mse[name] = float(np.mean(np.abs(residuals))), float(np.mean(residuals**2))
        if upper is not None:
            certified[name] = clean + upper * eta * length
    return NoiseErrors(mae, mse, certified)
