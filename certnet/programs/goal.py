"""What is minimised: a weighted sum of error and penalty, or one of the two with the other below a limit.

A goal speaks of a fit (the mean squared error), a penalty and a bound on the slope, whether of a point of a program or
of a certified network.
"""

from __future__ import annotations

from dataclasses import dataclass

from certnet.core.errors import InvalidInputError
from certnet.core.validation import positive_number

__all__ = ["FitAtMost", "Goal", "SlopeAtMost", "Weighted", "chosen_goal"]


@dataclass(frozen=True)
class Weighted:
    """Minimise ``fit + weight · penalty``."""

    weight: float

    def objective(self, fit: float, penalty: float) -> float:
        return fit + self.weight * penalty

    def met(self, fit: float, slope: float) -> bool:
        """Whether the limit is kept; there is none."""
        return True


@dataclass(frozen=True)
class SlopeAtMost:
    """Minimise the fit with ``L ≤ limit``, that is ``ρ ≤ limit²``."""

    limit: float

    @property
    def rho(self) -> float:
        return self.limit * self.limit

    def objective(self, fit: float, penalty: float) -> float:
        return fit

    def met(self, fit: float, slope: float) -> bool:
        """Whether the bound ``slope`` on L is within the limit."""
        return slope <= self.limit


@dataclass(frozen=True)
class FitAtMost:
    """Minimise ρ with ``fit ≤ limit``; a search over weights tries ``trial`` first, if it is positive."""

    limit: float
    trial: float = 0.0

    def objective(self, fit: float, penalty: float) -> float:
        return penalty

    def met(self, fit: float, slope: float) -> bool:
        """Whether the fit is within the limit."""
        return fit <= self.limit


Goal = Weighted | SlopeAtMost | FitAtMost


def chosen_goal(weight: float, target_lipschitz: float | None, max_mse: float | None) -> Goal:
    """The goal of three public parameters.

    Raises
    ------
    InvalidInputError
        Numbers out of range, or two goals at once.
    """
    weight = positive_number(weight, "weight", zero=True)
    if target_lipschitz is not None:
        target_lipschitz = positive_number(target_lipschitz, "target_lipschitz", zero=True)
    if max_mse is not None:
        max_mse = positive_number(max_mse, "max_mse", zero=True)
    if target_lipschitz is not None and max_mse is not None:
        raise InvalidInputError("target_lipschitz and max_mse are two goals: give one of them")
    if target_lipschitz is not None:
        return SlopeAtMost(target_lipschitz)
    return Weighted(weight) if max_mse is None else FitAtMost(max_mse, weight)
