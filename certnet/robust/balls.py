"""The sets that a perturbation is confined to: unit balls of the l2 and the l∞ norm, one row per sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float, one_of

__all__ = ["BALLS", "Ball", "L2Ball", "LinfBall", "admissible", "ball_of"]

_ULP: Final = 2.0**-52


class Ball(ABC):
    """The unit ball ``{u ∈ R^d : ‖u‖ ≤ 1}`` of a norm; arrays hold one vector per row, shape (n, d)."""

    @abstractmethod
    def sample(self, generator: np.random.Generator, n: int, d: int) -> Float:
        """Draw n points uniformly from the ball."""

    @abstractmethod
    def steepest(self, gradient: Float) -> Float:
        """``argmax {<gradient, u> : ‖u‖ ≤ 1}`` per row; zero where the gradient is zero."""

    @abstractmethod
    def project(self, u: Float) -> Float:
        """The nearest points (in l2) of the ball."""

    @abstractmethod
    def exceeds(self, delta: Float, radius: float) -> NDArray[np.bool_]:
        """Where the floating-point ``delta`` is too long, as a mask (n, 1) of rows or (n, d) of entries."""

    @abstractmethod
    def l2_radius(self, d: int) -> float:
        """``max {‖u‖_2 : ‖u‖ ≤ 1}``, by which an l2 Lipschitz constant is multiplied."""


@final
class L2Ball(Ball):
    """``‖u‖_2 ≤ 1``."""

    def sample(self, generator: np.random.Generator, n: int, d: int) -> Float:
        direction = self.steepest(generator.standard_normal((n, d)))
        return direction * generator.random((n, 1)) ** (1.0 / d)

    def steepest(self, gradient: Float) -> Float:
        # divided by the largest entry first: squares of tiny or huge gradients would under- or overflow
        largest = np.max(np.abs(gradient), axis=1, keepdims=True)
        scaled = gradient / np.where(largest > 0.0, largest, 1.0)
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        return scaled / np.where(length > 0.0, length, 1.0)

    def project(self, u: Float) -> Float:
        # aimed a little inside, so that rounding seldom leaves the ball
        inside = 1.0 - (2 * u.shape[1] + 16) * _ULP
        length = np.linalg.norm(u, axis=1, keepdims=True)
        return u * np.minimum(1.0, inside / np.maximum(length, inside))

    def exceeds(self, delta: Float, radius: float) -> NDArray[np.bool_]:
        # the margin covers the rounding of a norm summed in any order
        limit = 1.0 - (delta.shape[1] + 8) * _ULP
        return np.asarray(np.linalg.norm(delta / radius, axis=1, keepdims=True) > limit)

    def l2_radius(self, d: int) -> float:
        return 1.0


@final
class LinfBall(Ball):
    """``max_k |u_k| ≤ 1``."""

    def sample(self, generator: np.random.Generator, n: int, d: int) -> Float:
        return generator.uniform(-1.0, 1.0, (n, d))

    def steepest(self, gradient: Float) -> Float:
        return np.sign(gradient)

    def project(self, u: Float) -> Float:
        return np.clip(u, -1.0, 1.0)

    def exceeds(self, delta: Float, radius: float) -> NDArray[np.bool_]:
        return np.abs(delta) > radius

    def l2_radius(self, d: int) -> float:
        return float(np.sqrt(d))


BALLS: Final[Mapping[str, Ball]] = MappingProxyType({"l2": L2Ball(), "linf": LinfBall()})
"""The balls by the name of their norm."""


def ball_of(norm: str) -> Ball:
    """The unit ball of a norm given by name.

    Raises
    ------
    InvalidInputError
        The norm is neither ``"l2"`` nor ``"linf"``.
    """
    return BALLS[one_of(norm, "norm", tuple(BALLS))]


def admissible(ball: Ball, X: Float, u: Float, radius: float) -> tuple[Float, Float]:
    """Points ``Z = X + radius · u`` whose floating-point difference ``Z − X`` is no longer than the radius.

    Adding δ to x rounds, and the rounded point may lie outside. Offenders are shrunk, by 4^k units in the last
    place in round k, until the difference that a reader of Z and X would compute is admissible; the last round
    shrinks to nothing.

    Returns
    -------
    Z, u : ndarray, shape (n, d)
        The points and the directions after shrinking.
    """
    with np.errstate(over="ignore"):  # an infinite point is outside too
        Z = X + radius * u
        for k in range(27):
            outside = ball.exceeds(Z - X, radius)
            if not outside.any():
                break
            u = np.where(outside, u * (1.0 - 4.0**k * _ULP), u)
            Z = X + radius * u
    return Z, u
