"""L-BFGS with a weak Wolfe bisection, which also serves across kinks (Lewis and Overton 2013)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from certnet.core.validation import Float
from certnet.kernels.curvature import two_loops
from certnet.solvers.watch import Watch

__all__ = ["MEMORY", "Allowance", "quasi_newton"]

MEMORY = 50  # pairs of the method
_CONVERGED = 1e-12  # predicted relative decrease at which it ends at once
_HISTORY = 50  # iterations over which it may stall

Objective = Callable[[Float], tuple[float, Float]]
"""A value and its gradient."""


@dataclass
class Allowance:
    """Iterations that are left, over several calls, and a watch."""

    watch: Watch
    iterations: int

    @property
    def spent(self) -> bool:
        return self.iterations <= 0 or self.watch.verdict is not None


class _Pairs:
    """Steps and turns of the gradient, the last so many."""

    def __init__(self, n: int) -> None:
        self._steps, self._turns = np.empty((MEMORY, n)), np.empty((MEMORY, n))
        self._inverses, self.count = np.empty(MEMORY), 0

    def append(self, step: Float, turn: Float, inverse: float) -> None:
        at = self.count % MEMORY
        self._steps[at], self._turns[at], self._inverses[at] = step, turn, inverse
        self.count += 1

    def direction(self, gradient: Float) -> Float:
        """The quasi-Newton direction; a short step down at first."""
        if self.count == 0:
            return gradient * (-0.1 / max(float(np.linalg.norm(gradient)), 1e-300))
        q = -gradient
        two_loops(q, self._steps, self._turns, self._inverses, self.count)
        return q


def quasi_newton(f: Objective, x: Float, stall: float, allowance: Allowance) -> Float:
    """L-BFGS with a weak Wolfe bisection, which also serves across kinks (Lewis and Overton 2013)."""
    value, gradient = f(x)
    pairs = _Pairs(len(x))
    history: deque[float] = deque([value], maxlen=_HISTORY)
    while not allowance.spent:
        allowance.iterations -= 1
        direction = pairs.direction(gradient)
        slope = float(direction @ gradient)
        if pairs.count and -_CONVERGED * abs(value) < slope < 0.0:
            break
        length = _weak_wolfe(f, x, direction, value, slope, allowance) if slope < 0.0 else None
        if length is None:
            if not pairs.count:
                break
            pairs.count = 0
            continue
        step, value, new = length
        moved, turn = step * direction, new - gradient
        curvature = float(moved @ turn)
        if curvature > 1e-14 * float(np.linalg.norm(moved) * np.linalg.norm(turn)):
            pairs.append(moved, turn, 1.0 / curvature)
        x, gradient = x + moved, new
        if len(history) == _HISTORY and history[0] - value < stall * abs(value):
            break
        history.append(value)
    return x


def _weak_wolfe(
    f: Objective,
    x: Float,
    direction: Float,
    value: float,
    slope: float,
    allowance: Allowance,
) -> tuple[float, float, Float] | None:
    """A step with its value and gradient: lower, and where it can be found in time no longer so steep; or None."""
    low, high, length = 0.0, np.inf, 1.0
    found = None
    for _ in range(30):
        there, gradient = f(x + length * direction)
        if not there <= value + 1e-4 * length * slope:
            high = length
        else:
            found = (length, there, gradient)
            if float(gradient @ direction) >= 0.9 * slope:
                break
            low = length
        length = 2.0 * low if high == np.inf else 0.5 * (low + high)
        if allowance.watch.expired:
            break
    return found
