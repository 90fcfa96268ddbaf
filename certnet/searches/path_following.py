r"""Newton's method along the central path of a barrier: one piece for every search that minimises a linear cost.

F_τ(x) = τ c(x) − log det S(x) …,   the minimiser for τ tends to the optimum as τ → ∞
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from certnet.core.validation import Float

__all__ = ["Barrier", "Centring", "centre"]

_ARMIJO = 0.1  # part of the promised decrease that a step must bring


class Barrier(Protocol):
    """F_τ as a function of x and the weight τ."""

    def value(self, x: Float, weight: float) -> float:
        """F_τ(x); infinite outside of its domain."""
        ...

    def newton(self, x: Float, weight: float) -> tuple[Float, float]:
        """The Newton step and the squared decrement.

        Raises
        ------
        numpy.linalg.LinAlgError, ValueError
            There is none in floating point.
        """
        ...

    def longest(self, step: Float) -> float:
        """The largest multiple of a step, at most 1, to begin with."""
        ...


@dataclass(frozen=True)
class Centring:
    """When a point counts as central.

    Attributes
    ----------
    near : float
        Squared Newton decrement from which on it does.
    tolerated : float
        The same where rounding lets no step decrease F any more.
    shortest : float
        Multiple of a step below which rounding has taken over.
    last_step : bool
        Whether the step of a central point is taken too.
    """

    near: float
    tolerated: float
    shortest: float
    last_step: bool = False


def centre(barrier: Barrier, x: Float, weight: float, limit: int, how: Centring) -> tuple[Float, int, bool]:
    """Damped Newton steps towards the minimiser for ``weight``; how many, and whether it was reached."""
    for count in range(1, limit + 1):
        try:
            step, decrement = barrier.newton(x, weight)
        except (np.linalg.LinAlgError, ValueError):
            return x, count, False
        if not np.isfinite(step).all() or not decrement >= 0.0:
            return x, count, False
        if decrement <= how.near:
            whole = x + step
            return (whole if how.last_step and np.isfinite(barrier.value(whole, weight)) else x), count, True
        # Armijo: halve until F falls by a part of what the decrement promises
        here, length = barrier.value(x, weight), barrier.longest(step)
        while not barrier.value(x + length * step, weight) <= here - _ARMIJO * length * decrement:
            length *= 0.5
            if length < how.shortest:
                return x, count, decrement <= how.tolerated
        x = x + length * step
    return x, limit, False
